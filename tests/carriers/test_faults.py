"""An agent that fails costs its share of the round and no more, on the carriers that work in lock step."""

import json
from functools import cache

import pytest
import torch

from comdml_flwr.methods import comdml
from comdml_flwr.runs.assemble import program_of
from tests.faults import FailAt, run_grid_with, run_local_with
from tests.flower.loop_grid import grid_config
from tests.small import fleet_text, run_local, small_config, small_fleet, small_setup

NUM_AGENTS = 5
ROUNDS = 3
FLEET = small_fleet(NUM_AGENTS)


@cache
def run_undisturbed(config):
    return run_local(config, FLEET)


def roles(config):
    """Return a pair (slow, helper) of the first round, and somebody else."""
    record, _ = run_undisturbed(config)
    pair = record.rounds[0].plan["pairs"][0]
    alone = next(agent for agent in range(NUM_AGENTS) if agent not in (pair["slow"], pair["fast"]))
    return {"slow": pair["slow"], "helper": pair["fast"], "other": alone}


PLACES = ("introduce", "before the offload", "during the offload", "after the offload", "gather", "adopt")


def places(config, program=None):
    """Return the phases of a round by what a fault table calls them."""
    program = program or program_of(small_setup(config, FLEET))
    scatter = program.return_point
    return dict(zip(PLACES, (0, 1, 2, scatter, scatter + 1, scatter + 2), strict=True))


CONFIG = small_config(num_rounds=ROUNDS, num_chunks=3)


@cache
def run_with(fault):
    return run_local_with(CONFIG, FLEET, [fault])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("role", ["slow", "helper", "other"])
def test_the_others_go_on_with_equal_weights(role, place):
    fault = FailAt(roles(CONFIG)[role], places(CONFIG)[place], round=2)
    record, agents = run_with(fault)
    survivors = [agent for agent in agents if agent != fault.agent]
    assert len({agents[agent].weights_sha256() for agent in survivors}) == 1
    first = [fault.agent] if place == "introduce" else []  # together with the end of the round before
    assert [r.gone for r in record.rounds] == [first, [fault.agent], [fault.agent]]
    assert [r.num_agents + len(r.gone) for r in record.rounds] == [NUM_AGENTS] * ROUNDS


ON_THE_GRID = {  # each role at two or three places, each place in one or two roles
    ("slow", "introduce"),
    ("slow", "after the offload"),
    ("helper", "before the offload"),
    ("helper", "during the offload"),
    ("helper", "gather"),
    ("other", "during the offload"),
    ("other", "adopt"),
}


@pytest.mark.parametrize(
    ("role", "place"),
    [
        pytest.param(role, place, marks=() if (role, place) in ON_THE_GRID else pytest.mark.slow)
        for role in ("slow", "helper", "other")
        for place in PLACES
    ],
)
def test_so_they_do_on_the_grid_with_the_same_ones(role, place, tmp_path):
    fault = FailAt(roles(CONFIG)[role], places(CONFIG)[place], round=2)
    record, _ = run_with(fault)
    run_grid_with(grid_config(CONFIG, tmp_path), fleet_text(NUM_AGENTS), NUM_AGENTS, [fault])
    (folder,) = tmp_path.iterdir()
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    assert json.loads((folder / "summary.json").read_text())["weights_sha256"] == record.weights_sha256
    assert [line["virtual_time_s"] for line in lines] == [r.virtual_time_s for r in record.rounds]
    assert [line["gone"] for line in lines] == [r.gone for r in record.rounds]


@pytest.mark.parametrize("place", ["before the offload", "during the offload", "after the offload", "gather"])
@pytest.mark.parametrize("keys", [{}, {"model": "drawing", "batch_size": 13}], ids=["plain", "dropout"])
def test_a_slow_agent_takes_its_upper_layers_back_in_the_same_round(place, keys):
    """And loses nothing: the average is that of a round whose helper's own share alone is missing."""
    config = CONFIG.model_copy(update={"num_rounds": 1, **keys})
    pair = roles(config)
    record, agents = run_local_with(config, FLEET, [FailAt(pair["helper"], places(config)[place], round=1)])
    assert record.rounds[0].taken_back == [pair["slow"]]
    _, undisturbed = run_undisturbed(config)
    fast = undisturbed[pair["helper"]].tensors[f"partner/{pair['slow']}/body"]
    assert agents[pair["slow"]].tensors["own/body"][-len(fast) :].equal(fast), "the bits of the helper"


def test_an_agent_that_is_back_has_the_model_and_takes_part_in_the_next_round(tmp_path):
    config = CONFIG.model_copy(update={"num_rounds": 5})
    fault = FailAt(roles(config)["helper"], 2, round=2, back_in=4)
    record, agents = run_local_with(config, FLEET, [fault])
    assert [r.gone for r in record.rounds] == [[], [fault.agent], [fault.agent], [], []]
    assert len({agent.weights_sha256() for agent in agents.values()}) == 1
    run_grid_with(grid_config(config, tmp_path), fleet_text(NUM_AGENTS), NUM_AGENTS, [fault])
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "summary.json").read_text())["weights_sha256"] == record.weights_sha256


@pytest.mark.parametrize("role", ["slow", "helper", "other"])
def test_weights_that_are_not_finite_cost_an_agent_its_share_and_no_more(role, tmp_path, monkeypatch):
    """The others' average is that of a round in which it died; the next round it begins with their model."""
    config, broken, real = CONFIG.model_copy(update={"num_rounds": 2}), roles(CONFIG)[role], comdml.contribute
    _, without = run_local_with(config, FLEET, [FailAt(broken, places(config)["after the offload"], round=2)])

    def contribute(agent, inbox):
        if agent.id == broken and agent.round == 2:
            agent.tensors["own/body"] = torch.full_like(agent.tensors["own/body"], torch.nan)
        return real(agent, inbox)

    monkeypatch.setattr(comdml, "contribute", contribute)
    record, agents = run_local(config, FLEET)
    assert [r.not_finite for r in record.rounds] == [[], [broken]]
    assert [r.gone for r in record.rounds] == [[], []]
    survivor = min(without.keys() - {broken})
    assert {agent.weights_sha256() for agent in agents} == {without[survivor].weights_sha256()}

    run_grid_with(grid_config(config, tmp_path), fleet_text(NUM_AGENTS), NUM_AGENTS, [])
    (folder,) = tmp_path.iterdir()
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    assert [line["not_finite"] for line in lines] == [[], [broken]]
    assert json.loads((folder / "summary.json").read_text())["weights_sha256"] == record.weights_sha256
