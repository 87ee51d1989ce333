"""Peer to peer, a node that failed, came late or paused takes part again with the next message."""

import json
import time

import pytest

from comdml_flwr.agents.agent import Agent
from comdml_flwr.carriers.direct import deadlines
from comdml_flwr.carriers.direct import driver as direct
from comdml_flwr.carriers.direct import peers as links
from comdml_flwr.core.errors import RunError
from comdml_flwr.flower.clientapp import peer_client_app
from comdml_flwr.flower.records import integer
from comdml_flwr.flower.serverapp import direct_run
from tests.flower.test_direct import run_direct

LATE = 2


@pytest.fixture(autouse=True)
def _short_deadlines(monkeypatch):
    monkeypatch.setattr(deadlines, "SHORTEST_S", 2.0)
    monkeypatch.setattr(links, "LOOK_S", 0.1)
    monkeypatch.setattr(direct, "LINGER_S", 0.1)


def fails_when(monkeypatch, is_so):
    real = Agent.weights_sha256

    def weights_sha256(agent):
        if is_so(agent):
            raise ValueError("disk full")
        return real(agent)

    monkeypatch.setattr(Agent, "weights_sha256", weights_sha256)


def gone_in(run):
    return [json.loads(line)["gone"] for line in (run / "rounds.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "keys", [{}, pytest.param({"method": "gossip"}, marks=pytest.mark.slow)], ids=["comdml", "gossip"]
)
def test_rounds_shorter_than_a_start_cost_nobody_its_place(keys, tmp_path, monkeypatch):
    """The others could end both rounds of a message before the one that had failed has started."""
    fails_when(monkeypatch, lambda agent: agent.id == LATE and agent.round == 1)
    real = peer_client_app.run_rounds_of

    def starts_late(agent, facts, context, folder, on_round):
        if agent.id == LATE and integer(facts, "first") > 1:
            time.sleep(2.5)
        return real(agent, facts, context, folder, on_round)

    monkeypatch.setattr(peer_client_app, "run_rounds_of", starts_late)
    run = run_direct(tmp_path, num_rounds=5, rounds_per_message=2, local_epochs=2, **keys)
    assert gone_in(run) == [[LATE], [LATE], [], [], []]
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["left_out"]) == ("complete", {str(LATE): 2})


@pytest.mark.slow
def test_one_that_never_starts_again_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    """In the first two messages after its failure, and then no more."""
    fails_when(monkeypatch, lambda agent: agent.id == LATE and agent.round == 1)
    lacked, real = [], peer_client_app.run_rounds_of

    def never_again(agent, facts, context, folder, on_round):
        if agent.id == 0:
            lacked.append((facts["lacking"], facts["absent"]))
        if agent.id == LATE and integer(facts, "first") > 1:
            raise ValueError("disk full")
        return real(agent, facts, context, folder, on_round)

    monkeypatch.setattr(peer_client_app, "run_rounds_of", never_again)
    monkeypatch.setattr(direct_run, "SHORTEST_START_S", 1.0)
    run = run_direct(tmp_path, num_rounds=4, rounds_per_message=1)
    assert gone_in(run) == [[LATE]] * 4
    assert lacked == [([], []), ([LATE], []), ([LATE], []), ([], [LATE])]
    assert json.loads((run / "summary.json").read_text())["status"] == "incomplete"


def test_one_that_most_others_left_in_one_round_does_not_train_on(tmp_path, monkeypatch):
    """The rounds before count, and the run ends with the reason of the first."""
    fails_when(monkeypatch, lambda agent: agent.id != LATE and agent.round >= 2)
    monkeypatch.setattr(direct_run, "SHORTEST_START_S", 2.0)
    line = r"^agent 0 failed in rounds 1 to 3: .*: ValueError: disk full$"
    with pytest.raises(RunError, match=line):
        run_direct(tmp_path, num_rounds=6, rounds_per_message=3)
    (run,) = tmp_path.iterdir()
    assert gone_in(run) == [[]]
    assert "disk full" in (run / "failed.txt").read_text()


def test_when_all_others_failed_once_they_take_part_in_the_next_message(tmp_path, monkeypatch):
    fails_when(monkeypatch, lambda agent: agent.id != LATE and agent.round == 2)
    run = run_direct(tmp_path, num_rounds=4, rounds_per_message=2, min_agents=1)
    assert gone_in(run) == [[], [0, 1, 3], [], []]
    lines = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    assert [line["num_agents"] for line in lines] == [4, 1, 4, 4]
