"""Laws of the agreement between peers, in virtual time: each history is a seed and a list of faults."""

import pytest

from comdml_flwr.carriers.simulated.history import Crash, History
from tests.carriers import draws
from tests.carriers.laws import broken_laws
from tests.carriers.simulation import simulate, tiny_setup


def broken_by(setup, histories):
    """Return the histories that break a law, with a line for each law."""
    found = {}
    for history in histories:
        _, parts = simulate(setup, history)
        if broken := broken_laws(setup, history, parts):
            found[history] = broken
    return found


@pytest.mark.parametrize("method", ["comdml", "allreduce"])
def test_one_crash_at_any_action_costs_the_dead_agents_share_and_no_more(method):
    setup = tiny_setup(method)
    assert broken_by(setup, [draws.draw(draws.one_crash, seed, setup.ids) for seed in range(100)]) == {}


def test_nobody_healthy_is_given_up_when_one_dies_in_the_first_introduction():
    """Some have its introduction and go on; the others wait for it, with the deadline of a start."""
    setup = tiny_setup("allreduce")
    last = max(setup.ids)  # the others find later that it is dead than that somebody waits
    histories = [History(seed=seed, faults=(Crash(last, 6 + seed % 6),)) for seed in range(48)]
    assert broken_by(setup, histories) == {}


@pytest.mark.parametrize("kind", draws.KINDS, ids=lambda kind: kind.__name__)
def test_the_same_seed_is_the_same_history(kind):
    setup = tiny_setup()
    history = draws.draw(kind, 3, setup.ids)
    (one, parts), (other, parts_again) = (simulate(setup, history) for _ in range(2))
    assert one.ended_s == other.ended_s
    assert [part.gone for part in parts.values()] == [part.gone for part in parts_again.values()]
    assert one.agents[0].weights_sha256() == other.agents[0].weights_sha256()
