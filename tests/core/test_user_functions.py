"""Functions of a user's are tried for what they take when they are given."""

import pytest

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.user_functions import check_function


class Caller:
    def __call__(self, place):
        return place


@pytest.mark.parametrize(
    "function", [lambda place: 0, lambda *all_: 0, lambda place, more=1: 0, Caller(), print]
)
def test_what_takes_the_arguments_is_taken(function):
    check_function(function, "data", "place")


def no_argument():
    """Take nothing."""


def keyword_only(*, place):
    return place


@pytest.mark.parametrize(
    ("function", "line"),
    [
        ("train.csv", "data = 'train.csv': must be a function (place)"),
        (None, "data = None: must be a function (place)"),
        ([1], "data = 'list': must be a function (place)"),
        (no_argument, "data = 'no_argument()': must be a function (place): too many positional arguments"),
        (
            keyword_only,
            "data = 'keyword_only(*, place)': must be a function (place): too many positional arguments",
        ),
    ],
)
def test_what_does_not_is_refused_with_its_signature(function, line):
    with pytest.raises(InputError) as refused:
        check_function(function, "data", "place")
    assert str(refused.value) == line
