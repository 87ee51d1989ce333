"""Weights & Biases: all numbers are there offline, and nothing that it does can cost a run anything."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.program import NOBODY
from comdml_flwr.runs.local_run import run_locally
from comdml_flwr.runs.tracking import wandb_tracker
from comdml_flwr.runs.tracking.names import numbers
from comdml_flwr.runs.tracking.wandb_tracker import WandbTracker
from tests.runs.test_results import FakeCarrier, printed_by, record
from tests.runs.tracking.wandb_files import records, silent_network, values
from tests.small import CATALOGUE


@pytest.fixture(autouse=True)
def _nobodys_account(tmp_path, monkeypatch):
    """No account, no settings and no caches of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def run_small(folder, **keys):
    """Run two rounds of real training; return the run's folder and what was printed."""
    screen, printed = printed_by()
    settings = {key.replace("_", "-"): value for key, value in keys.items()}
    values = {"model": "four-stages", "dataset": "few-digits", "num-rounds": 2, "local-epochs": 1, **settings}
    run_locally({**values, "results-dir": str(folder)}, num_agents=3, catalogue=CATALOGUE, terminal=screen)
    (path,) = folder.iterdir()
    return path, printed()


def told(printed):
    """Return the lines about wandb."""
    return [line for line in printed.splitlines() if line.startswith("wandb")]


def lines_of(path):
    return [json.loads(line) for line in (path / "rounds.jsonl").read_text().splitlines()]


def test_an_offline_run_writes_all_numbers_and_touches_no_network(tmp_path, monkeypatch):
    """Whatever the environment says: the key wins."""
    for name, value in (
        ("WANDB_MODE", "online"),
        ("WANDB_DIR", str(tmp_path / "elsewhere")),
        ("WANDB_RUN_ID", "other"),
        ("WANDB_PROJECT", "other"),
        ("WANDB_SILENT", "false"),
        ("WANDB_API_KEY", "0" * 40),
    ):
        monkeypatch.setenv(name, value)
    with silent_network(monkeypatch) as came:
        path, printed = run_small(tmp_path / "results", wandb="offline", wandb_project="mine")
    assert came == []
    assert told(printed) == []
    (file,) = path.glob("wandb/offline-run-*/*.wandb")
    found = list(records(file))
    (run,) = {record.run.run_id: record.run for record in found if record.HasField("run")}.values()
    assert (run.run_id, run.display_name, run.project) == (path.name, path.name, "mine")
    config = {key: value for key, value in values(run.config.update).items() if key != "_wandb"}
    assert config == json.loads((path / "config.json").read_text())
    history = [values(record.history.item) for record in found if record.HasField("history")]
    shown = [{key: value for key, value in row.items() if key[0] != "_"} for row in history]
    assert shown == [numbers(line) for line in lines_of(path)]
    assert [row["_step"] for row in history] == [1, 2]
    summary = {}
    for entry in found:
        summary.update(values(entry.summary.update))
    for name, value in json.loads((path / "summary.json").read_text()).items():
        assert summary[f"run/{name}"] == value
    assert [record.exit.exit_code for record in found if record.HasField("exit")] == [0]
    assert not (tmp_path / "elsewhere").exists()


def test_a_run_that_failed_is_shown_as_failed_with_the_rounds_that_it_had(tmp_path):
    with pytest.raises(RunError):
        record(tmp_path / "results", FakeCarrier(fails_at=4, error=RunError("disk full")), wandb="offline")
    (file,) = tmp_path.glob("results/*/wandb/offline-run-*/*.wandb")
    found = list(records(file))
    assert len([record for record in found if record.HasField("history")]) == 1
    assert [record.exit.exit_code for record in found if record.HasField("exit")] == [1]


SPOILT = """
import os, time
import wandb
from wandb.sdk.wandb_run import Run

def spoilt(*args, **keys):
    time.sleep(float(os.environ["SPOILT_S"]))
    raise wandb.errors.CommError("the service\\nis on fire")

where = os.environ["SPOILT"]
setattr(wandb if where == "init" else Run, where, spoilt)
"""


def spoil(folder: Path, monkeypatch, where: str, seconds: float = 0) -> None:
    """Let a function of the real wandb raise in every process that this one starts."""
    (folder / "spoilt").mkdir()
    (folder / "spoilt" / "sitecustomize.py").write_text(SPOILT)
    monkeypatch.setenv("PYTHONPATH", str(folder / "spoilt"))
    monkeypatch.setenv("SPOILT", where)
    monkeypatch.setenv("SPOILT_S", str(seconds))


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_wandb_that_raises_costs_one_line_and_nothing_else(where, tmp_path, monkeypatch):
    spoil(tmp_path, monkeypatch, where)
    printed = record(tmp_path / "results", wandb="offline")
    reason = "CommError: the service is on fire"
    assert told(printed) == [f"wandb has failed ({reason}); the run's own files have everything"]
    (path,) = (tmp_path / "results").iterdir()
    assert len(lines_of(path)) == 2
    assert (path / "summary.json").exists()


