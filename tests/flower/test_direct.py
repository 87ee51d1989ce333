"""Rounds peer to peer under Flower: many for each message, the outcome of the local carrier."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from comdml_flwr.agents.agent import Agent
from comdml_flwr.carriers.direct import deadlines
from comdml_flwr.carriers.transport.listening import check_listening
from comdml_flwr.carriers.transport.members import Limits
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.flower import mail
from comdml_flwr.flower.clientapp import peer_client_app, session
from comdml_flwr.flower.clientapp.direct_rounds import limits_of
from comdml_flwr.flower.serverapp import direct_run
from comdml_flwr.flower.serverapp.serverless_run import run_serverless
from tests.carriers.direct_runs import free_addresses
from tests.flower.loop_grid import LoopGrid, quiet_terminal
from tests.small import CATALOGUE, fleet_text, run_local, small_config, small_fleet, small_setup

NUM_AGENTS = 4


class SideBySideGrid(LoopGrid):
    """Calls the ClientApp of all nodes side by side, as SuperNodes do: they mail each other."""

    def push_messages(self, messages):
        messages = list(messages)
        with ThreadPoolExecutor(len(messages)) as pool:
            return list(pool.map(self._handle, messages))

    def tell_addresses(self, addresses):
        for context, address in zip(self._contexts.values(), addresses, strict=True):
            context.node_config["p2p-address"] = address


def run_direct(folder, addresses=None, node_config=lambda place: {}, **keys):
    """Run under Flower's messages; return the run's folder."""
    config = small_config(**keys).model_copy(update={"carrier": "direct", "results_dir": str(folder)})
    app = peer_client_app.peer_client_app(models=CATALOGUE.models, datasets=CATALOGUE.datasets)
    grid = SideBySideGrid(app, NUM_AGENTS, config.with_defaults_named(), node_config)
    grid.tell_addresses(addresses or free_addresses(NUM_AGENTS))
    run_serverless(grid, config, fleet_text(NUM_AGENTS), quiet_terminal(config.num_rounds))
    (run,) = folder.iterdir()
    return run


@pytest.mark.parametrize(
    "keys", [pytest.param({}, marks=pytest.mark.slow), {"participation": 0.5}], ids=["all", "half of them"]
)
def test_a_run_ends_with_the_round_that_reaches_its_target(keys, tmp_path):
    """Whoever was absent in it, too, though a message may have held more rounds."""
    keys |= {"num_rounds": 5, "local_epochs": 1, "batch_size": 16, "learning_rate": 0.02}
    whole, _ = run_local(small_config(**keys), small_fleet(NUM_AGENTS))
    accuracies = [line.score for line in whole.rounds]
    target = max(accuracies[:3])
    first = accuracies.index(target) + 1
    keys["target_metric"] = target
    here, _ = run_local(small_config(**keys), small_fleet(NUM_AGENTS))
    run = run_direct(tmp_path, **keys)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["stopped"] == f"target-metric reached in round {first}"
    assert summary["weights_sha256"] == here.weights_sha256
    lines = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    assert [line["accuracy"] for line in lines] == accuracies[:first]
    assert [line["gone"] for line in lines] == [[]] * first


@pytest.mark.parametrize(
    ("rounds_per_message", "shared"),
    [(1, True), (2, True), (10, True), (2, False)],
    ids=["1", "2", "10", "2, folders of their own"],
)
def test_the_weights_and_the_clock_are_those_of_the_local_carrier(
    rounds_per_message, shared, tmp_path, monkeypatch
):
    if not shared:
        monkeypatch.setattr(session, "is_shared", lambda folder, token: False)
    keys = {"num_rounds": 3, "participation": 0.8, "rounds_per_message": rounds_per_message}
    here, _ = run_local(small_config(**keys), small_fleet(NUM_AGENTS))
    run = run_direct(tmp_path, **keys)
    assert json.loads((run / "summary.json").read_text())["weights_sha256"] == here.weights_sha256
    lines = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    assert [line["virtual_time_s"] for line in lines] == [r.virtual_time_s for r in here.rounds]
    assert [line["bytes_sent"] for line in lines] == [r.bytes_sent for r in here.rounds]
    assert all(line["elapsed_s"] > 0 for line in lines)


def test_a_message_is_one_round_where_the_rate_follows_the_metric(tmp_path, monkeypatch):
    """The count of reductions goes from the ServerApp's records to all nodes with the next message."""
    asked, ask = [], direct_run.DirectRun._ask
    monkeypatch.setattr(
        direct_run.DirectRun, "_ask", lambda self, *span: asked.append(span) or ask(self, *span)
    )
    keys = {"method": "allreduce", "num_rounds": 4, "optimizer": "sgd", "learning_rate": 1e-9}
    keys |= {"schedule": "plateau", "schedule_patience": 1}
    here, _ = run_local(small_config(**keys), small_fleet(NUM_AGENTS))
    run = run_direct(tmp_path, **keys)
    assert [span[:2] for span in asked] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    lines = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    rates = [line["metrics"]["learning_rate"] for line in lines]
    assert rates == [line.metrics["learning_rate"] for line in here.rounds]
    assert rates[-1] < rates[0], "at such a rate nothing is learned"
    assert json.loads((run / "summary.json").read_text())["weights_sha256"] == here.weights_sha256


