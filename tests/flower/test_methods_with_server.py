"""Methods with a server through Flower's messages: the same outcome as on the local carrier."""

import json

import pytest

from clients.fedavg import add_fedavg
from comdml_flwr.core.errors import RunError
from comdml_flwr.flower.clientapp.peer_client_app import peer_client_app
from comdml_flwr.runs.records import as_json
from strategies.fedavg import run_fedavg
from strategies.splitfed import run_splitfed
from tests.broken import break_data
from tests.flower.loop_grid import LoopGrid, grid_config, quiet_terminal
from tests.small import CATALOGUE, fleet_text, run_local, small_config, small_fleet

NUM_AGENTS = 5
RUNS = {"fedavg": run_fedavg, "splitfed": run_splitfed}
FOLLOWS_METRIC = {
    "optimizer": "sgd",
    "learning_rate": 1e-9,  # nothing is learned, so each round but the first reduces it
    "schedule": "plateau",
    "schedule_patience": 1,
    "num_rounds": 3,
}


def run_with_server(config, folder, *, watch=lambda grid: None):
    """Run a method with a server over a LoopGrid; return its folder and Flower's result."""
    config = grid_config(config, folder)
    app = add_fedavg(peer_client_app(models=CATALOGUE.models, datasets=CATALOGUE.datasets), CATALOGUE)
    grid = LoopGrid(app, NUM_AGENTS, config.with_defaults_named())
    watch(grid)
    terminal = quiet_terminal(config.num_rounds)
    result = RUNS[config.method](grid, config, fleet_text(NUM_AGENTS), CATALOGUE, terminal)
    (run,) = folder.iterdir()
    return run, result


def lines(run):
    return [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "keys",
    [
        {"method": "fedavg"},
        {"method": "fedavg", "model": "resnet-20", "num_rounds": 1},
        {"method": "fedavg", "participation": 0.5, "num_rounds": 4, "partition": "dirichlet"},
        {"method": "splitfed", "cut": 2},
        {"method": "splitfed", "cut": 2, "splitfed_version": 2, "participation": 0.5, "num_rounds": 3},
        {"method": "fedavg", **FOLLOWS_METRIC},
        {"method": "splitfed", "cut": 2, **FOLLOWS_METRIC},
    ],
    ids=[
        "fedavg",
        "fedavg, resnet",
        "fedavg, half take part",
        "splitfed v1",
        "splitfed v2, half take part",
        "fedavg, a rate that follows the metric",
        "splitfed v1, a rate that follows the metric",
    ],
)
def test_flower_gives_the_outcome_of_the_local_carrier(keys, tmp_path):
    config = small_config(**keys)
    here, _ = run_local(config, small_fleet(NUM_AGENTS))
    run, _ = run_with_server(config, tmp_path)
    assert json.loads((run / "summary.json").read_text())["weights_sha256"] == here.weights_sha256
    for line, record in zip(lines(run), here.rounds, strict=True):
        for name in (
            "accuracy",
            "loss",
            "virtual_time_s",
            "makespan_s",
            "bytes_sent",
            "num_agents",
            "metrics",
        ):
            assert line[name] == as_json(record)[name], name
    told = json.loads((run / "agents.json").read_text())["agents"]
    assert told == json.loads(json.dumps(here.rounds[0].agents))


@pytest.mark.parametrize(
    "keys",
    [{"method": "fedavg"}, {"method": "splitfed", "cut": 2}],
    ids=["fedavg", "splitfed"],
)
def test_so_does_a_run_with_an_agent_whose_training_is_not_finite(keys, tmp_path, monkeypatch):
    """Flower's own FedAvg averages what the others send; in round 2 the agent is one of them again."""
    break_data(monkeypatch, 1, rounds=(1,))
    config = small_config(local_epochs=1, **keys)
    here, _ = run_local(config, small_fleet(NUM_AGENTS))
    run, _ = run_with_server(config, tmp_path)
    assert json.loads((run / "summary.json").read_text())["weights_sha256"] == here.weights_sha256
    assert [line["not_finite"] for line in lines(run)] == [[1], []]
    for line, record in zip(lines(run), here.rounds, strict=True):
        for name in ("accuracy", "loss", "virtual_time_s", "bytes_sent", "not_finite"):
            assert line[name] == as_json(record)[name], name


@pytest.mark.parametrize(
    "keys",
    [{"method": "fedavg"}, {"method": "splitfed", "cut": 2}],
    ids=["fedavg", "splitfed"],
)
def test_so_does_a_run_that_ends_with_its_target(keys, tmp_path):
    keys |= {"local_epochs": 1, "num_rounds": 3}
    whole, _ = run_local(small_config(**keys), small_fleet(NUM_AGENTS))
    target = whole.rounds[0].score
    config = small_config(target_metric=target, **keys)
    run, result = run_with_server(config, tmp_path)
    (line,) = lines(run)
    assert (line["accuracy"], line["loss"]) == (target, whole.rounds[0].loss)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["stopped"] == "target-metric reached in round 1"
    assert summary["weights_sha256"] == run_local(config, small_fleet(NUM_AGENTS))[0].weights_sha256
    assert list(result.evaluate_metrics_clientapp) == [1]
    assert (len(result.arrays) > 0) == (config.method == "fedavg")


def test_flowers_fedavg_keeps_its_model_where_nobodys_training_is_finite(tmp_path, monkeypatch):
    for agent in range(NUM_AGENTS):
        break_data(monkeypatch, agent, rounds=(1,))
    config = small_config(method="fedavg", local_epochs=1)
    here, _ = run_local(config, small_fleet(NUM_AGENTS))
    run, _ = run_with_server(config, tmp_path)
    assert json.loads((run / "summary.json").read_text())["weights_sha256"] == here.weights_sha256
    assert [line["not_finite"] for line in lines(run)] == [list(range(NUM_AGENTS)), []]


@pytest.mark.parametrize("version", [1, 2])
def test_a_server_whose_mail_is_sealed_gives_the_same_weights(version, tmp_path, monkeypatch):
    """No node sees the run's folder; the server is one more peer, with a key of its own."""
    monkeypatch.setattr("comdml_flwr.flower.clientapp.session.is_shared", lambda folder, token: False)
    config = small_config(method="splitfed", cut=2, splitfed_version=version, participation=0.5, num_rounds=3)
    here, _ = run_local(config, small_fleet(NUM_AGENTS))
    run, _ = run_with_server(config, tmp_path)
    assert json.loads((run / "summary.json").read_text())["weights_sha256"] == here.weights_sha256


def test_fedavg_which_seals_nothing_says_nothing_of_keys(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("comdml_flwr.flower.clientapp.session.is_shared", lambda folder, token: False)
    said = []
    monkeypatch.setattr("comdml_flwr.runs.terminal.Terminal.say", lambda terminal, line: said.append(line))
    run_with_server(small_config(method="fedavg", num_rounds=1), tmp_path)
    assert said
    assert "signed" not in caplog.text + " ".join(said)


def test_flowers_own_result_has_the_model_and_the_metrics(tmp_path):
    run, result = run_with_server(small_config(method="fedavg"), tmp_path)
    assert len(result.arrays) > 0
    for number, line in enumerate(lines(run), start=1):
        metrics = result.evaluate_metrics_clientapp[number]
        assert metrics["accuracy"] == pytest.approx(line["accuracy"])
        assert metrics["loss"] == pytest.approx(line["loss"])


def test_the_order_of_the_replies_does_not_matter(tmp_path):
    """Flower sums replies as they come in; ours are sorted first."""

    def reverse(grid):
        pull = grid.pull_messages
        grid.pull_messages = lambda ids: list(reversed(list(pull(ids))))

    config = small_config(method="fedavg", partition="dirichlet")
    one, _ = run_with_server(config, tmp_path / "in order")
    other, _ = run_with_server(config, tmp_path / "reversed", watch=reverse)
    digests = [json.loads((run / "summary.json").read_text())["weights_sha256"] for run in (one, other)]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("method", ["fedavg", "splitfed"])
def test_an_agent_that_fails_ends_the_run_in_one_line(method, tmp_path, monkeypatch):
    def torn(agent, *args):
        if agent.round == 2 and agent.id == 3:
            raise ValueError("disk\nfull")
        return real(agent, *args)

    from comdml_flwr.agents.agent import Agent

    real = Agent.batches
    monkeypatch.setattr(Agent, "batches", torn)
    with pytest.raises(RunError, match=r"^agent 3 failed in round 2, .*: ValueError: disk full$"):
        run_with_server(small_config(method=method, cut=2), tmp_path)
    (run,) = tmp_path.iterdir()
    assert (run / "failed.txt").exists()
    assert not (run / "summary.json").exists()