class Waiting(FakeCarrier):
    """Waits in the middle of the run until something is so."""

    def __init__(self, is_so):
        super().__init__()
        self._is_so = is_so

    def exchange(self, steps, absence=NOBODY):
        if self._count == 2:
            wait_until(self._is_so)
        return super().exchange(steps, absence)


def wait_until(is_so):
    give_up = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.05)


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks for processes in /proc")


@needs_proc
def test_a_wandb_that_has_died_is_told_at_the_next_round(tmp_path, monkeypatch):
    spoil(tmp_path, monkeypatch, "init")
    folder = tmp_path / "results"
    begin, trackers = WandbTracker.__init__, []

    def begin_seen(tracker, place):
        begin(tracker, place)
        trackers.append(tracker)

    def has_died():
        """Tell whether its process has ended, and leave it to the tracker to learn of that."""
        pid = trackers[0]._process.pid
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    monkeypatch.setattr(WandbTracker, "__init__", begin_seen)
    died = Waiting(has_died)
    printed = record(folder, died, wandb="offline", num_rounds=3).splitlines()
    place = next(number for number, line in enumerate(printed) if line.startswith("wandb has failed"))
    assert printed[place - 1].split()[0].startswith("1/")
    assert len(told("\n".join(printed))) == 1


@needs_proc
def test_a_wandb_that_hangs_is_stopped_in_time_with_all_that_it_has_started(tmp_path, monkeypatch):
    spoil(tmp_path, monkeypatch, "finish", seconds=1000)
    monkeypatch.setattr(wandb_tracker, "FINISH_S", 2.0)
    stop, seen = WandbTracker._stop, []

    def look_and_stop(tracker):
        seen.extend(processes_about(str(tmp_path)))
        stop(tracker)

    monkeypatch.setattr(WandbTracker, "_stop", look_and_stop)
    has_begun = Waiting(lambda: list(tmp_path.glob("results/*/wandb/offline-run-*/*.wandb")))
    began = time.monotonic()
    printed = record(tmp_path / "results", has_begun, wandb="offline")
    assert time.monotonic() - began < 60
    reason = "not ready 2 s after the run's end; `wandb sync` sends the rest"
    assert told(printed) == [f"wandb has failed ({reason}); the run's own files have everything"]
    (path,) = (tmp_path / "results").iterdir()
    assert (path / "summary.json").exists()
    assert len(lines_of(path)) == 2
    assert any("wandb_process" in command for command in seen)
    assert any("wandb-core" in command for command in seen)
    wait_until(lambda: not processes_about(str(tmp_path)))


def processes_about(text: str) -> list[str]:
    """Return the command lines of the other processes that name a folder or have a file open in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            files = [str(file.readlink()) for file in (process / "fd").iterdir()]
            command = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if int(process.name) != os.getpid() and any(text in word for word in [command, *files]):
            found.append(command)
    return found


def test_online_without_an_account_asks_nobody_and_goes_on(tmp_path, monkeypatch):
    with silent_network(monkeypatch):
        printed = record(tmp_path / "results", wandb="online")
    (line,) = told(printed)
    assert line.startswith("wandb has failed (UsageError: ")
    assert len(list(tmp_path.glob("results/*/summary.json"))) == 1


def test_online_on_a_dead_network_is_given_up_in_time(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(wandb_tracker, "FINISH_S", 1.0)
    with silent_network(monkeypatch) as came:
        printed = record(tmp_path / "results", Waiting(lambda: came), wandb="online")
    (line,) = told(printed)
    assert line.startswith("wandb has failed (not ready 1 s after the run's end; ")
    assert len(list(tmp_path.glob("results/*/summary.json"))) == 1


def test_a_missing_package_is_one_line_before_there_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError) as caught:
        record(tmp_path / "results", wandb="offline")
    assert str(caught.value) == (
        "wandb = 'offline': needs the package wandb: pip install \"comdml-flwr[tracking]\""
    )
    assert not (tmp_path / "results").exists()


def test_a_folder_of_that_name_is_no_package(tmp_path, monkeypatch):
    """Wandb's own folder of runs, where somebody starts a run: importable, but empty."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(InputError, match="needs the package wandb"):
        record(tmp_path / "results", wandb="online")
