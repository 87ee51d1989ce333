"""A model of one's own, on data that each node alone has."""
