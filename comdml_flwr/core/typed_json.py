"""Read the values of decoded JSON by their type."""

from collections.abc import Mapping

from comdml_flwr.core.messages import Json


def read_table(value: Json) -> dict[str, Json]:
    """Return an object of JSON as a new dictionary. Raises TypeError where the value is something else."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} is no table")
    return dict(value)


def read_int(value: Json) -> int:
    """Return a whole number. Raises TypeError where the value is something else."""
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value


def read_float(value: Json) -> float:
    """Return a number as a float. Raises TypeError where the value is something else."""
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def read_text(value: Json) -> str:
    """Return a text. Raises TypeError where the value is something else."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def read_list(value: Json) -> tuple[Json, ...]:
    """Return a list. Raises TypeError where the value is something else."""
    if not isinstance(value, list | tuple):
        raise TypeError(f"{value!r} is no list")
    return tuple(value)
