"""Trackers are asked for by name, and what they are told has names that keep kinds of numbers apart."""

import subprocess
import sys
from dataclasses import fields

from comdml_flwr.runs.records import RoundRecord, as_json
from comdml_flwr.runs.tracking.names import GROUPS, LISTS, numbers
from tests.runs.test_results import files, record, round_record

DEFAULT_RUN = """
import sys
from pathlib import Path
from tests.runs.test_results import record
record(Path(sys.argv[1]))
loaded = {"wandb", "tensorboard", "torch.utils.tensorboard"} & set(sys.modules)
assert not loaded, loaded
"""


def test_a_default_run_loads_and_writes_nothing_of_them(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", DEFAULT_RUN, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    assert "summary.json" in files(path)
    assert not {"wandb", "tensorboard"} & set(files(path))


def test_every_number_of_a_round_has_one_group():
    grouped = [name for names in GROUPS.values() for name in names]
    others = {
        "round",
        "plan",
        "agents",
        "metrics",
        "scores",
        "metric",
        "better",
        "own_tests",
        *LISTS,
    }  # the step, what is counted, a file of its own, single agents
    assert sorted([*grouped, *others]) == sorted(field.name for field in fields(RoundRecord))


def test_a_stopwatch_is_no_model():
    shown = numbers(as_json(round_record(refused=[4, 7])))
    assert shown["measured/elapsed_s"] == 3.44
    assert shown["measured/accuracy"] == 0.12345
    assert shown["modelled/virtual_time_s"] == 17.04
    assert (shown["counted/num_pairs"], shown["counted/num_refused"]) == (1, 2)
    assert {name.split("/")[0] for name in shown if name.endswith("_s")} == {"measured", "modelled"}


def test_one_that_fails_does_not_stop_another(tmp_path, monkeypatch):
    """Wandb cannot be started at all; TensorBoard's events are there."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-such-python"))
    printed = record(tmp_path / "results", wandb="offline", tensorboard=True)
    assert [line.split(" (")[0] for line in printed.splitlines() if "failed" in line] == ["wandb has failed"]
    (path,) = (tmp_path / "results").iterdir()
    assert {"rounds.jsonl", "summary.json", "tensorboard"} <= set(files(path))
