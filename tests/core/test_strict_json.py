"""Whatever is written as JSON is JSON: NaN and infinity are null, all else is as `json.dumps` has it."""

import json
import re
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comdml_flwr.core.strict_json import from_json, to_json

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner), max_leaves=8
)


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


@given(values)
def test_every_value_can_be_read_by_a_strict_reader(value):
    assert json.loads(to_json(value), parse_constant=refuse) == json.loads(
        json.dumps(value), parse_constant=lambda constant: None
    )


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_what_is_not_finite_is_null_however_deep_it_lies(value):
    assert json.loads(to_json({"a": [{"b": (1.5, value)}]})) == {"a": [{"b": [1.5, None]}]}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 65 + "]" * 65,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '["\\ud800"]',
        "[123456789012345678901]",
        "[" + "9" * 5000 + "]",
        "[1",
        "",
        "\ufeff[]",
    ],
    ids=[
        "deep",
        "deeper",
        "tables",
        "half a character",
        "21 digits",
        "many digits",
        "torn",
        "empty",
        "a mark",
    ],
)
def test_what_cannot_be_printed_or_walked_through_is_one_line(text):
    with pytest.raises(ValueError, match=r"^.{1,200}$"):
        from_json(text)


@given(values)
def test_what_was_written_is_read(value):
    try:
        text = to_json(value)
    except ValueError:
        return
    if not any(len(word.strip("-")) > 20 for word in re.findall(r"-?\d+", text)):
        assert from_json(text) == json.loads(text)
