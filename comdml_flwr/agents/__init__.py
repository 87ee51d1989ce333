"""One agent: what is set up for it, what it keeps, and how its state lies on disk."""
