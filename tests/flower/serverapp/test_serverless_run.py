"""The ServerApp of a serverless run is a post office: it holds no weight and no plan, and opens no mail."""

import gc
import json
import re
import secrets
import sys

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from comdml_flwr.core import wire
from comdml_flwr.core.errors import RunError
from comdml_flwr.core.program import Step
from comdml_flwr.flower import mail
from comdml_flwr.flower.clientapp import peer_client_app, session
from comdml_flwr.flower.records import facts_of
from comdml_flwr.flower.serverapp import grid_carrier, nodes
from comdml_flwr.flower.serverapp.asked_run import as_result
from comdml_flwr.flower.serverapp.grid_carrier import GridCarrier
from comdml_flwr.flower.serverapp.serverless_run import run_serverless
from comdml_flwr.planning.types import Plan
from tests.flower.loop_grid import LoopGrid, greeted, grid_config, quiet_terminal, run_on_grid
from tests.small import CATALOGUE, fleet_text, idle_program, small_config


def real_app():
    return peer_client_app.peer_client_app(models=CATALOGUE.models, datasets=CATALOGUE.datasets)


def test_letters_of_random_bytes_arrive_as_they_were_sent():
    """Opening one would fail: the bytes mean nothing."""
    sent, received = {}, {}
    app = ClientApp()

    @app.train("steps")
    def steps(message, context):
        agent = context.node_config["partition-id"]
        facts = facts_of(message)
        received[agent, facts["exchange"]] = facts["packed"]
        packed = [secrets.token_bytes(100) for _ in range(3)]
        sent[agent, facts["exchange"]] = packed
        reply = {"receivers": [0, 1, 2], "packed": packed, "report": "{}"}
        return Message(RecordDict({"facts": ConfigRecord(reply)}), reply_to=message)

    grid = LoopGrid(app, 3, {})
    nodes = dict(enumerate(grid.get_node_ids()))
    carrier = GridCarrier(greeted(grid, nodes), idle_program("only"))
    for round_ in (1, 2):
        carrier.exchange({agent: (Step(round_, 0),) for agent in nodes})
    assert received[1, 1] == []
    for receiver in nodes:
        assert received[receiver, 2] == [sent[sender, 1][receiver] for sender in nodes]


def test_no_payload_is_decoded_and_no_mail_file_is_read_outside_the_agents(tmp_path, monkeypatch):
    config = grid_config(small_config(num_rounds=2), tmp_path)
    grid = LoopGrid(real_app(), 5, config.with_defaults_named())
    opened = []

    def only_by_agents(function):
        def watched(*args):
            assert grid.inside_client, "the ServerApp opened a payload"
            opened.append(function.__name__)
            return function(*args)

        return watched

    monkeypatch.setattr(wire, "_decode", only_by_agents(wire._decode))
    monkeypatch.setattr(mail, "read_file", only_by_agents(mail.read_file))
    record = run_serverless(grid, config, fleet_text(5), quiet_terminal(2))
    assert len(as_result(record).arrays) == 0
    assert {"_decode", "read_file"} <= set(opened)


def test_nothing_that_the_server_app_reaches_is_a_weight_or_a_plan(tmp_path):
    config = grid_config(small_config(num_rounds=2), tmp_path)
    grid = LoopGrid(real_app(), 5, config.with_defaults_named())
    found, checks = [], []

    class Watched(LoopGrid):
        def pull_messages(self, message_ids):
            held = _held_by_the_server_app()
            found.extend(_weights_and_plans(held))
            checks.append(any(isinstance(thing, GridCarrier) for thing in held))
            return super().pull_messages(message_ids)

    grid.__class__ = Watched
    run_serverless(grid, config, fleet_text(5), quiet_terminal(2))
    assert sum(checks) > 8, "carrier, records and all that they hold were looked at"
    assert found == []


def _held_by_the_server_app():
    """Return what the functions of ours hold that wait for the nodes' replies at the moment."""
    held, frame = [], sys._getframe()
    while frame:
        if frame.f_globals["__name__"].startswith("comdml_flwr."):
            held.extend(frame.f_locals.values())
        frame = frame.f_back
    return held


def _weights_and_plans(root):
    """Walk everything that is reachable from an object, but not through nodes, modules and classes."""
    seen, todo, found = set(), [root], []
    while todo:
        thing = todo.pop()
        if (
            id(thing) in seen
            or isinstance(thing, type)
            or callable(thing)
            or isinstance(thing, LoopGrid)
            or type(thing).__name__ == "module"
        ):
            continue
        seen.add(id(thing))
        if isinstance(thing, torch.Tensor | np.ndarray | Plan | ArrayRecord):
            found.append(thing)
        todo.extend(gc.get_referents(thing))
    return found


