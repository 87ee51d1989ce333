"""Bounds of numbers that peers and other processes tell."""

from comdml_flwr.core.errors import short_repr

LONGEST_S = 1e9  # thirty years: no round takes longer, by whichever clock


def wrong_number(name: str, value: float, least: float, most: float) -> str:
    """Tell what is wrong with a number that must be within bounds; NaN is within none."""
    return "" if least <= value <= most else f"{name} is {short_repr(value)}, not from {least:g} to {most:g}"
