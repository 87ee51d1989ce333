"""Models, their split, local training and data; nothing here knows of peers."""