def test_the_walk_would_find_a_weight():
    terminal = quiet_terminal(1)
    terminal.kept = {"somewhere": [np.zeros(3)]}
    assert len(_weights_and_plans(terminal)) == 1


def test_it_waits_until_all_nodes_are_there(tmp_path):
    config = grid_config(small_config(num_rounds=1), tmp_path)
    grid = LoopGrid(real_app(), 3, config.with_defaults_named())
    grid.num_nodes_there = 0
    arrivals = iter([0, 1, 1, 2, 3])

    class Filling(LoopGrid):
        def get_node_ids(self):
            self.num_nodes_there = next(arrivals, 3)
            return super().get_node_ids()

    grid.__class__ = Filling
    run_serverless(grid, config, fleet_text(3), quiet_terminal(1))
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "summary.json").read_text())["num_agents"] == 3


def test_missing_nodes_are_an_error_after_the_timeout(tmp_path):
    config = grid_config(small_config(num_rounds=1), tmp_path)
    grid = LoopGrid(real_app(), 3, config.with_defaults_named())
    grid.num_nodes_there = 2
    line = r"^only 2 of 3 nodes were there after 0\.2 s, none with partition-id 2$"
    with pytest.raises(RunError, match=line):
        run_serverless(grid, config, fleet_text(3), quiet_terminal(1), timeout_s=0.2)
    assert list(tmp_path.iterdir()) == []


def test_who_is_missing_is_told_while_a_run_waits(tmp_path, monkeypatch):
    monkeypatch.setattr(nodes, "SAY_AFTER_S", 0.1)
    config, terminal = grid_config(small_config(num_rounds=1), tmp_path), quiet_terminal(1)
    grid = LoopGrid(real_app(), 3, config.with_defaults_named())
    grid.num_nodes_there = 1
    with pytest.raises(RunError):
        run_serverless(grid, config, fleet_text(3), terminal, timeout_s=0.5)
    told = "  1 of 3 nodes are there, none with partition-id 1, 2; waiting for the others"
    assert terminal.console.file.getvalue().splitlines().count(told) == 1


def test_a_node_that_does_not_reply_to_the_greeting_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(nodes, "GOODBYE_S", 0.1)

    class SilentGrid(LoopGrid):
        def pull_messages(self, message_ids):
            return [m for m in super().pull_messages(message_ids) if m.metadata.src_node_id != 1000 - 1]

    config = grid_config(small_config(num_rounds=1), tmp_path)
    grid = SilentGrid(real_app(), 3, config.with_defaults_named())
    grid.get_node_ids = lambda: [1000, 999, 998]
    line = r"^1 of 3 nodes did not reply in 3 s \(agents 0, 2 did\)$"
    with pytest.raises(RunError, match=line):
        run_serverless(grid, config, fleet_text(3), quiet_terminal(1), timeout_s=3)


@pytest.mark.parametrize("digest", ["code_digest", "app_digest"])
def test_a_node_with_other_code_is_refused_in_one_line(tmp_path, monkeypatch, digest):
    config = grid_config(small_config(num_rounds=1), tmp_path)
    monkeypatch.setattr(nodes, digest, lambda: "of another checkout")
    with pytest.raises(RunError, match="runs other code") as caught:
        run_on_grid(config, fleet_text(2), 2)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def fail_in_round_2(monkeypatch, agents):
    real = peer_client_app.run_steps

    def fails_later(agent, program, steps, *rest):
        if agent.id in agents and steps[0].round == 2:
            raise ValueError("disk\nfull")
        return real(agent, program, steps, *rest)

    monkeypatch.setattr(peer_client_app, "run_steps", fails_later)


def test_when_all_agents_fail_the_run_ends_with_one_line_and_no_summary(tmp_path, monkeypatch):
    config = grid_config(small_config(num_rounds=2), tmp_path)
    fail_in_round_2(monkeypatch, {0, 1, 2})
    with pytest.raises(RunError, match=r"^agent 0 failed in round 2, .*: ValueError: disk full"):
        run_on_grid(config, fleet_text(3), 3)
    (folder,) = tmp_path.iterdir()
    assert not (folder / "summary.json").exists()
    assert "agent 0 failed" in (folder / "failed.txt").read_text()


def test_when_one_agent_fails_the_others_go_on_and_the_reason_is_told(tmp_path, monkeypatch):
    config = grid_config(small_config(num_rounds=2), tmp_path)
    fail_in_round_2(monkeypatch, {1})
    _, terminal = run_on_grid(config, fleet_text(3), 3)
    (folder,) = tmp_path.iterdir()
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    assert [line["gone"] for line in lines] == [[], [1]]
    printed = terminal.console.file.getvalue()
    assert re.search(r"^agent 1 failed in round 2, .*: ValueError: disk full$", printed, re.MULTILINE)
    assert "gone: agent 1; the others go on" in printed


