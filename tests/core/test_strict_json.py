"""Whatever is written as JSON is JSON: NaN and infinity are null, all else is as `json.dumps` has it."""

import json
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comdml_flwr.core.strict_json import to_json

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
