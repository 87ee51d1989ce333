"""A network that falls into parts: at most one ends rounds, and when it heals they become one again."""

from itertools import accumulate
from math import inf

import pytest

from comdml_flwr.carriers.simulated.history import Crash, Cut, History, Partition
from comdml_flwr.core.errors import RunError
from tests.carriers.laws import broken_laws
from tests.carriers.simulation import simulate, tiny_setup

HEALS_S = 20.0
TOO_FEW = r"only agents \[.*\] of \[.*\] are there, too few for a round to count \(min-agents\), and nobody"


def parted(setup, small, start_s, end_s=inf, seed=5):
    """Run with some agents apart; return the carrier, each agent's part, and what it ended after."""
    history = History(seed=seed, faults=(Partition(small, start_s, end_s),))
    carrier, parts = simulate(setup, history)
    assert broken_laws(setup, history, parts) == []
    return carrier, parts, {agent: [*part.reports] for agent, part in parts.items()}


@pytest.mark.parametrize("method", ["comdml", "allreduce"])
@pytest.mark.parametrize("start_s", [0.0, 2.5])
def test_of_a_network_that_stays_in_two_parts_the_larger_one_goes_on(method, start_s):
    _, parts, ended = parted(tiny_setup(method), (1, 2), start_s)
    before = [round_ for round_, report in parts[0].reports.items() if not report["gone"]]
    assert (start_s == 0.0) == (before == [])
    for agent in (0, 3, 4):
        assert (ended[agent], {*parts[agent].gone}) == ([1, 2, 3], {1, 2})
    for agent in (1, 2):
        assert ended[agent] == before
        with pytest.raises(RunError, match=rf"^round {len(before) + 1}: {TOO_FEW}"):
            raise parts[agent].error


@pytest.mark.parametrize(("small", "goes_on"), [((0, 3), {0, 3}), ((1, 2), {0, 3}), ((2, 3), {0, 1})])
def test_of_two_halves_the_one_with_the_lowest_id_goes_on(small, goes_on):
    _, _, ended = parted(tiny_setup("allreduce", num_agents=4), small, 0.0)
    assert {agent for agent, rounds in ended.items() if rounds} == goes_on


@pytest.mark.parametrize("method", ["comdml", "allreduce"])
@pytest.mark.parametrize("small", [(4,), (0, 1), (2, 3, 4)])
def test_when_the_network_heals_the_parts_become_one_again(method, small):
    setup = tiny_setup(method, num_rounds=24)
    carrier, parts, ended = parted(setup, small, 1.0, HEALS_S)
    assert {agent: part.error for agent, part in parts.items()} == dict.fromkeys(setup.ids)
    assert all(part.gone == () for part in parts.values())
    assert len({agent.weights_sha256() for agent in carrier.agents.values()}) == 1
    apart = small if len(small) < 3 else (0, 1)
    rounds = [*range(1, 25)]
    began_s = [0.0, *accumulate(parts[3].reports.get(n, {}).get("elapsed_s", 0.0) for n in rounds)]
    for agent in setup.ids:
        missed = [n for n in rounds if n not in ended[agent]]
        assert bool(missed) == (agent in apart)
        assert len([n for n in missed if began_s[n - 1] > HEALS_S]) <= 1, "who was apart is back at once"


def test_where_all_parts_are_too_small_nobody_goes_on():
    faults = (Partition((0, 1), 0.0, inf), Partition((2, 3), 0.0, inf))
    _, parts = simulate(tiny_setup("allreduce"), History(seed=1, faults=faults))
    for part in parts.values():
        assert not part.reports
        with pytest.raises(RunError, match=TOO_FEW):
            raise part.error


@pytest.mark.parametrize(
    ("dies", "least", "line"), [(1, 0, "only agent 0 is left"), (0, 0, TOO_FEW), (0, 1, ""), (1, 1, "")]
)
def test_of_two_agents_the_lower_one_or_with_a_key_either_outlives_the_other(dies, least, line):
    setup = tiny_setup("allreduce", num_agents=2, min_agents=least)
    _, parts = simulate(setup, History(seed=2, faults=(Crash(dies, 20),)))
    part = parts[1 - dies]
    if least:
        assert [*part.reports] == [1, 2, 3]
    else:
        with pytest.raises(RunError, match=line):
            raise part.error


def test_one_dead_direction_of_one_link_stops_nobody_else():
    setup = tiny_setup("comdml", num_rounds=6)
    history = History(seed=3, faults=(Cut(4, 0, 1.0, inf),))
    _, parts = simulate(setup, history)
    assert broken_laws(setup, history, parts) == []
    for agent in (0, 1, 2, 3):
        assert [*parts[agent].reports] == [1, 2, 3, 4, 5, 6]


def test_who_was_absent_in_a_round_is_back_as_well_when_the_network_heals():
    """It was to take part in the next round, in a part in which nobody had this one's model."""
    setup = tiny_setup("comdml", participation=0.6, num_rounds=24)
    _, parts, ended = parted(setup, (0, 2), 1.2, HEALS_S, seed=163270216)
    assert all(part.error is None for part in parts.values())
    for agent in setup.ids:
        drawn = [n for n in range(1, 25) if agent in setup.present(n)]
        assert ended[agent][-3:] == drawn[-3:]
