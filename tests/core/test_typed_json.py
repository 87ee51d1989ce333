"""Each reader takes values of its type and refuses all others in one line that shows the value."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comdml_flwr.core import typed_json
from comdml_flwr.core.errors import RunError

VALUES = [
    None,
    True,
    0,
    -3,
    2.5,
    "",
    "3",
    [],
    [1],
    [1, 2.5],
    ["a"],
    [[1, 2]],
    [[1, 2, 3]],
    [True],
    {},
    {"a": 1},
]
TAKES = {
    "int": [0, -3],
    "float": [0, -3, 2.5],
    "text": ["", "3"],
    "table": [{}, {"a": 1}],
    "list": [value for value in VALUES if isinstance(value, list)],
    "ints": [[], [1]],
    "floats": [[], [1], [1, 2.5]],
    "texts": [[], ["a"]],
    "pairs": [[], [[1, 2]]],
    "triples": [[], [[1, 2, 3]]],
}


@pytest.mark.parametrize("name", TAKES)
def test_a_reader_takes_its_type_and_no_other(name):
    read = getattr(typed_json, f"read_{name}")
    for value in VALUES:
        if repr(value) in map(repr, TAKES[name]):  # True equals 1
            assert json.dumps(read(value)) == json.dumps(read(read(value)))
        else:
            with pytest.raises(TypeError) as caught:
                read(value)
            assert "\n" not in str(caught.value)


def test_what_a_reader_returns_is_of_its_type():
    assert type(typed_json.read_float(3)) is float
    assert typed_json.read_list([1]) == (1,)
    table = {"a": 1}
    assert typed_json.read_table(table) is not table
    assert typed_json.read_row([1, "a"], 2) == (1, "a")


@pytest.mark.parametrize("value", [[1], [1, 2, 3], 2, None])
def test_a_row_has_as_many_values_as_it_should(value):
    with pytest.raises(TypeError, match="is no"):
        typed_json.read_row(value, 2)


def test_a_number_too_large_for_a_float_is_no_number():
    with pytest.raises(TypeError, match="is no number"):
        typed_json.read_float(10**400)


@given(st.text(max_size=3000))
def test_a_fault_is_one_short_line_that_names_what_held_the_value(text):
    with pytest.raises(RunError) as caught:
        typed_json.read_as(typed_json.read_ints, [text], "ids of a report")
    line = str(caught.value)
    assert line.startswith("ids of a report: ")
    assert line.isprintable() or not text.isprintable()
    assert len(line) < 300
    assert "\n" not in line