def test_an_error_of_flower_is_told_in_one_line(tmp_path):
    app = ClientApp()

    @app.train("steps")
    def steps(message, context):
        return Message(Error(code=2, reason="many\nlines\nof trace"), reply_to=message)

    grid = LoopGrid(app, 1, {})
    carrier = GridCarrier(greeted(grid, {7: next(iter(grid.get_node_ids()))}), idle_program("only"))
    with pytest.raises(RunError, match=r"agent 7 failed in round 1, only: Flower error 2: of trace"):
        carrier.exchange({7: (Step(1, 0),)})


def test_what_the_run_lacks_shows_before_any_training(tmp_path):
    config = grid_config(
        small_config(dataset="cifar-10", data_dir=str(tmp_path / "none")), tmp_path / "results"
    )
    with pytest.raises(RunError, match="none"):
        run_on_grid(config, fleet_text(2), 2)
    assert not (tmp_path / "results").exists()


def test_a_fleet_with_too_few_agents_is_refused(tmp_path):
    config = grid_config(small_config(), tmp_path)
    with pytest.raises(RunError, match=r"has 2 agents, too few for 3 "):
        run_on_grid(config, fleet_text(2), 3)


def test_the_runs_folder_is_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(mail.tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    run_on_grid(grid_config(small_config(num_rounds=1), tmp_path / "results"), fleet_text(3), 3)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_node_that_does_not_see_the_runs_folder_keeps_its_own_and_removes_it(tmp_path, monkeypatch):
    """Nodes 0 and 2 see the folder, node 1 does not: envelopes then hold what they carry."""
    monkeypatch.setattr(mail.tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    seen_by, real = [], session.is_shared
    app = real_app()

    def watching(message, context):
        seen_by.append(context.node_config["partition-id"])
        return app(message, context)

    def not_by_the_second(folder, token):
        return seen_by[-1] != 1 and real(folder, token)

    monkeypatch.setattr(session, "is_shared", not_by_the_second)
    config = grid_config(small_config(num_rounds=2), tmp_path / "results")
    grid = LoopGrid(watching, 3, config.with_defaults_named())
    run_serverless(grid, config, fleet_text(3), quiet_terminal(2))
    assert len(list((tmp_path / "results").glob("*/summary.json"))) == 1
    assert list((tmp_path / "tmp").rglob("*.*")) == []


def test_a_node_that_does_not_reply_is_given_up_after_three_times_a_round(tmp_path, monkeypatch):
    """It is asked again with the next round, as Flower says that it is there."""

    class SilentGrid(LoopGrid):
        def pull_messages(self, message_ids):
            return [m for m in super().pull_messages(message_ids) if not self._is_held_back(m)]

        def _is_held_back(self, message):
            mine = message.metadata.src_node_id == 1000 - 1
            return mine and message.metadata.group_id.startswith("round 3, train")

    monkeypatch.setattr(grid_carrier, "SHORTEST_PATIENCE_S", 0.5)
    config = grid_config(small_config(num_rounds=4, method="allreduce"), tmp_path)
    app = peer_client_app.peer_client_app(models=CATALOGUE.models, datasets=CATALOGUE.datasets)
    grid = SilentGrid(app, 3, config.with_defaults_named())
    run_serverless(grid, config, fleet_text(3), quiet_terminal(4))
    (folder,) = tmp_path.iterdir()
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    assert [line["gone"] for line in lines] == [[], [], [1], []]


class UnregisteringGrid(LoopGrid):
    """Flower, where the last node is unregistered in round 2."""

    def push_messages(self, messages):
        messages = list(messages)
        rounds = [n for message in messages for n in message.content["facts"].get("rounds", [])]
        if min(rounds, default=0) == 2:
            self.num_nodes_there = 2
        there = {*self.get_node_ids()}
        return [self._handle(m) if m.metadata.dst_node_id in there else None for m in messages]


def test_a_node_that_is_unregistered_in_the_middle_of_a_run_is_gone_and_the_others_go_on(tmp_path):
    config = grid_config(small_config(num_rounds=3), tmp_path)
    app = peer_client_app.peer_client_app(models=CATALOGUE.models, datasets=CATALOGUE.datasets)
    grid = UnregisteringGrid(app, 3, config.with_defaults_named())
    terminal = quiet_terminal(config.num_rounds)
    record = run_serverless(grid, config, fleet_text(3), terminal)
    assert [line.gone for line in record.rounds] == [[], [2], [2]]
    assert "agent 2 failed" in (printed := terminal.console.file.getvalue())
    assert "its node was unregistered: Flower takes no message for it" in printed
