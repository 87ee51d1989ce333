"""Changes to files that no run writes: another type, value, length or nesting, and torn or foreign bytes."""

import copy
import json

from comdml_flwr.core.errors import ComdmlError

DEEP = "[" * 5000 + "]" * 5000
ODD = [
    None, True, 0, -1, 1, 2**63, 1.5, -0.0, 1e300, float("nan"), float("inf"),
    "", "0", "NaN", "a" * 300, "\0", "\ud800",
    "../../x", "é\u2028", [], [[]], [None], {}, {"": None}, {"a": {"b": [1]}}, [[0, 1], [2]], ["a", 1, {}],
]  # fmt: skip
"""Values in place of others."""


def changed_value(value, rng):
    """Return a value of JSON with one thing in it changed, wherever it is."""
    value = copy.deepcopy(value)
    places = [(holder, key) for holder in _holders(value) for key in _keys(holder)]
    if not places or rng.random() < 0.05:
        return rng.choice(ODD)
    holder, key = rng.choice(places)
    what = rng.randrange(6)
    if what == 0:
        del holder[key]
    elif what == 1:
        holder[key] = [holder[key]]
    elif what == 2 and isinstance(holder[key], int | float):
        holder[key] = rng.choice([-holder[key], holder[key] * 10**6, holder[key] + 1, 10**19])
    elif what == 3 and isinstance(holder[key], list | str):
        holder[key] = holder[key] * 3 if rng.random() < 0.5 else holder[key][: len(holder[key]) // 2]
    elif what == 4 and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    else:
        holder[key] = copy.deepcopy(rng.choice(ODD))
    return value


def changed_bytes(blob, rng):
    """Return bytes with something torn, swapped, foreign, or nested deeper than anybody reads."""
    place = rng.randrange(len(blob) + 1)
    what = rng.randrange(7)
    if what == 0:
        return blob[:place]
    if what == 1:
        return blob[:place] + bytes([rng.randrange(256)]) + blob[place + 1 :]
    if what == 2:
        return blob[:place] + DEEP.encode() + blob[place:]
    if what == 3:
        return DEEP.encode()
    if what == 4:
        return b"\xff\xfe" + blob
    if what == 5:
        return blob[:place] + b"9" * 5000 + blob[place:]
    return b'{"a":' * 2000 + b"1" + b"}" * 2000


def went_well_or_one_line(call):
    """Tell whether something went well; what did not must have been told in one line."""
    try:
        call()
    except ComdmlError as told:
        line = str(told)
    else:
        return True
    assert "\n" not in line
    assert len(line) < 2000, line
    return False


def text_of(value):
    """Return JSON as lenient writers have it, with NaN."""
    return json.dumps(value, indent=2)


def _holders(value):
    if isinstance(value, dict | list):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _holders(inner)


def _keys(holder):
    return list(holder) if isinstance(holder, dict) else range(len(holder))
