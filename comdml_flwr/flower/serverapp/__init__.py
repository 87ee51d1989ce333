"""What runs in Flower's ServerApp."""
