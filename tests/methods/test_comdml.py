"""The laws of a ComDML round."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.steps import run_steps
from comdml_flwr.core.messages import Envelope
from comdml_flwr.core.program import Step
from comdml_flwr.learning.averaging import weighted_mean
from comdml_flwr.methods import comdml as method
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.planning.types import Pair
from comdml_flwr.runs.assemble import program_of
from tests.small import fleet_text, run_local, small_config, small_fleet, small_setup


@pytest.mark.parametrize(
    "fleet", [small_fleet(5, bandwidth_mbps=0), small_fleet(4, equal=True)], ids=["no links", "equal agents"]
)
def test_an_empty_plan_makes_comdml_equal_allreduce_to_the_bit(fleet):
    comdml, _ = run_local(small_config(), fleet)
    allreduce, _ = run_local(small_config(method="allreduce"), fleet)
    assert all(record.plan["pairs"] == [] for record in comdml.rounds)
    assert comdml.weights_sha256 == allreduce.weights_sha256
    assert [r.virtual_time_s for r in comdml.rounds] == [r.virtual_time_s for r in allreduce.rounds]


def test_unequal_agents_offload_and_the_weights_differ_from_allreduce():
    comdml, _ = run_local(small_config(), small_fleet(5))
    allreduce, _ = run_local(small_config(method="allreduce"), small_fleet(5))
    assert all(record.plan["pairs"] for record in comdml.rounds)
    assert comdml.weights_sha256 != allreduce.weights_sha256


def test_a_run_respects_the_memory_that_the_fleet_tells():
    free = small_fleet(5)
    helpers = [pair["fast"] for pair in run_local(small_config(), free)[0].rounds[0].plan["pairs"]]
    whole_bytes = small_setup(small_config(), free).cuts[1].whole_bytes
    bounds = dict.fromkeys(helpers, whole_bytes)  # room for their own model, none for a partner's fast side
    agents = tuple(dataclasses.replace(a, memory_bytes=bounds.get(a.id, 1e15)) for a in free.agents)
    record, _ = run_local(small_config(), dataclasses.replace(free, agents=agents))
    for round_ in record.rounds:
        assert not set(helpers) & {pair["fast"] for pair in round_.plan["pairs"]}


@pytest.mark.parametrize("participation", [1.0, 0.4])
def test_the_forecast_without_offload_is_what_allreduce_shows(participation):
    fleet, rounds = small_fleet(10), 4
    comdml, _ = run_local(small_config(participation=participation, num_rounds=rounds), fleet)
    allreduce, _ = run_local(
        small_config(method="allreduce", participation=participation, num_rounds=rounds), fleet
    )
    assert [r.no_offload_virtual_time_s for r in comdml.rounds] == [
        r.virtual_time_s for r in allreduce.rounds
    ]
    assert [r.no_offload_makespan_s for r in comdml.rounds] == [r.makespan_s for r in allreduce.rounds]


@pytest.mark.parametrize(
    "keys", [{}, {"partition": "dirichlet"}, {"optimizer": "adam", "learning_rate": 0.01}]
)
def test_allreduce_is_the_plain_weighted_mean_of_the_local_models_to_the_bit(keys):
    config = small_config(method="allreduce", num_rounds=1, **keys)
    fleet = small_fleet(5)
    _, agents = run_local(config, fleet)
    alone = [_train_alone(agent.id, config, fleet) for agent in agents]
    mean = weighted_mean(alone, [agent.num_samples for agent in agents])
    assert all(np.array_equal(agent.weights_P.numpy(), mean) for agent in agents)


def _train_alone(agent_id, config, fleet):
    """Train one agent's whole model with nothing but torch: no phases, no mail, no learner."""
    setup = small_setup(config, fleet)
    agent = Agent(agent_id, setup)
    agent.begin_round(1)
    from comdml_flwr.learning.split import load_floats, write_floats

    model = setup.learners.model.train()
    load_floats(model, setup.initial_weights_P)
    optimizer = (
        torch.optim.SGD(model.parameters(), lr=config.learning_rate, momentum=config.momentum, fused=True)
        if config.optimizer == "sgd"
        else torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    )
    for indices in agent.batches():
        optimizer.zero_grad()
        x_NCHW, y_N = agent.training_data.batch(indices)
        torch.nn.functional.cross_entropy(model(x_NCHW), y_N).backward()
        optimizer.step()
    return write_floats(model).numpy()


