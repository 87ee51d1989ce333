"""Experiments that stand on the library: fleets, figures."""
