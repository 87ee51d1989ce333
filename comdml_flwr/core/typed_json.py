"""Read decoded JSON by type: what a peer, a file or another process says is checked where it is read.

Each reader takes a value and returns it as one type, or raises TypeError with a line that shows the value.
Truth values are no numbers here, though they are in Python. `read_as` makes a RunError of that line, with the
name of what held the value.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from comdml_flwr.core.errors import LONGEST_VALUE, RunError

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
T = TypeVar("T")


def read_as(read: Callable[[Json], T], value: Json, what: str) -> T:
    """Return what a reader makes of a value.

    Raises
    ------
    RunError
        The value is of another type; the line begins with `what`.

    Examples
    --------
    >>> read_as(read_int, "three", "round of a report")
    Traceback (most recent call last):
    comdml_flwr.core.errors.RunError: round of a report: 'three' is no whole number
    """
    try:
        return read(value)
    except TypeError as error:
        raise RunError(f"{what}: {error}") from None


def read_int(value: Json) -> int:
    """Return a whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise _no(value, "whole number")
    return value


def read_float(value: Json) -> float:
    """Return a number as a float."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _no(value, "number")
    try:
        return float(value)
    except OverflowError:  # of a whole number with hundreds of digits
        raise _no(value, "number") from None


def read_text(value: Json) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise _no(value, "text")
    return value


def read_bool(value: Json) -> bool:
    """Return a truth value."""
    if not isinstance(value, bool):
        raise _no(value, "truth value")
    return value


def read_numbers(value: Json) -> Mapping[str, Json]:
    """Return a table of numbers itself; whole ones stay whole."""
    table = as_table(value)
    for number in table.values():
        read_float(number)
    return table


def read_optional_numbers(value: Json) -> Mapping[str, Json]:
    """Return a table itself whose values are numbers or None."""
    table = as_table(value)
    read_numbers({name: number for name, number in table.items() if number is not None})
    return table


def as_table(value: Json) -> Mapping[str, Json]:
    """Return a table itself, not a copy."""
    if not isinstance(value, Mapping):
        raise _no(value, "table")
    return value


def read_table(value: Json) -> dict[str, Json]:
    """Return an object of JSON as a new dictionary."""
    return dict(as_table(value))


def read_list(value: Json) -> tuple[Json, ...]:
    """Return a list."""
    if not isinstance(value, list | tuple):
        raise _no(value, "list")
    return tuple(value)


def read_row(value: Json, length: int) -> tuple[Json, ...]:
    """Return a list of a given number of values."""
    row = read_list(value)
    if len(row) != length:
        raise _no(value, f"row of {length}")
    return row


def read_ints(value: Json) -> tuple[int, ...]:
    """Return a list of whole numbers."""
    return tuple(map(read_int, read_list(value)))


def read_texts(value: Json) -> tuple[str, ...]:
    """Return a list of texts."""
    return tuple(map(read_text, read_list(value)))


def read_floats(value: Json) -> tuple[float, ...]:
    """Return a list of numbers as floats."""
    return tuple(map(read_float, read_list(value)))


def read_pairs(value: Json) -> tuple[tuple[int, int], ...]:
    """Return a list of pairs of whole numbers."""
    rows = (map(read_int, read_row(row, 2)) for row in read_list(value))
    return tuple((one, other) for one, other in rows)


def read_triples(value: Json) -> tuple[tuple[int, int, int], ...]:
    """Return a list of triples of whole numbers."""
    rows = (map(read_int, read_row(row, 3)) for row in read_list(value))
    return tuple((one, other, third) for one, other, third in rows)


def _no(value: Json, kind: str) -> TypeError:
    return TypeError(f"{repr(value)[:LONGEST_VALUE]} is no {kind}")
