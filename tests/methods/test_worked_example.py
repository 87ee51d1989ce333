"""The worked example of docs/development/adding_a_method.md does what its page says, and survives crashes."""

from dataclasses import replace

import pytest

from comdml_flwr.carriers.local import LocalCarrier
from comdml_flwr.core.program import Step
from comdml_flwr.planning.fleet.scenario import Availability
from comdml_flwr.runs.assemble import participants_of, program_of
from tests.carriers import draws
from tests.carriers.simulation import NUM_ROUNDS, simulate, tiny_setup
from tests.carriers.test_conformance import grid, local, simulated
from tests.methods.worked_example import add_method, page_test
from tests.small import small_config

CRASHES = (draws.one_crash, draws.two_crashes, draws.one_crash_and_back)


@pytest.fixture(autouse=True)
def method(monkeypatch):
    """Return the module that the page describes, added to the package as the page says."""
    return add_method(monkeypatch)


def test_the_pages_test_passes():
    page_test()()


@pytest.mark.parametrize("carrier", [grid, simulated], ids=lambda carrier: carrier.__name__)
def test_it_gives_the_same_outcome_on_every_carrier(carrier, tmp_path, monkeypatch):
    config = small_config(method="diloco", participation=0.5, num_rounds=4, local_epochs=1)
    assert carrier(config, tmp_path, monkeypatch) == local(config, tmp_path, monkeypatch)


def undisturbed(setup, participants):
    """Return an agent after a run in which these took part in each round, and nobody crashed."""
    there = {
        agent: tuple((round_, agent in took_part) for round_, took_part in participants.items())
        for agent in setup.ids
    }
    setup = replace(setup, availability=Availability(changes=there), drawn={})
    agents, program = participants_of(setup), program_of(setup)
    carrier = LocalCarrier(agents, program)
    for round_, took_part in participants.items():
        for phase in range(len(program.phases)):
            carrier.exchange({agent: (Step(round_, phase),) for agent in took_part})
    return next(agent for agent in agents if agent.id in participants[NUM_ROUNDS])


def kept(agent):
    """Return the digests of its weights and of all that it shares, and its momentum."""
    return agent.weights_sha256(), agent.shared_sha256(), agent.tensors["outer-momentum"].tolist()


def differing(seeds):
    """Return the histories that leave an agent with another tensor than an undisturbed run would."""
    setup, expected, found = tiny_setup("diloco"), {}, []
    for seed in seeds:
        history = draws.draw(CRASHES[seed % len(CRASHES)], seed, setup.ids)
        carrier, parts = simulate(setup, history)
        ended = [agent for agent, part in parts.items() if [*part.reports] == [*range(1, NUM_ROUNDS + 1)]]
        for agent in ended:
            gone = {round_: report["gone"] for round_, report in parts[agent].reports.items()}
            participants = {
                round_: tuple(one for one in setup.ids if one not in absent)
                for round_, absent in gone.items()
            }
            key = tuple(participants.values())
            if key not in expected:
                expected[key] = kept(undisturbed(setup, participants))
            if kept(carrier.agents[agent]) != expected[key]:
                found.append((agent, history))
    assert len(expected) > 1, "some histories changed who took part"
    return found


def test_a_crash_leaves_weights_and_momentum_as_without_it():
    assert differing(range(30)) == []


@pytest.mark.slow
def test_a_thousand_crashes_leave_weights_and_momentum_as_without_them():
    assert differing(range(1000)) == []
