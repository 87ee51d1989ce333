"""Cuts are counted from 1, whoever looks one up."""

import pytest

from comdml_flwr.core.by_cut import ByCut


def test_the_first_value_is_that_of_cut_1_and_the_last_that_of_cut_m():
    table = ByCut("abc")
    assert [table[cut] for cut in (1, 2, 3)] == ["a", "b", "c"] == list(table)
    assert list(table.items()) == [(1, "a"), (2, "b"), (3, "c")]
    assert (len(table), "b" in table, "d" in table) == (3, True, False)


@pytest.mark.parametrize("cut", [-1, 0, 4])
def test_another_cut_is_refused_and_never_taken_from_the_other_end(cut):
    with pytest.raises(IndexError, match=f"no cut {cut} of 1 to 3"):
        ByCut("abc")[cut]


def test_tables_are_values():
    assert ByCut([1, 2]) == ByCut((1, 2)) != ByCut([2, 1])
    assert hash(ByCut([1, 2])) == hash(ByCut((1, 2)))
    assert not ByCut()
    assert eval(repr(ByCut([1, 2]))) == ByCut([1, 2])
