"""Tables of a TOML file: values are checked when they are taken out, and a mistake knows its place."""

from difflib import get_close_matches
from typing import TypeGuard

from comdml_flwr.core.errors import LONGEST_VALUE, InputError

LARGEST = 1e18  # number in a fleet file
_SMALLEST = 1e-18  # within these bounds no product or quotient of the cost model over- or underflows


class Table:
    """One table of the file: checks the values that are taken out of it, and knows its place for messages."""

    def __init__(self, place: str, values: object, keys: tuple[str, ...]) -> None:
        if not isinstance(values, dict):
            raise InputError(place, shown(values), "must be a table")
        self.place = place
        self.values: dict[str, object] = values
        for key in values:
            if key not in keys:
                near = get_close_matches(key, keys, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(keys)}"
                raise self.error(key, f"is not known here; {hint}")

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def where(self, key: str) -> str:
        """Return the place of a key, for messages."""
        name = key if key.isprintable() and len(key) <= LONGEST_VALUE else repr(key[:LONGEST_VALUE])
        return f"{self.place} {name}" if self.place.endswith(":") else f"{self.place}.{name}"

    def error(self, key: str, rule: str) -> InputError:
        """Return the error that the value of a key breaks a rule."""
        return InputError(self.where(key), shown(self.values.get(key)), rule)

    def number(self, key: str, *, positive: bool, default: float | None = None) -> float:
        """Take out a finite number, >= 0 or > 0."""
        value = self.values.get(key, default)
        if not is_number(value, positive=positive):
            raise self.error(key, f"must be a number {'>' if positive else '>='} 0, at most {LARGEST:g}")
        if 0 < value < _SMALLEST:
            raise self.error(key, f"must be at least {_SMALLEST:g}{'' if positive else ', or 0'}")
        return float(value)

    def whole(self, key: str, *, lowest: int, default: int | None = None) -> int:
        """Take out a whole number."""
        value = self.values.get(key, default)
        if not is_whole(value, lowest):
            raise self.error(key, f"must be a whole number >= {lowest}, at most {LARGEST:g}")
        return value

    def table(self, key: str, keys: tuple[str, ...]) -> "Table":
        """Take out a table that may have these keys."""
        return Table(self.where(key), self.values.get(key), keys)

    def tables(self, key: str, keys: tuple[str, ...]) -> list["Table"]:
        """Take out an array of tables, at least one, that may have these keys."""
        entries = self.values.get(key)
        if not isinstance(entries, list) or not entries:
            raise self.error(key, f"must be one or more [[{key}]] tables")
        return [Table(f"{self.where(key)}[{index}]", entry, keys) for index, entry in enumerate(entries)]


def is_number(value: object, *, positive: bool) -> TypeGuard[int | float]:
    """Tell whether a value is a number >= 0, or > 0, and not beyond all measure."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (value > 0 if positive else value >= 0) and value <= LARGEST  # both are false for nan


def is_whole(value: object, lowest: int) -> TypeGuard[int]:
    """Tell whether a value is a whole number from `lowest` on, and not beyond all measure."""
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= LARGEST


def shown(value: object) -> object:
    """Keep messages short: return the value itself unless it holds tables."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list) and any(isinstance(entry, dict | list) for entry in value):
        return "an array"
    return value
