"""JSON as everybody reads it: NaN and infinity, which JSON does not have, are null."""

import json
from math import isfinite


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


def _without_not_finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_not_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_not_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
