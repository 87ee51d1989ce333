"""What pydantic finds wrong with a value, in the words of our other messages."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_TYPES: Mapping[str, str] = {
    "missing": "must be given",
    "string": "must be text",
    "bool": "must be true or false",
    "int": "must be a whole number",
    "float": "must be a number",
    "finite_number": "must be a finite number",
    "list": "must be a list",
    "dict": "must be a table",
    "model": "must be a table",
}
_BOUNDS: Mapping[str, str] = {
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
}


def broken_rule(error: "ErrorDetails") -> str:
    """Say which rule a value breaks; the sentence goes on after the value.

    Parameters
    ----------
    error : ErrorDetails
        One of a `ValidationError`'s errors.
    """
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":  # of a validator of ours
        return error["msg"].removeprefix("Value error, ")
    if kind == "too_short":
        return "must not be empty"
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(**{name: _shown(bound) for name, bound in context.items()})
    family = kind if kind in _TYPES else kind.partition("_")[0]  # as in int_type, int_parsing, int_from_float
    if family in _TYPES:
        return _TYPES[family]
    return error["msg"].replace("Input should", "must")


def first_error(errors: Iterable["ErrorDetails"]) -> "ErrorDetails":
    """Return the error to tell of: an unknown key if there is one, for which another one will be missing."""
    found = list(errors)
    return next((error for error in found if error["type"] == "extra_forbidden"), found[0])


def _shown(bound: object) -> object:
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound
