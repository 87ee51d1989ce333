"""`comdml report` of a run: how well its model does for each agent that has test data of its own."""

import json
import sys

import pytest

from comdml_flwr.cli import main as cli
from comdml_flwr.learning.data.app_data import own_data
from comdml_flwr.learning.task import Classification
from comdml_flwr.runs.catalogue import Catalogue
from comdml_flwr.runs.local_run import run_locally
from tests.carriers.interrupted import only_run_in
from tests.flower.loop_grid import quiet_terminal
from tests.small import CATALOGUE, few_digits, fleet_text, four_stages, small_config

NUM_AGENTS = 3


def load_data(place):
    """Return a third of the digits, and as many of the test digits as the agent's number says."""
    data, number = few_digits(), place.partition_id
    x, y = (every[number :: place.num_partitions] for every in (data.x_train_NCHW, data.y_train_N))
    return (x, y), (data.x_test_NCHW[: 10 * number], data.y_test_N[: 10 * number]) if number else None


def run(tmp_path, catalogue):
    (tmp_path / "fleet.toml").write_text(fleet_text(NUM_AGENTS))
    config = small_config(fleet=str(tmp_path / "fleet.toml"), results_dir=str(tmp_path / "results"))
    terminal = quiet_terminal(config.num_rounds)
    run_locally(config.with_defaults_named(), num_agents=NUM_AGENTS, catalogue=catalogue, terminal=terminal)
    return only_run_in(tmp_path / "results"), terminal.console.file.getvalue()


@pytest.fixture
def report(monkeypatch, capsys):
    """Run `comdml report` in this process; return exit status, what it printed, and its one line."""

    def call(path):
        monkeypatch.setattr(sys, "argv", ["comdml", "report", str(path)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code, *capsys.readouterr()

    return call


def test_each_agent_with_test_data_of_its_own_is_shown_best_first(tmp_path, report):
    folder, screen = run(
        tmp_path,
        Catalogue(own_model=four_stages, own_data=own_data(load_data, Classification(num_classes=10))),
    )
    last = json.loads((folder / "rounds.jsonl").read_text().splitlines()[-1])
    told = last["own_tests"]
    assert {agent: about["sums"]["num_evaluated"] for agent, about in told.items()} == {"1": 10, "2": 20}
    correct = sum(about["sums"]["correct"] for about in told.values())
    assert last["accuracy"] == correct / 30, "the sums add up to the metric of all"
    assert all(
        about["accuracy"] == about["sums"]["correct"] / about["sums"]["num_evaluated"]
        for about in told.values()
    )

    scores = sorted((about["accuracy"] for about in told.values()), reverse=True)
    spread = {"num_agents": 2, "best": scores[0], "median": sum(scores) / 2, "worst": scores[1]}
    assert json.loads((folder / "summary.json").read_text())["own_tests"] == spread
    assert f"best agent {scores[0]:.4f}, median {sum(scores) / 2:.4f}, worst {scores[1]:.4f}, of 2" in screen

    status, printed, error = report(folder)
    assert (status, error) == (0, "")
    rows = [line.split() for line in printed.splitlines()[2:4]]
    assert sorted(rows) == sorted(
        [agent, f"{a['accuracy']:.4f}", str(a["sums"]["num_evaluated"])] for agent, a in told.items()
    )
    assert [row[1] for row in rows] == [f"{score:.4f}" for score in scores]
    assert f"all together {last['accuracy']:.4f}" in printed

    (folder / "rounds.jsonl").write_text('{"round": 1\n')
    status, _, error = report(folder)
    assert status == 2
    assert "rounds.jsonl" in error
    assert len(error.splitlines()) == 1


def test_a_run_that_shares_one_test_set_has_no_numbers_of_single_agents(tmp_path, report):
    folder, screen = run(tmp_path, CATALOGUE)
    assert json.loads((folder / "rounds.jsonl").read_text().splitlines()[-1])["own_tests"] == {}
    assert json.loads((folder / "summary.json").read_text())["own_tests"] is None
    assert "own test data" not in screen
    status, _, error = report(folder)
    assert status == 2
    assert error.endswith("has no agent with test data of its own: all judge a share of one test set\n")
    assert len(error.splitlines()) == 1
