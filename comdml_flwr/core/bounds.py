"""Bounds of numbers that peers and other processes tell."""

from comdml_flwr.core.errors import InputError, short_repr

LONGEST_S = 1e9  # thirty years: no round takes longer, by whichever clock


def wrong_number(name: str, value: float, least: float, most: float) -> str:
    """Tell what is wrong with a number that must be within bounds; NaN is within none."""
    return "" if least <= value <= most else f"{name} is {short_repr(value)}, not from {least:g} to {most:g}"


def check_whole(value: object, field: str, *, least: int) -> None:
    """Refuse what is no whole number, or less than `least`.

    Raises
    ------
    InputError
        It names `field`.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(field, value, f"must be a whole number, at least {least}")
