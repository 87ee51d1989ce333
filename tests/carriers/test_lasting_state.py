"""A method's own tensor lasts over rounds and crashes as the weights do."""

from dataclasses import replace

import numpy as np
import pytest

from comdml_flwr.core.slots import Lifetime, Slot
from comdml_flwr.methods import allreduce
from tests.carriers import draws
from tests.carriers.simulation import NUM_ROUNDS, simulate, tiny_setup

ROUNDS = Slot(name="rounds", lifetime=Lifetime.ROUND, shared=True, initial=lambda _: np.zeros(1, np.float32))


@pytest.fixture
def counting_setup(monkeypatch):
    """Return a set-up of a method that counts the rounds whose result it adopts, as a momentum would."""
    adopt = allreduce.adopt

    def adopt_and_count(agent, inbox):
        agent.tensors["rounds"] = agent.tensors["rounds"] + 1
        return adopt(agent, inbox)

    monkeypatch.setattr(allreduce, "adopt", adopt_and_count)
    return replace(tiny_setup("allreduce"), slots=(ROUNDS,))


def counted(carrier, parts):
    """Return what the agents that ended the last round have counted."""
    ended = [agent for agent, part in parts.items() if NUM_ROUNDS in part.reports]
    assert ended
    return {float(carrier.agents[agent].tensors["rounds"]) for agent in ended}


@pytest.mark.parametrize("kind", [draws.one_crash, draws.two_crashes, draws.one_crash_and_back])
def test_a_round_counts_once_however_often_its_averaging_begins_again(kind, counting_setup):
    for seed in range(15):
        history = draws.draw(kind, seed, counting_setup.ids)
        carrier, parts = simulate(counting_setup, history)
        assert counted(carrier, parts) == {NUM_ROUNDS}, history
