"""Which runs are done, and that a run's folder is there whole or not at all."""

import json

import pytest

from comdml_flwr.comparison import schedule
from comdml_flwr.comparison.records import run_folder
from comdml_flwr.comparison.schedule import longest_first, plan_runs, read_done, reserve, save, sweep
from comdml_flwr.comparison.settings import load_comparison
from comdml_flwr.core.errors import InputError, RunError
from tests.comparison.small_comparison import TOML, add_small_names, write_comparison


@pytest.fixture(autouse=True)
def _names(monkeypatch):
    add_small_names(monkeypatch)


def plan(folder, old="", new=""):
    return plan_runs(load_comparison(write_comparison(folder, TOML.replace(old, new, 1) if old else TOML)))


def files_of(run):
    return {
        "config.json": json.dumps(run.config).encode(),
        "rounds.jsonl": b'{"round": 1}\n',
        "agents.json": b'{"agents": []}',
        "summary.json": json.dumps({"num_agents": run.num_agents}).encode(),
        "fleet.toml": run.fleet_text.encode(),
    }


def test_the_runs_are_all_cases_methods_and_seeds_in_the_files_order(tmp_path):
    assert [str(run) for run in plan(tmp_path)] == [
        f"three agents: {label}, seed {seed}" for label in ("ComDML", "AllReduce") for seed in (1, 2)
    ]


def test_the_longest_runs_begin_first_and_equal_ones_keep_their_order(tmp_path):
    runs = plan(tmp_path, 'method = "allreduce"', 'method = "allreduce"\nnum-rounds = 5')
    assert [(run.label, run.seed) for run in longest_first(runs)] == [
        ("AllReduce", 1),
        ("AllReduce", 2),
        ("ComDML", 1),
        ("ComDML", 2),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [("num-rounds = 2", "num-rounds = 3"), ("num-agents = 3", "num-agents = 4"), ("batch-size = 8", "")],
)
def test_a_run_is_done_until_what_it_would_be_changes(tmp_path, old, new):
    run = plan(tmp_path)[0]
    assert read_done(tmp_path, run) is None
    save(tmp_path, run, files_of(run))
    assert read_done(tmp_path, run).seed == 1
    assert read_done(tmp_path, plan(tmp_path, old, new)[0]) is None


def test_another_fleet_under_the_same_name_is_another_run(tmp_path):
    run = plan(tmp_path)[0]
    save(tmp_path, run, files_of(run))
    path = write_comparison(tmp_path)
    (tmp_path / "fleet.toml").write_text(
        run.fleet_text.replace("bandwidth_mbps = 100", "bandwidth_mbps = 10")
    )
    assert read_done(tmp_path, plan_runs(load_comparison(path))[0]) is None


@pytest.mark.parametrize("name", ["config.json", "rounds.jsonl", "agents.json", "summary.json", "fleet.toml"])
def test_a_folder_that_lacks_a_file_or_holds_a_broken_one_is_not_done(tmp_path, name):
    run = plan(tmp_path)[0]
    save(tmp_path, run, files_of(run))
    path = run_folder(tmp_path, run.case, run.label, run.seed) / name
    path.write_bytes(path.read_bytes()[:-3])
    assert read_done(tmp_path, run) is None
    path.unlink()
    assert read_done(tmp_path, run) is None


def test_a_run_takes_the_place_of_an_older_one(tmp_path):
    run, changed = plan(tmp_path)[0], plan(tmp_path, "num-rounds = 2", "num-rounds = 3")[0]
    save(tmp_path, run, {**files_of(run), "old.txt": b""})
    save(tmp_path, changed, files_of(changed))
    folder = run_folder(tmp_path, run.case, run.label, run.seed)
    assert read_done(tmp_path, changed) is not None
    assert [path.name for path in folder.parent.iterdir()] == ["seed-1"]
    assert not (folder / "old.txt").exists()


def test_a_kill_while_a_folder_is_written_leaves_nothing_that_counts(tmp_path, monkeypatch):
    run = plan(tmp_path)[0]

    def killed(handle):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(schedule.os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, run, files_of(run))
    folder = run_folder(tmp_path, run.case, run.label, run.seed)
    assert not folder.exists()
    assert list(folder.parent.iterdir())
    sweep(tmp_path)
    assert not list(folder.parent.iterdir())


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    run = plan(tmp_path)[0]
    (tmp_path / "runs").write_text("a file where a folder belongs")
    with pytest.raises(RunError, match=r"seed-1: the run's files cannot be written: "):
        save(tmp_path, run, files_of(run))


def test_two_comparisons_cannot_write_in_one_folder(tmp_path):
    folder = tmp_path / "out"
    with reserve(folder), pytest.raises(InputError, match="another comparison is writing there now"):
        reserve(folder).__enter__()
    with reserve(folder):
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match=r"out': must be a folder to write in \("):
        reserve(tmp_path / "out").__enter__()
