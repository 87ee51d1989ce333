"""A `comdml run` that is killed with SIGKILL, wherever it is, goes on and comes to the undisturbed bits."""

import os
import subprocess
import sys
import time

import pytest

from tests.carriers.interrupted import only_run_in, outcome_of, write_fleet

NUM_ROUNDS = 6
COMDML = [sys.executable, "-c", "from comdml_flwr.cli.main import main; main()"]


def start(folder, *words):
    """Start `comdml run` in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen([*COMDML, "run", *words], cwd=folder, env=environment, text=True, **quiet)


def settings_of(folder, results):
    """Return the words of a small run of the handwritten digits and a ResNet."""
    keys = {
        "num-rounds": NUM_ROUNDS,
        "local-epochs": 1,
        "batch-size": 100,
        "participation": 0.4,
        "hysteresis": 0.2,
        "checkpoint-every": 2,
        "fleet": write_fleet(folder),
        "results-dir": str(folder / results),
    }
    return [
        "--num-agents",
        "5",
        *(word for key, value in keys.items() for word in ("--set", f"{key}={value}")),
    ]


def wait_for(process, results, num_lines):
    """Wait until a run has so many rounds."""
    give_up = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < give_up:
        if results.exists() and any(results.iterdir()):
            rounds = only_run_in(results) / "rounds.jsonl"
            if rounds.exists() and rounds.read_bytes().count(b"\n") >= num_lines:
                return
        time.sleep(0.005)
    raise AssertionError(process.communicate()[1] if process.poll() is not None else "too slow")


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on(tmp_path):
    """Right after the line of a round: while it writes a checkpoint, or trains the next one."""
    assert start(tmp_path, *settings_of(tmp_path, "undisturbed")).wait() == 0
    whole = outcome_of(only_run_in(tmp_path / "undisturbed"))
    results = tmp_path / "killed"
    words = settings_of(tmp_path, "killed")
    for num_lines in (3, 4, 5):
        process = start(tmp_path, *words)
        wait_for(process, results, num_lines)
        process.kill()
        assert process.wait() < 0
        process.communicate()
        killed = only_run_in(results)
        assert num_lines <= (killed / "rounds.jsonl").read_bytes().count(b"\n") < NUM_ROUNDS
        assert not (killed / "summary.json").exists()
        words = ["--resume", str(killed)]
    assert start(tmp_path, *words).wait() == 0
    assert outcome_of(killed) == whole
