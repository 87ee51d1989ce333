"""A method's own tensor lasts over rounds and crashes as the weights do."""

from dataclasses import replace

import numpy as np
import pytest

from comdml_flwr.core.program import together
from comdml_flwr.core.slots import Lifetime, Slot
from comdml_flwr.methods import allreduce
from comdml_flwr.runs import catalogue
from tests.carriers import draws
from tests.carriers.simulation import NUM_ROUNDS, simulate, tiny_setup
from tests.faults import FailAt, run_grid_with, run_local_with
from tests.flower.loop_grid import grid_config
from tests.small import fleet_text, small_config, small_fleet

ROUNDS = Slot(name="rounds", lifetime=Lifetime.ROUND, shared=True, initial=lambda _: np.zeros(1, np.float32))
INTRODUCE, SCATTER, GATHER, ADOPT = range(4)


@pytest.fixture
def counted(monkeypatch):
    """Let AllReduce count its rounds, when it adopts a result or before; return what agents have counted.

    By (agent, round): what the round's last phase found.
    """
    found = {}

    def count(agent, inbox):
        agent.tensors["rounds"] = agent.tensors["rounds"] + 1
        return ()

    def look(agent, inbox):
        found[agent.id, agent.round] = float(agent.tensors["rounds"])
        return ()

    def program(phase):
        plain = allreduce.program()
        phases = [*plain.phases]
        phases[phase] = replace(phases[phase], run=together(count, phases[phase].run))
        phases[ADOPT] = replace(phases[ADOPT], run=together(phases[ADOPT].run, look))
        return replace(plain, phases=tuple(phases), slots=(ROUNDS,))

    def in_phase(phase):
        monkeypatch.setitem(catalogue.SERVERLESS, "allreduce", lambda config, num_agents: program(phase))
        return found

    return in_phase


@pytest.mark.parametrize("kind", [draws.one_crash, draws.two_crashes, draws.one_crash_and_back])
@pytest.mark.parametrize("phase", [GATHER, ADOPT], ids=["in gather", "in adopt"])
def test_a_round_counts_once_however_often_its_averaging_begins_again(kind, phase, counted):
    counted(phase)
    setup = replace(tiny_setup("allreduce"), slots=(ROUNDS,))
    for seed in range(10):
        history = draws.draw(kind, seed, setup.ids)
        carrier, parts = simulate(setup, history)
        ended = [agent for agent, part in parts.items() if NUM_ROUNDS in part.reports]
        assert ended
        counts = {float(carrier.agents[agent].tensors["rounds"]) for agent in ended}
        assert counts == {NUM_ROUNDS}, history


@pytest.mark.parametrize("carrier", ["local", "grid"])
def test_so_it_is_in_lock_step_and_for_who_comes_back(carrier, counted, tmp_path):
    found, config = counted(GATHER), small_config(method="allreduce", num_rounds=4, local_epochs=1)
    faults = [FailAt(0, GATHER, round=2, back_in=4)]
    if carrier == "local":
        run_local_with(config, small_fleet(4), faults)
    else:
        run_grid_with(grid_config(config, tmp_path), fleet_text(4), 4, faults)
    there = {(agent, round_) for agent in range(4) for round_ in range(1, 5)} - {(0, 2), (0, 3)}
    assert found == {(agent, round_): round_ for agent, round_ in there}
