"""The laws of gossip learning, with weights and ages computed by hand."""

import dataclasses

import numpy as np
import pytest
import torch

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.errors import InputError
from comdml_flwr.methods import gossip
from comdml_flwr.methods.gossip import age_of, merge_by_age
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from tests.fleets import agent_tables
from tests.methods.stepping import data_of, deliver, walk
from tests.small import fleet_text, run_local, small_config, small_fleet, small_setup

QUICK = {"batch_size": 16, "local_epochs": 1}


def floats(*values):
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize(
    ("own", "other", "merged", "age"),
    [
        ((floats(0, 8), 10), (floats(4, 0), 30), floats(3, 2), 30),
        ((floats(0, 8), 30), (floats(4, 0), 10), floats(1, 6), 30),
        ((floats(0, 8), 0), (floats(4, 0), 5), floats(4, 0), 5),
        ((floats(0, 8), 5), (floats(4, 0), 0), floats(0, 8), 5),
        ((floats(0, 8), 0), (floats(4, 0), 0), floats(2, 4), 0),
    ],
    ids=["other is older", "own is older", "own is new", "other is new", "both are new"],
)
def test_the_older_model_weighs_more_by_hand(own, other, merged, age):
    weights, found = merge_by_age(own, other)
    assert (weights.tolist(), found) == (merged.tolist(), age)


def by_hand(num_agents, sizes, links, monkeypatch, *, local_epochs=1):
    """Return agents with models of two weights, which a training moves by (1 + id, 0)."""
    text = "".join(f"[[link]]\nbetween = [{i}, {j}]\nbandwidth_mbps = 1\n" for i, j in links)
    agents = agent_tables(num_agents, batches_per_s=1)
    config = small_config(method="gossip", local_epochs=local_epochs)
    setup = dataclasses.replace(
        small_setup(config, parse_fleet(agents + text, "by hand")),
        load_data=lambda place: data_of(sizes[place.partition_id]),
        num_samples=dict(enumerate(sizes)),
    )
    team = [Agent(agent, setup) for agent in setup.ids]
    for agent in team:
        agent.tensors["weights"] = torch.zeros(2)

    def step(agent):
        agent.tensors["own/body"] = agent.weights_P + torch.tensor([1.0 + agent.id, 0.0])

    monkeypatch.setattr(gossip, "train_alone", step)
    return team


def one_round(team, round_):
    for agent in team:
        agent.begin_round(round_)
    deliver(gossip.train, team)
    mail = deliver(gossip.push, team)
    deliver(gossip.merge, team, mail)
    return mail


def state(team):
    return [(agent.weights_P.tolist(), age_of(agent)) for agent in team]


def test_two_rounds_of_two_agents_by_hand(monkeypatch):
    team = by_hand(2, (10, 30), [(0, 1)], monkeypatch)
    for agent, weights in zip(team, ([0.0, 4.0], [10.0, 8.0]), strict=True):
        agent.tensors["weights"] = torch.tensor(weights)
    # round 1  trained   agent 0: (1, 4), age 10                  agent 1: (12, 8), age 30
    #          merged    a = 30 / 40: (0.25 + 9, 1 + 6), age 30   a = 10 / 40: (9 + 0.25, 6 + 1), age 30
    one_round(team, 1)
    assert state(team) == [([9.25, 7.0], 30), ([9.25, 7.0], 30)]
    # round 2  trained   (10.25, 7), age 40                       (11.25, 7), age 60
    #          merged    a = 60 / 100: 4.1 + 6.75, age 60         a = 40 / 100: 6.75 + 4.1, age 60
    one_round(team, 2)
    for weights, age in state(team):
        assert weights == pytest.approx([10.85, 7.0])
        assert age == 60


