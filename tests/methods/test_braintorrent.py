"""The laws of BrainTorrent, with weights and versions computed by hand."""

import dataclasses
from itertools import pairwise

import pytest
import torch

from comdml_flwr.agents.agent import Agent
from comdml_flwr.methods import braintorrent
from comdml_flwr.methods.braintorrent import versions_of, whose_turn
from comdml_flwr.methods.phases.training import train_alone
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from tests.fleets import agent_tables
from tests.methods.stepping import data_of, deliver, walk
from tests.small import run_local, small_config, small_fleet, small_setup

QUICK = {"batch_size": 16, "local_epochs": 1}
SAMPLES = (10, 30, 60)


@pytest.fixture
def team(monkeypatch):
    """Return three agents with models of two weights, which a training moves by (1 + id, 0)."""
    agents = agent_tables(3, batches_per_s=1)
    setup = dataclasses.replace(
        small_setup(small_config(method="braintorrent"), parse_fleet(agents, "by hand")),
        load_data=lambda place: data_of(SAMPLES[place.partition_id]),
        num_samples=dict(enumerate(SAMPLES)),
    )
    team = [Agent(agent, setup) for agent in setup.ids]
    for agent, weights in zip(team, ([0.0, 4.0], [6.0, 8.0], [7.0, 0.0]), strict=True):
        agent.tensors["weights"] = torch.tensor(weights)

    def step(agent, *, shuffle):
        agent.tensors["own/body"] = agent.weights_P + torch.tensor([1.0 + agent.id, 0.0])

    monkeypatch.setattr(braintorrent, "train_alone", step)
    return team


def take_turns(team, turns, monkeypatch):
    """Let agents take turns in this order; yield after each who sent its model."""
    monkeypatch.setattr(braintorrent, "whose_turn", lambda agent, turn: turns[turn - 1])
    for number in range(1, len(turns) + 1):
        questions = deliver(braintorrent.ask(number), team)
        answers = deliver(braintorrent.answer, team, questions)
        deliver(braintorrent.learn(number), team, answers)
        yield [letter.sender for letter in answers if letter.arrays]


def test_three_turns_by_hand(team, monkeypatch):
    for agent in team:
        agent.begin_round(1)
    deliver(braintorrent.start, team)
    # start: all train          agent 0: (1, 4)     agent 1: (8, 8)     agent 2: (10, 0)     all of version 1
    assert [agent.weights_P.tolist() for agent in team] == [[1, 4], [8, 8], [10, 0]]
    assert [versions_of(agent) for agent in team] == [{0: 1}, {1: 1}, {2: 1}]

    turns = take_turns(team, (0, 1, 0), monkeypatch)
    # turn of 0: both others are new to it; 10, 30 and 60 samples
    #   merged (0.1 + 2.4 + 6, 0.4 + 2.4 + 0) = (8.5, 2.8); trained (9.5, 2.8), version 2
    assert next(turns) == [1, 2]
    assert team[0].weights_P.tolist() == pytest.approx([9.5, 2.8])
    assert versions_of(team[0]) == {0: 2, 1: 1, 2: 1}
    # turn of 1: both are new to it
    #   merged (0.95 + 2.4 + 6, 0.28 + 2.4 + 0) = (9.35, 2.68); trained (11.35, 2.68), version 2
    assert next(turns) == [0, 2]
    assert team[1].weights_P.tolist() == pytest.approx([11.35, 2.68])
    assert versions_of(team[1]) == {1: 2, 0: 2, 2: 1}
    # turn of 0: only 1 is newer than it knows; 10 and 30 samples
    #   merged (2.375 + 8.5125, 0.7 + 2.01) = (10.8875, 2.71); trained (11.8875, 2.71), version 3
    assert next(turns) == [1]
    assert team[0].weights_P.tolist() == pytest.approx([11.8875, 2.71])
    assert versions_of(team[0]) == {0: 3, 1: 2, 2: 1}
    assert team[2].weights_P.tolist() == [10, 0], "whose turn it was not is as it was"


def test_a_version_is_not_sent_again(team, monkeypatch):
    for agent in team:
        agent.begin_round(1)
    deliver(braintorrent.start, team)
    assert list(take_turns(team, (2, 2, 2), monkeypatch)) == [[0, 1], [], []]
    assert versions_of(team[2])[2] == 4, "it trains in each of its turns"


def test_the_start_is_once_and_versions_outlive_a_round(team, monkeypatch):
    for round_ in (1, 2):
        for agent in team:
            agent.begin_round(round_)
        deliver(braintorrent.start, team)
        sent = list(take_turns(team, (0,), monkeypatch))
        assert sent == [[1, 2] if round_ == 1 else []]
    assert [versions_of(agent)[agent.id] for agent in team] == [3, 1, 1]


def test_all_know_whose_turn_it_is_and_only_who_takes_part_has_one():
    setup = small_setup(small_config(method="braintorrent", participation=0.6), small_fleet(5))
    drawn = set()
    for round_ in range(1, 9):
        agents = [Agent(agent, setup, round=round_) for agent in setup.ids]
        for turn in range(1, 4):
            (whose,) = {whose_turn(agent, turn) for agent in agents}
            assert whose in setup.present(round_)
            drawn.add(whose)
    assert drawn == set(setup.ids)


def test_a_round_is_as_many_turns_as_agents_take_part():
    config = small_config(method="braintorrent", participation=0.6, num_rounds=1, **QUICK)
    setup = small_setup(config, small_fleet(5))
    agents, mail = walk(setup)
    assert len(agents) == 3
    asked = [letter for letter in mail if letter.kind == "ask"]
    assert len(asked) == 3 * 2, "three turns, in each of which one asks the two others"


def test_turns_follow_each_other_on_the_clock(monkeypatch):
    trained = []

    def train(agent, *, shuffle):
        start_s = agent.clock.now_s
        train_alone(agent, shuffle=shuffle)
        trained.append((shuffle, start_s, agent.clock.now_s))

    monkeypatch.setattr(braintorrent, "train_alone", train)
    config = small_config(method="braintorrent", num_rounds=1, **QUICK)
    record, _ = run_local(config, small_fleet(5))
    starts = [(start_s, end_s) for shuffle, start_s, end_s in trained if shuffle == "shuffle"]
    turns = [(start_s, end_s) for shuffle, start_s, end_s in trained if shuffle != "shuffle"]
    assert (len(starts), len(turns)) == (5, 5)
    assert {start_s for start_s, _ in starts} == {0}
    assert all(after[0] >= before[1] for before, after in pairwise(turns))
    assert turns[0][0] >= max(end_s for _, end_s in starts), "who is asked answers when its start is done"
    assert record.rounds[0].virtual_time_s == record.rounds[0].makespan_s == turns[-1][1]


def test_each_turn_of_an_agent_draws_another_order_of_its_batches():
    setup = small_setup(small_config(method="braintorrent"), small_fleet(2))
    agent = Agent(0, setup, round=1)
    one, other = (torch.cat(agent.batches(f"shuffle of turn {turn}")) for turn in (1, 2))
    assert not torch.equal(one, other)
    assert torch.equal(one.sort().values, other.sort().values)
