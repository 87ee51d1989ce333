"""One file per training method: a round as a tuple of phases."""
