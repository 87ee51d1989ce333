"""A run that has lost its agents is no success: its status, its last line and its exit status say so."""

import json
from functools import partial

import pytest

from comdml_flwr.comparison.schedule import plan_runs, read_done, save
from comdml_flwr.comparison.settings import load_comparison
from comdml_flwr.comparison.workers import attempt
from comdml_flwr.core.errors import RunError
from comdml_flwr.flower.serverapp.serverless_run import run_serverless
from comdml_flwr.runs import local_run
from tests.comparison.small_comparison import add_small_names, write_comparison
from tests.faults import FailAt, FaultyGrid, FaultyLocalCarrier, run_local_with
from tests.flower.loop_grid import grid_config, quiet_terminal
from tests.flower.serverapp.test_serverless_run import real_app
from tests.small import fleet_text, small_config, small_fleet

NUM_AGENTS = 4
CONFIG = small_config(num_rounds=3)
ALL_BUT_2 = [FailAt(agent, 1, round=2) for agent in (0, 1, 3)]
LINE = "round 3: of 4 agents only agent 2 is left"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_on_grid(folder, faults):
    """Run on a grid some of whose nodes die; return the run's folder, and what was printed."""
    config, terminal = grid_config(CONFIG, folder), quiet_terminal(CONFIG.num_rounds)
    grid = FaultyGrid(real_app(), NUM_AGENTS, config.with_defaults_named(), faults=faults)
    try:
        run_serverless(grid, config, fleet_text(NUM_AGENTS), terminal)
    finally:
        (run,) = folder.iterdir()
    return run, terminal.console.file.getvalue()


def test_agents_that_are_gone_at_the_end_make_a_run_incomplete(tmp_path):
    run, printed = run_on_grid(tmp_path, [FailAt(agent, 1, round=2) for agent in (1, 3)])
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["missing"]) == ("incomplete", [1, 3])
    assert printed.splitlines()[-1] == "incomplete: agents 1, 3 had failed and were gone at the end"


def test_agents_that_are_back_at_the_end_make_it_complete(tmp_path):
    run, printed = run_on_grid(tmp_path, [FailAt(1, 1, round=1, back_in=3)])
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["missing"]) == ("complete", [])
    assert printed.splitlines()[-1].startswith("files: ")


def test_an_agent_that_is_left_alone_does_not_train_to_the_end(tmp_path):
    """The line that the run ends with says why the others are gone, where a carrier was told."""
    with pytest.raises(RunError, match=f"^{LINE}; agent 0 failed in round 2, .*: Flower error 5: "):
        run_on_grid(tmp_path, ALL_BUT_2)
    (run,) = tmp_path.iterdir()
    assert (run / "failed.txt").read_text().startswith(f"{LINE}; agent 0 failed in round ")
    assert not (run / "summary.json").exists()
    assert len((run / "rounds.jsonl").read_text().splitlines()) == 2
    with pytest.raises(RunError, match=f"^{LINE}$"):
        run_local_with(CONFIG, small_fleet(NUM_AGENTS), ALL_BUT_2)


def test_an_agent_may_be_alone_where_that_is_no_fault(tmp_path):
    """One that is drawn alone, one for whom the others come back, and the only one of a run."""
    config = small_config(num_rounds=4, participation=0.25)
    record, _ = run_local_with(config, small_fleet(NUM_AGENTS), [])
    assert [r.num_agents for r in record.rounds] == [1] * 4
    faults = [FailAt(agent, 1, round=2, back_in=3) for agent in (0, 1, 3)]
    record, _ = run_local_with(CONFIG, small_fleet(NUM_AGENTS), faults)
    assert [r.gone for r in record.rounds] == [[], [0, 1, 3], []]
    record, _ = run_local_with(CONFIG, small_fleet(1), [])
    assert record.missing == []


@pytest.mark.parametrize(
    ("faults", "status", "line"),
    [
        ([], 0, ""),
        ([FailAt(1, 1, round=2)], 1, ""),
        (ALL_BUT_2, 1, "comdml: round 2: of 4 agents only agent 2 is left\n"),
    ],
    ids=["complete", "incomplete", "left alone"],
)
def test_the_command_ends_with_an_exit_status(faults, status, line, comdml, monkeypatch):
    if faults == ALL_BUT_2:
        faults = [FailAt(agent, 1, round=1) for agent in (0, 1, 3)]
    monkeypatch.setattr(local_run, "LocalCarrier", partial(FaultyLocalCarrier, faults=faults))
    add_small_names(monkeypatch)
    settings = ("num-rounds=2", "model=four-stages", "dataset=few-digits")
    words = (word for setting in settings for word in ("--set", setting))
    code, printed, errors = comdml("run", "--num-agents", "4", *words)
    assert (code, errors) == (status, line)
    assert ("incomplete: agent 1 had failed" in printed) == (faults != [] and not line)


def test_a_run_in_which_nobody_trains_is_no_success(comdml, monkeypatch):
    add_small_names(monkeypatch)
    settings = (
        "model=four-stages",
        "dataset=few-digits",
        "num-rounds=2",
        "optimizer=sgd",
        "learning-rate=1e30",
    )
    words = (word for setting in settings for word in ("--set", setting))
    code, printed, _ = comdml("run", "--num-agents", "3", *words)
    assert code == 1
    assert "incomplete: in every round the training of every agent gave NaN or infinity" in printed


def test_a_comparison_does_not_count_a_run_that_is_incomplete(tmp_path, monkeypatch):
    add_small_names(monkeypatch)
    run, *_ = plan_runs(load_comparison(write_comparison(tmp_path), smoke=False))
    files = attempt(run, lambda round_: None)
    save(tmp_path / "results", run, files)
    assert read_done(tmp_path / "results", run)
    incomplete = json.loads(files["summary.json"]) | {"status": "incomplete", "missing": [1]}
    save(tmp_path / "results", run, {**files, "summary.json": json.dumps(incomplete).encode()})
    assert read_done(tmp_path / "results", run) is None
    faults = [FailAt(1, 1, round=2)]
    monkeypatch.setattr(local_run, "LocalCarrier", partial(FaultyLocalCarrier, faults=faults))
    assert attempt(run, lambda round_: None) == "agents that had failed were gone at the end: 1"
