"""The outer step: what becomes of the averaged model."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.slots import Lifetime, Slot
from comdml_flwr.methods import comdml
from comdml_flwr.methods.phases.outer import TAKE_MEAN, take_outer_step
from tests.small import small_config, small_fleet, small_setup

STEPS = Slot(name="steps", lifetime=Lifetime.ROUND, shared=True, initial=lambda _: np.zeros(1, np.float32))


@dataclass(frozen=True)
class Double:
    """Goes twice as far as the mean, and counts."""

    slots: tuple[Slot, ...] = (STEPS,)

    def __call__(self, start_P, mean_P, state):
        return start_P + 2 * (mean_P - start_P), {"steps": state["steps"] + 1}


@pytest.fixture(scope="module")
def setup():
    """Return a set-up whose model has BatchNorm."""
    return small_setup(small_config(), small_fleet(2))


def test_without_an_outer_step_the_mean_itself_is_the_model(setup):
    agent, mean_P = Agent(0, setup), setup.initial_weights_P + 1
    take_outer_step(agent, mean_P, TAKE_MEAN)
    assert agent.weights_P is mean_P


def test_parameters_take_the_step_and_statistics_are_averaged(setup):
    agent = Agent(0, replace(setup, slots=(STEPS,)))
    for _ in range(2):
        start, mean_P = setup.layout.unflatten(agent.weights_P.numpy()), agent.weights_P + 1
        take_outer_step(agent, mean_P, Double())
        for name, value in setup.layout.unflatten(agent.weights_P.numpy()).items():
            if name in setup.layout.shapes:
                moved = 1 if "running" in name else 2
                np.testing.assert_allclose(value, start[name] + moved, rtol=1e-6, err_msg=name)
    assert agent.tensors["steps"].tolist() == [2]


def test_the_layout_knows_a_models_statistics(setup):
    names = {name for name in setup.layout.shapes if "running" in name}
    assert names
    assert setup.layout.buffers == names
    assert int(setup.layout.is_parameter_P.sum()) == len(setup.initial_weights_P) - 2 * (8 + 16)


def test_where_neighbours_are_mixed_there_is_no_outer_step():
    with pytest.raises(ValueError, match="must be TAKE_MEAN where neighbours are mixed"):
        comdml.program(1, "mixing", outer=Double())
    assert comdml.program(1, outer=Double()).slots == (*comdml.SLOTS, STEPS)


def test_what_was_taken_over_counts_in_the_digest(setup):
    agent = Agent(0, replace(setup, slots=(STEPS,)))
    before = agent.shared_sha256()
    agent.tensors["steps"] = torch.ones(1)
    assert agent.shared_sha256() != before
    plain = Agent(0, setup)
    assert plain.shared_sha256() == plain.weights_sha256() == agent.weights_sha256()