def test_several_models_are_merged_in_ascending_id_by_hand(monkeypatch):
    team = by_hand(3, (10, 20, 60), [(0, 1), (1, 2)], monkeypatch)
    for agent, first in zip(team, (4.0, 8.0, 16.0), strict=True):
        agent.tensors["weights"] = torch.tensor([first, 1.0])
    # trained   agent 0: 5, age 10     agent 1: 10, age 20     agent 2: 19, age 60
    # agent 1 gets both: first that of agent 0: a = 10 / 30, 10 * 2/3 + 5 / 3 = 25 / 3, age 20
    #                    then that of agent 2:  a = 60 / 80, 25 / 12 + 57 / 4 = 49 / 3, age 60
    mail = one_round(team, 1)
    assert [m.sender for m in mail if m.receiver == 1] == [0, 2]
    weights, age = state(team)[1]
    assert weights == pytest.approx([49 / 3, 1.0])
    assert age == 60


def test_a_model_is_older_by_the_samples_of_all_local_epochs(monkeypatch):
    team = by_hand(2, (10, 30), [(0, 1)], monkeypatch, local_epochs=3)
    team[0].begin_round(1)
    gossip.train(team[0], ())
    assert age_of(team[0]) == 30


def test_a_model_goes_to_linked_neighbours_only(monkeypatch):
    team = by_hand(4, (10, 10, 10, 10), [(0, 1), (1, 2), (2, 3)], monkeypatch)
    chosen = set()
    for round_ in range(1, 13):
        mail = one_round(team, round_)
        assert [letter.sender for letter in mail] == [0, 1, 2, 3], "each pushes to one"
        chosen |= {(letter.sender, letter.receiver) for letter in mail}
    assert chosen == {(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)}, "in the end to every neighbour"


def test_an_agent_without_a_neighbour_who_takes_part_trains_on_its_own():
    """On a ring, who is drawn may have no neighbour among those who are drawn."""
    config = small_config(method="gossip", topology="ring", participation=0.4, num_rounds=8, **QUICK)
    record, agents = run_local(config, small_fleet(5))
    setup, model_bytes = agents[0].setup, 4 * len(agents[0].weights_P)
    alone = 0
    for line in record.rounds:
        one, other = setup.present(line.round)
        linked = other in setup.profiles_at(1)[one].links
        alone += not linked
        assert line.bytes_sent == (2 * model_bytes if linked else 0)
    assert 0 < alone < 8
    assert record.rounds[-1].loss < record.rounds[0].loss


def test_links_that_do_not_connect_all_are_refused_before_training():
    text = fleet_text(4, bandwidth_mbps=0) + "[[link]]\nbetween = [0, 1]\nbandwidth_mbps = 9\n"
    with pytest.raises(InputError, match=r"^links = '1 links': do not connect all .* agent 0 to agent 2$"):
        small_setup(small_config(method="gossip"), parse_fleet(text, "test fleet"))


def test_an_agent_waits_for_what_came_and_a_round_ends_with_the_last_model():
    config = small_config(method="gossip", num_rounds=1, **QUICK)
    agents, mail = walk(small_setup(config, small_fleet(5)))
    for agent in agents.values():
        came = [letter.arrives_s for letter in mail if letter.receiver == agent.id]
        assert agent.clock.now_s == max([agent.notes["training_end_s"], *came])


def test_the_models_differ_and_an_age_outlives_a_round():
    record, agents = run_local(small_config(method="gossip", **QUICK), small_fleet(5))
    assert len({agent.weights_sha256() for agent in agents}) > 1
    assert all(age_of(agent) >= 40 * 2 for agent in agents), "40 samples in each of two rounds"
    assert record.rounds[1].loss < record.rounds[0].loss


def test_whoever_takes_over_a_model_takes_over_its_age(monkeypatch):
    holder, back = by_hand(2, [3, 4], [(0, 1)], monkeypatch)
    gossip.train(holder, ())
    back.tensors.take_over(holder.tensors.shared_arrays(), "model from agent 0")
    assert back.weights_P.equal(holder.weights_P)
    assert age_of(back) == age_of(holder) > 0
