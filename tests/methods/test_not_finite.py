"""NaN in one agent's training costs one agent its share, in every method, and no longer than it lasts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from comdml_flwr.agents.agent import Agent
from comdml_flwr.learning.averaging import is_finite, weighted_mean
from comdml_flwr.learning.training import Learner
from comdml_flwr.methods.phases.split_training import aux_head_weights
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from tests.broken import break_data
from tests.fleets import agent_tables
from tests.methods.test_all import EVERY
from tests.small import run_local, small_config, small_fleet, small_setup

NUM_AGENTS, BAD = 4, 1
FLEET, NO_LINKS = small_fleet(NUM_AGENTS), small_fleet(NUM_AGENTS, bandwidth_mbps=0)
QUICK = {"batch_size": 16, "local_epochs": 1, "learning_rate": 0.02}
ALWAYS, AT_FIRST = (1, 2, 3), (1,)
EVERY_DAY = ("comdml", "fedavg", "splitfed 2", "dpsgd")
every_method = pytest.mark.parametrize("keys", EVERY.values(), ids=EVERY)


def not_finite_in(record):
    return {line.round: line.not_finite for line in record.rounds if line.not_finite}


def all_finite(agents):
    """Tell whether all models and auxiliary heads of these agents are finite."""
    return all(
        is_finite(tensor.numpy())
        for agent in agents
        for name, tensor in agent.tensors.items()
        if name == "weights" or name.startswith("aux-head/")
    )


@every_method
@pytest.mark.parametrize("rounds", [ALWAYS, AT_FIRST], ids=["always", "at first"])
def test_it_costs_that_agent_its_share_and_the_others_learn(keys, rounds, monkeypatch):
    break_data(monkeypatch, BAD, rounds)
    record, agents = run_local(small_config(num_rounds=3, **QUICK, **keys), FLEET)
    told = not_finite_in(record)
    assert told[1] == [BAD]
    assert all(left_out == [BAD] for left_out in told.values())
    assert told.keys() <= set(rounds), "back as soon as its training is finite"
    assert all_finite(agents)
    assert record.rounds[-1].loss < record.rounds[0].loss - 0.02


MODELS = {"contribution", "aux head", "upload", "neighbour", "model with age", "answer", "trained fast side"}


@every_method
def test_whoever_gets_a_model_looks_at_it_too(keys, monkeypatch):
    """So that a sender that takes its own for finite harms nobody."""
    real = Agent.send

    def send(agent, receiver, mail):
        if agent.id == BAD and receiver != BAD and mail.kind in MODELS and mail.weights is not None:
            mail = replace(mail, weights=np.full_like(mail.weights, np.inf))
        return real(agent, receiver, mail)

    monkeypatch.setattr(Agent, "send", send)
    _, agents = run_local(small_config(num_rounds=1, **QUICK, **keys), FLEET)
    assert all_finite(agent for agent in agents if agent.id != BAD)


@pytest.mark.parametrize("method", ["comdml", "allreduce", "fedavg"])
def test_the_mean_is_that_of_the_others_to_the_bit(method, monkeypatch):
    break_data(monkeypatch, BAD)
    _, agents = run_local(small_config(method=method, num_rounds=1, **QUICK), NO_LINKS)
    others = [agent for agent in agents if agent.id not in (BAD, -1)]
    trained = [agent.tensors["own/body"].numpy() for agent in others]
    mean = weighted_mean(trained, [agent.num_samples for agent in others])
    assert all(agent.weights_P.equal(torch.from_numpy(mean)) for agent in agents)


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(keys, id=name, marks=() if name in EVERY_DAY else pytest.mark.slow)
        for name, keys in EVERY.items()
    ],
)
def test_where_nobodys_training_is_finite_all_keep_the_model_that_they_had(keys, monkeypatch):
    for agent in range(NUM_AGENTS):
        break_data(monkeypatch, agent)
    config = small_config(num_rounds=1, **QUICK, **keys)
    record, agents = run_local(config, FLEET)
    assert record.rounds[0].not_finite == list(range(NUM_AGENTS))
    for agent in agents:  # where models are mixed, a mean of equal ones
        torch.testing.assert_close(agent.weights_P, agent.setup.initial_weights_P)


SAME_CUT = "[links]\nbandwidth_mbps = 100\n" + agent_tables(4, flops_per_s=(4e9, 0.4e9))


@pytest.mark.parametrize("breaks", ["data", "head"])
def test_an_auxiliary_head_that_is_not_finite_is_nobody_elses(breaks, monkeypatch):
    """Agents 1 and 3 use the same cut: 3 has its own head in the next round, and 1 the head of 3."""
    if breaks == "data":
        break_data(monkeypatch, BAD, AT_FIRST)
    else:
        real = Agent.suspend

        def suspend(agent, part, learner: Learner, *, finished):
            real(agent, part, learner, finished=finished)
            if (agent.id, agent.round) == (BAD, 1) and "own/head" in agent.tensors:
                agent.tensors["own/head"] = torch.full_like(agent.tensors["own/head"], torch.inf)

        monkeypatch.setattr(Agent, "suspend", suspend)
    record, agents = run_local(small_config(num_rounds=2, **QUICK), parse_fleet(SAME_CUT, "same cut"))
    pairs = [(pair["slow"], pair["cut"]) for pair in record.rounds[0].plan["pairs"]]
    cut = pairs[0][1]
    assert pairs == [(1, cut), (3, cut)]
    assert not_finite_in(record) == {1: [BAD]}
    assert all_finite(agents)
    assert aux_head_weights(agents[1], cut).equal(aux_head_weights(agents[3], cut))


@pytest.mark.parametrize("version", [1, 2])
def test_splitfed_refuses_a_batch_that_is_not_finite_and_learns_from_the_others(version, monkeypatch):
    """Its agent is noted and takes part with the batches that were accepted."""
    real = Agent.samples

    def samples(agent, indices_N, number, *rest):
        x_NCHW, y_N = real(agent, indices_N, number, *rest)
        return (x_NCHW * torch.nan if (agent.id, number) == (BAD, 1) else x_NCHW), y_N

    config = small_config(method="splitfed", cut=2, splitfed_version=version, num_rounds=1, **QUICK)
    _, without = run_local(config, FLEET)
    monkeypatch.setattr(Agent, "samples", samples)
    record, agents = run_local(config, FLEET)
    assert record.rounds[0].not_finite == [BAD]
    assert all_finite(agents)
    own = [agents[BAD + 1].tensors["own/body"], without[BAD + 1].tensors["own/body"]]
    assert all(is_finite(side.numpy()) for side in own)
    start = agents[0].setup.initial_weights_P[: len(own[0])]
    assert not own[0].equal(start), "trained with what was accepted"
    assert not own[0].equal(own[1])


def test_a_batch_that_is_refused_changes_nothing():
    """Neither weights nor BatchNorm's statistics, be it the activations, the loss or a gradient."""
    setup = small_setup(small_config(method="splitfed", cut=3), FLEET)
    learner = setup.learners.fast_side(3)
    learner.begin(setup.initial_weights_P[-learner.num_floats :])
    z, y_N = torch.randn(4, 8, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(4)
    before = learner.weights()["body"].clone()
    for value in (torch.nan, torch.inf, 3e38):
        assert learner.train_for_gradient(torch.full_like(z, value) * z.sign(), y_N) is None
        assert learner.weights()["body"].equal(before)
    assert learner.train_for_gradient(z, y_N) is not None
    assert not learner.weights()["body"].equal(before)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.4e38] * 1000, True),
        ([-3.4e38] * 1000, True),
        ([3.4e38, -3.4e38, 1e-45], True),
        ([], True),
        ([0.0, np.nan], False),
        ([np.inf, -np.inf], False),
        ([np.inf, 3.4e38, -np.inf, np.nan], False),
    ],
)
def test_finite_is_judged_number_by_number(values, expected):
    """However large the sum is."""
    assert is_finite(np.float32(values)) is expected