@pytest.mark.parametrize("keys", [{"optimizer": "sgd"}, {"optimizer": "adam", "learning_rate": 0.01}])
def test_the_number_of_chunks_changes_neither_weights_nor_the_clock(keys):
    runs = [run_local(small_config(num_chunks=chunks, **keys), small_fleet(5))[0] for chunks in (1, 2, 5)]
    assert len({run.weights_sha256 for run in runs}) == 1
    assert len({tuple(r.virtual_time_s for r in run.rounds) for run in runs}) == 1


def test_same_seed_same_weights_another_seed_others():
    digests = [run_local(small_config(seed=seed), small_fleet(5))[0].weights_sha256 for seed in (3, 3, 4)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("bandwidth_mbps", [100, 20])
@pytest.mark.parametrize("partition", ["iid", "dirichlet"])
def test_the_clock_ends_training_within_one_batch_of_the_prediction(bandwidth_mbps, partition):
    config = small_config(num_rounds=1, local_epochs=3, partition=partition, alpha=1.0)
    fleet = small_fleet(10, bandwidth_mbps=bandwidth_mbps)
    record = run_local(config, fleet)[0].rounds[0]
    setup = small_setup(config, fleet)
    one_batch_s = max(1 / profile.batches_per_s for profile in setup.profiles_at(1).values())
    assert record.plan["pairs"]
    assert abs(record.makespan_s - record.predicted_s) <= one_batch_s


def test_an_absent_agent_has_the_current_model_when_it_takes_part_again():
    config = small_config(participation=0.3, num_rounds=6)
    record, agents = run_local(config, small_fleet(10))
    last = agents[0].setup.present(6)
    assert any(set(agents[0].setup.present(r)) - set(agents[0].setup.present(r - 1)) for r in range(2, 7))
    assert len({agent.weights_sha256() for agent in agents if agent.id in last}) == 1
    assert record.rounds[-1].loss < record.rounds[0].loss


def test_a_helper_refuses_activations_that_come_under_another_plan():
    """The slow agent's share is left out; the others' average is what it would be without that agent."""
    config = small_config(num_rounds=1)
    setup = small_setup(config, small_fleet(5))
    agents = {agent: Agent(agent, setup) for agent in setup.ids}
    program = program_of(setup)
    mail: dict[int, list[Envelope]] = {}
    liar = None
    for phase in range(len(program.phases)):
        inboxes, mail = mail, {}
        for agent in agents.values():
            outbox, _ = run_steps(agent, program, (Step(1, phase),), tuple(inboxes.get(agent.id, ())))
            for envelope in outbox:
                if envelope.kind == "activations" and liar in (None, envelope.sender):
                    liar = envelope.sender
                    envelope = _with_about(envelope, digest="of another plan")
                mail.setdefault(envelope.receiver, []).append(envelope)
    assert liar is not None
    honest = [agent for agent in agents.values() if agent.id != liar]
    assert len({agent.weights_sha256() for agent in agents.values()}) == 1
    contributions = [_contribution_of(agent.id, agents) for agent in honest]
    mean = weighted_mean(contributions, [agent.num_samples for agent in honest])
    assert np.array_equal(honest[0].weights_P.numpy(), mean)


def _with_about(envelope, **facts):
    from dataclasses import replace

    return replace(envelope, about={**envelope.about, **facts})


def _contribution_of(agent_id, agents):
    body = agents[agent_id].tensors["own/body"]
    for helper in agents.values():
        if (fast := f"partner/{agent_id}/body") in helper.tensors:
            return torch.cat([body, helper.tensors[fast]]).numpy()
    return body.numpy()


SCENARIO = "[scenario]\nshare = 0.6\nevery = 2\nspeed_noise = 0.05\n"


def changing_fleet(num_agents, tables=SCENARIO):
    return parse_fleet(fleet_text(num_agents) + tables, "test fleet")


def pairs_of(record):
    return [[(p["slow"], p["fast"], p["cut"]) for p in line.plan["pairs"]] for line in record.rounds]


def test_a_scenario_changes_the_plans_and_the_clock_and_nothing_else_of_allreduce():
    config = small_config(method="allreduce", num_rounds=4)
    changing, _ = run_local(config, changing_fleet(5))
    constant, _ = run_local(config, small_fleet(5))
    assert changing.weights_sha256 == constant.weights_sha256
    assert all(a.makespan_s != b.makespan_s for a, b in zip(changing.rounds, constant.rounds, strict=True))


def test_a_scenario_that_changes_nothing_leaves_every_bit():
    idle = changing_fleet(5, "[scenario]\nshare = 1\nevery = 100\n")
    (one, _), (other, _) = run_local(small_config(), idle), run_local(small_config(), small_fleet(5))
    assert one.weights_sha256 == other.weights_sha256
    assert [r.virtual_time_s for r in one.rounds] == [r.virtual_time_s for r in other.rounds]


def test_hysteresis_keeps_pairs_and_participants_agree_on_them():
    config = {"num_rounds": 6, "participation": 0.8}
    eager, _ = run_local(small_config(**config), changing_fleet(5))
    steady, agents = run_local(small_config(hysteresis=0.9, **config), changing_fleet(5))
    assert all(record.refused == [] for record in steady.rounds)
    assert sum(map(len, pairs_of(steady))) > 0
    assert new_pairs(steady) < new_pairs(eager)
    assert {agent.pairing.round for agent in agents} - {0} <= set(range(1, 7))


def new_pairs(record):
    pairs = pairs_of(record)
    return sum(len(set(now) - set(before)) for before, now in pairwise(pairs))


def test_who_is_away_by_the_trace_takes_no_part_and_has_the_model_when_it_returns():
    trace = "".join(
        f"[[availability]]\nround = {round_}\nagent = 0\npresent = {present}\n"
        for round_, present in ((2, "false"), (4, "true"))
    )
    record, agents = run_local(small_config(num_rounds=4), changing_fleet(5, trace))
    assert [line.num_agents for line in record.rounds] == [5, 4, 4, 5]
    named = [{agent for pair in pairs for agent in pair[:2]} for pairs in pairs_of(record)]
    assert 0 in named[0]
    assert not any(0 in names for names in named[1:3])
    assert len({agent.weights_sha256() for agent in agents}) == 1


def test_it_does_not_matter_to_the_bits_whether_one_agent_helps_two_or_two_help_one_each(monkeypatch):
    real = method.agree

    def helped_by(*helpers):
        def forced(agent, profiles, previous):
            judged, digest = real(agent, profiles, previous)
            pairs = tuple(
                Pair(slow=slow, fast=fast, cut=cut, finish_s=1.0, traffic_bytes=0.0)
                for slow, fast, cut in zip((2, 3), helpers, (1, 2), strict=True)
            )
            return dataclasses.replace(
                judged, plan=dataclasses.replace(judged.plan, pairs=pairs, solo=())
            ), digest

        monkeypatch.setattr(method, "agree", forced)
        return run_local(small_config(num_rounds=1, local_epochs=1, num_chunks=3), small_fleet(4))

    each_one, agents = helped_by(0, 1)
    both, _ = helped_by(0, 0)
    assert both.weights_sha256 == each_one.weights_sha256
    assert [line.plan["pairs"][1]["fast"] for line in both.rounds] == [0]
    assert {*agents[0].tensors} & {"partner/2/body", "partner/3/body"} == {"partner/2/body"}