def test_nodes_with_folders_of_their_own_remove_them(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "is_shared", lambda folder, token: False)
    monkeypatch.setattr(mail.tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    run_direct(tmp_path / "results", num_rounds=1)
    assert list((tmp_path / "tmp").rglob("*.*")) == []


@pytest.mark.parametrize(
    ("addresses", "line"),
    [
        ([7] * NUM_AGENTS, "--node-config p2p-address = 7: must be HOST:PORT for carrier = direct"),
        (["nowhere"] * NUM_AGENTS, "--node-config p2p-address = 'nowhere': must be HOST:PORT"),
        (
            [f"192.0.2.1:{port}" for port in range(4000, 4000 + NUM_AGENTS)],
            "--node-config p2p-certificates = None: must be given where the p2p-address is 192.0.2.1:400",
        ),
    ],
    ids=["no text", "no address", "no loopback address without certificates"],
)
def test_what_a_node_does_not_tell_is_one_line(addresses, line, tmp_path):
    with pytest.raises(RunError) as caught:
        run_direct(tmp_path, addresses=addresses)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def fail_in_round_2(monkeypatch, agents):
    real = Agent.weights_sha256

    def torn(agent):
        if agent.id in agents and agent.round == 2:
            raise ValueError("disk\nfull")
        return real(agent)

    monkeypatch.setattr(Agent, "weights_sha256", torn)
    monkeypatch.setattr(deadlines, "SHORTEST_S", 3.0)


def test_a_run_takes_mail_as_long_as_its_model_and_hardly_longer():
    """Whatever a member may declare, it gets no more of another one's memory than the run needs."""
    agent = Agent(0, small_setup(small_config(), small_fleet(NUM_AGENTS)))
    bound, header = limits_of(agent, 20.0).max_envelope_bytes, Limits().max_header_bytes
    batch_bytes = max(cut.bytes_per_batch for cut in agent.setup.cuts)
    assert agent.weights_P.nbytes + batch_bytes < bound - header < 2 * (agent.weights_P.nbytes + batch_bytes)
    assert Limits().max_envelope_bytes > 8 << 30, "where nobody says what the model is"


def test_one_agent_that_fails_is_told_and_the_others_go_on(tmp_path, monkeypatch):
    fail_in_round_2(monkeypatch, {2})
    run = run_direct(tmp_path, num_rounds=3, rounds_per_message=2)
    lines = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    assert [line["gone"] for line in lines] == [[], [2], []]
    assert (run / "summary.json").exists()


def test_one_agent_that_failed_is_let_in_with_the_next_message(tmp_path, monkeypatch):
    fail_in_round_2(monkeypatch, {2})
    run = run_direct(tmp_path, num_rounds=4, rounds_per_message=2)
    lines = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    assert [line["gone"] for line in lines] == [[], [2], [], []]


def test_one_agent_whose_reply_or_report_cannot_be_costs_its_own_part_of_the_message(tmp_path, monkeypatch):
    real = peer_client_app.run_rounds_of

    def run_rounds_of(agent, facts, *rest):
        reply = real(agent, facts, *rest)
        if agent.id == 2 and facts["first"] == 1:
            reply["reports"] = '{"1": [], "seven": {}}'
        elif agent.id == 2:
            told = json.loads(reply["reports"])
            told["3"]["weights_sha256"], told["4"]["elapsed_s"] = "a" * 64, -1.0
            reply["reports"] = json.dumps(told)
        return reply

    monkeypatch.setattr(peer_client_app, "run_rounds_of", run_rounds_of)
    run = run_direct(tmp_path, num_rounds=4, rounds_per_message=2)
    lines = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    assert [line["num_agents"] for line in lines] == [NUM_AGENTS - 1] * 4
    assert [line["distrusted"] for line in lines] == [[], [], [2], [2]]
    assert json.loads((run / "summary.json").read_text())["status"] == "complete"


def test_when_all_agents_fail_the_run_ends_in_one_line(tmp_path, monkeypatch):
    fail_in_round_2(monkeypatch, {*range(NUM_AGENTS)})
    place = r"tests/flower/test_direct\.py, line \d+, in torn"
    line = rf"^agent 0 failed in rounds 1 to 2: {place}: ValueError: disk full$"
    with pytest.raises(RunError, match=line):
        run_direct(tmp_path)
    (run,) = tmp_path.iterdir()
    assert (run / "failed.txt").exists()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:0", "must name a port, from 1 to 65535"),
        ("in use", "cannot be listened on here (Address already in use)"),
    ],
)
def test_an_address_that_cannot_be_listened_on_is_refused_before_training(address, reason, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addresses = free_addresses(NUM_AGENTS)
        addresses[1] = f"127.0.0.1:{taken.getsockname()[1]}" if address == "in use" else address
        with pytest.raises(RunError) as caught:
            run_direct(tmp_path, addresses)
    assert str(caught.value).startswith(f"--node-config p2p-address = '{addresses[1]}': {reason}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("listen", "reason"),
    [
        ("192.0.2.1:9500", "Cannot assign requested address"),
        ("no-such-host.invalid:9500", ""),
    ],
)
def test_another_machines_address_cannot_be_listened_on(listen, reason):
    with pytest.raises(InputError) as caught:
        check_listening(listen, "p2p-listen")
    assert str(caught.value).startswith(f"p2p-listen = '{listen}': cannot be listened on here ({reason}")


def gone_in(run):
    return [json.loads(line)["gone"] for line in (run / "rounds.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_who_is_revoked_while_rounds_run_is_out_with_the_next_and_the_others_go_on(tmp_path, monkeypatch):
    """The list is read after each round; here it is written in the first."""
    path = tmp_path / "revoked"
    path.write_text("")
    end_round = Agent.end_round

    def revoke(agent):
        path.write_text("comdml://agent/2\n")
        return end_round(agent)

    monkeypatch.setattr(Agent, "end_round", revoke)
    monkeypatch.setattr(direct_run, "SHORTEST_START_S", 2.0)
    (folder := tmp_path / "results").mkdir()
    run = run_direct(
        folder, node_config=lambda place: {} if place == 2 else {"revoked": str(path)}, num_rounds=3
    )
    assert gone_in(run) == [[], [2], [2]]


def test_a_node_leaves_where_its_policy_wants_more_members_than_are_left(tmp_path, monkeypatch):
    fail_in_round_2(monkeypatch, {3})
    (folder := tmp_path / "results").mkdir()
    run = run_direct(
        folder,
        node_config=lambda place: {"min-members": 4} if place == 0 else {},
        num_rounds=3,
        rounds_per_message=10,
    )
    assert gone_in(run) == [[], [3], [0, 3]]
