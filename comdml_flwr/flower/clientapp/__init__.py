"""What runs in Flower's ClientApp."""
