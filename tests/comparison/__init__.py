"""Reading a comparison and reporting it."""
