"""`comdml compare` as users run it, with Ray: Ctrl-C in the middle, started again, the same bytes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.comparison.small_comparison import without_stopwatch

ROOT = Path(__file__).resolve().parents[2]
TOML = """
name = "tiny"
seeds = [1, 2]
targets = [0.5]
reference = "AllReduce"
[run]
num-rounds = 2
local-epochs = 1
[[methods]]
label = "ComDML"
method = "comdml"
[[methods]]
label = "AllReduce"
method = "allreduce"
[[cases]]
label = "a fast and a slow device"
fleet = "comdml-10"
num-agents = 2
"""
PROGRAM = """
from comdml_flwr.cli.main import main
main()
"""


@pytest.fixture
def start(tmp_path):
    """Start `comdml compare` in a folder that holds another package of our name."""
    (tmp_path / "tiny.toml").write_text(TOML)
    (tmp_path / "comdml_flwr").mkdir()
    (tmp_path / "comdml_flwr" / "__init__.py").write_text("raise ImportError('not this one')")
    (tmp_path / "program.py").write_text(PROGRAM)
    processes = []

    def start(*words):
        # `-I` and the path keep this interpreter from the folder's own package, as an installed `comdml` is
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); exec(open('program.py').read())"
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", code, "compare", "tiny.toml", *words],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.slow
def test_stopped_in_the_middle_it_goes_on_and_no_byte_depends_on_it_or_on_the_workers(start, tmp_path):
    stopped = start("--workers", "2", "-o", "stopped")
    first = next(line for line in stopped.stderr if not line.startswith("  ... "))  # no sign of life
    assert first.startswith("1/4  a fast and a slow device: ")
    os.killpg(stopped.pid, signal.SIGINT)
    out, err = stopped.communicate(timeout=120)
    assert (stopped.returncode, out) == (130, "")
    last = err.splitlines()[-1]
    assert last.startswith("comdml: interrupted: ")
    assert last.endswith(" of 4 runs are done; start the same command again to go on from there")
    assert not (tmp_path / "stopped" / "comparison.json").exists()
    num_done = len(list((tmp_path / "stopped").glob("runs/*/*/seed-?")))
    assert f"{num_done} of 4" in last
    assert 1 <= num_done < 4

    resumed = start("--workers", "2", "-o", "stopped", "--json")
    out, err = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, err
    assert err.splitlines()[0] == f"{num_done} of 4 runs are done already"
    assert sum(line[1:3] == "/4" for line in err.splitlines()) == 4 - num_done
    assert out == (tmp_path / "stopped" / "comparison.json").read_text()

    undisturbed = start("--workers", "1", "-o", "undisturbed")
    _, err = undisturbed.communicate(timeout=300)
    assert undisturbed.returncode == 0, err
    files = without_stopwatch(tmp_path / "undisturbed")
    assert without_stopwatch(tmp_path / "stopped") == files
    assert sum(name.startswith("runs/") for name in files) == 4 * 6
    assert {"comparison.json", "report.html"} <= set(files)
    assert json.loads(out)["cases"][0]["fleet"] == "comdml-10, seed 1"
