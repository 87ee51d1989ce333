"""Until when a peer may be waiting, by what it and those for whom it waits have said."""

import pytest

from comdml_flwr.carriers.direct.waits import Waits


@pytest.mark.parametrize(
    ("told", "end_s"),
    [
        ({}, 0.0),
        ({1: (4, 8.0)}, 10.0),
        ({1: (4, 8.0), 4: (2, 12.0)}, 16.0),
        ({1: (4, 8.0), 4: (2, 3.0)}, 10.0),
        ({1: (4, 8.0), 4: (1, 12.0)}, 16.0),
        ({1: (1, 8.0)}, 10.0),
        ({1: (4, 8.0), 3: (2, 12.0)}, 10.0),
    ],
    ids=["nothing", "alone", "a chain", "its end gives up first", "a circle", "itself", "others"],
)
def test_a_peer_may_wait_as_long_as_those_for_whom_it_waits_and_a_patience_for_each(told, end_s):
    waits = Waits()
    for peer, (awaited, until_s) in told.items():
        waits.tell(peer, awaited=awaited, until_s=until_s)
    assert waits.end_s(1, patience_s=2.0) == end_s


def test_what_was_said_two_rounds_ago_counts_no_more():
    waits = Waits()
    waits.tell(3, awaited=1, until_s=500.0, round_=1)
    waits.begin_round(2)
    assert waits.end_s(3, 2.0) == 502.0
    waits.begin_round(3)
    assert waits.end_s(3, 2.0) == 0.0
