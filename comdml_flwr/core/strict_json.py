"""JSON as everybody reads it: NaN and infinity, which JSON does not have, are null.

What is read is bounded, too: whatever a file or a peer holds, it is a value that can be printed, or one line.
"""

import json
from math import isfinite
from pathlib import Path

from comdml_flwr.core.typed_json import Json

DEEPEST = 64
"""How many lists and tables may lie in each other; ours have 10. Python's own bound is no error of JSON."""
_MOST_DIGITS = 20  # of a whole number: all of 64 bits


def to_json(value: object, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """Return a value as strict JSON.

    Parameters
    ----------
    value : object
        What `json.dumps` takes; a float that is not finite becomes null.
    indent, ensure_ascii
        As in `json.dumps`.

    Examples
    --------
    >>> to_json({"loss": float("nan"), "bounds": [1.5, float("inf")]})
    '{"loss": null, "bounds": [1.5, null]}'
    """
    try:
        return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)
    except ValueError:
        strict = _without_not_finite(value)
        return json.dumps(strict, indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def from_json(text: str) -> Json:
    """Return the value of a text.

    Raises
    ------
    ValueError
        In one line: it is no JSON, is nested too deeply, or holds half a character or a whole number of
        more than 64 bits.

    Examples
    --------
    >>> from_json("[" * 100 + "]" * 100)
    Traceback (most recent call last):
    ValueError: more than 64 lists and tables in each other
    """
    try:
        value: Json = json.loads(text, parse_int=_read_int)
    except RecursionError:
        raise ValueError(f"more than {DEEPEST} lists and tables in each other") from None
    _check_depth(value)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair cannot be written anywhere
    return value


def read_json_file(path: Path) -> Json:
    """Return the value that a file holds. Raises OSError, or ValueError as `from_json` does."""
    return from_json(path.read_text("utf-8-sig"))


def _read_int(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"{digits[:_MOST_DIGITS]}... is a number of {len(digits)} digits")
    return int(digits)


def _check_depth(value: Json) -> None:
    level: list[Json] = [value]
    for _ in range(DEEPEST + 1):
        tables = [item for item in level if isinstance(item, dict | list)]
        if not tables:
            return
        level = [inner for item in tables for inner in (item.values() if isinstance(item, dict) else item)]
    raise ValueError(f"more than {DEEPEST} lists and tables in each other")


def _without_not_finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_not_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_not_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
