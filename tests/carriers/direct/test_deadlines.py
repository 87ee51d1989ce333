"""Deadlines grow and shrink with what the agents say of themselves."""

import pytest

from comdml_flwr.carriers.direct.deadlines import (
    FACTOR,
    GROWTH,
    NUM_ROUNDS,
    SHORTEST_S,
    SLOWEST,
    Deadlines,
)


def deadlines(training_s=(), *, start_s=60.0, transfer_s=1.0):
    made = Deadlines(start_s, transfer_s)
    for agent, seconds in enumerate(training_s):
        made.hear(agent, seconds)
    return made


def test_until_all_have_met_the_start_counts():
    made = deadlines([0.1])
    assert made.seconds == 60.0
    made.has_met_all()
    assert made.patience_s == pytest.approx(SHORTEST_S / FACTOR)
    made.have_all_met()
    assert made.seconds == max(SHORTEST_S, FACTOR * made.forecast_s)


def test_who_has_met_all_waits_longer_than_one_who_has_not():
    """Whom it waits for may be waiting for one that died in the introduction."""
    has, has_not = deadlines([0.1]), deadlines([0.1])
    has.has_met_all()
    assert has.seconds >= has_not.for_all_s + max(SHORTEST_S, FACTOR * has.forecast_s)


def test_the_slowest_with_anothers_work_and_the_transfer_are_predicted():
    made = deadlines([3.0, 10.0, 4.0], transfer_s=2.5)
    made.have_all_met()
    assert made.forecast_s == 2 * 10.0 + 2.5
    assert made.seconds == FACTOR * 22.5


def test_a_round_that_took_longer_is_no_fault_the_next_time():
    made = deadlines([1.0], transfer_s=0.0)
    made.have_all_met()
    made.round_took(9.0)
    made.round_took(4.0)
    assert made.seconds == FACTOR * 9.0


def test_nobody_waits_for_the_sake_of_one_who_is_gone():
    made = deadlines([100.0, 1.0], transfer_s=0.0)
    made.have_all_met()
    made.round_ended([0])
    assert made.forecast_s == 2.0


def test_a_wait_for_a_start_is_believed_until_a_round_has_ended():
    made = deadlines([1.0], transfer_s=0.0)
    made.have_all_met()  # and others may not have: they wait as long as for a start
    assert made.most_s == made.longest_s > 2 * made.start_s
    made.round_ended([])
    assert made.most_s == 2 * made.for_all_s < made.start_s


@pytest.mark.parametrize("training_s", [0.0, 0.5, 30.0])
@pytest.mark.parametrize("know", [Deadlines.has_met_all, Deadlines.have_all_met, lambda made: None])
def test_nobody_waits_longer_than_two_deadlines(training_s, know):
    made = deadlines([training_s])
    know(made)
    assert made.patience_s < made.seconds < made.for_all_s
    assert made.for_all_s + made.patience_s == pytest.approx(2 * made.seconds)


def test_deadlines_shrink_again_when_rounds_do():
    made = deadlines([1.0], transfer_s=0.0)
    made.have_all_met()
    made.round_took(9.0)
    for _ in range(NUM_ROUNDS):
        made.round_took(4.0)
    assert made.seconds == FACTOR * 4.0


@pytest.mark.parametrize("claimed_s", [600.0, 1e9])
def test_one_that_claims_more_than_is_plausible_makes_nobody_wait_for_it(claimed_s):
    made = deadlines([0.1, 0.1, 0.1, 0.1, claimed_s])
    made.have_all_met()
    assert made.forecast_s == 2 * SLOWEST * 0.1 + 1.0
    made.round_took(2.0)
    assert made.forecast_s == GROWTH * 2.0


def test_one_long_round_after_short_ones_counts_for_no_more_than_they_make_plausible():
    made = deadlines([0.1], transfer_s=0.0)
    made.have_all_met()
    for elapsed_s in (4.0, 4.0, 1000.0):
        made.round_took(elapsed_s)
    assert made.seconds == FACTOR * GROWTH * 4.0


def test_rounds_of_others_may_take_as_long_as_the_slowest_needs():
    deadlines = Deadlines(start_s=10.0, transfer_s=1.0)
    assert deadlines.for_rounds_s(1, own_s=0.0) == 20 + 2 * SHORTEST_S
    assert deadlines.for_rounds_s(3, own_s=5.0) == 20 + 3 * 2 * FACTOR * (2 * SLOWEST * 5.0 + 1.0)
