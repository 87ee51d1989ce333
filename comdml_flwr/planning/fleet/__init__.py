"""Fleets: their file, presets, topology, and how they change from round to round."""
