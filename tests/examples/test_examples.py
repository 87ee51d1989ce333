"""The examples with ten virtual SuperNodes: each reaches the metric that its README states."""

import json
import re
import shlex
import subprocess
import sys
import zipfile

import pytest

from comdml_flwr.runs.model_files import read_model
from tests.docs.commands import blocks
from tests.flower.engine import ROOT, Engine

pytestmark = pytest.mark.examples
NAMES = ("own-model", "language-model", "tabular")
NUM_NODES = 10


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """A SuperLink that the first example starts; all files go to a home of its own."""
    home = tmp_path_factory.mktemp("home")
    engine = Engine(home / ".flwr", environment={"HOME": str(home)}, patience_s=600)
    yield engine
    engine.stop()


def stated(example):
    """Return the metric that the README of an example states, its bound, and whether less is better."""
    text = (ROOT / "examples" / example / "README.md").read_text()
    ((metric, way, bound),) = re.findall(r"`(\w+)` (?:is )?at (least|most) (\d+(?:\.\d+)?)", text)
    return metric, float(bound), way == "most"


@pytest.mark.parametrize("example", NAMES)
def test_ten_nodes_reach_what_the_readme_states(example, engine, tmp_path):
    folder = ROOT / "examples" / example
    (typed, *_) = blocks(folder / "README.md", "bash")
    *before, run = (shlex.split(command) for command in typed.replace("\\\n", " ").split("&&"))
    for words in before:
        assert words[0] == "python"
        environment = {"HOME": str(engine.environment["HOME"])}
        subprocess.run([sys.executable, *words[1:]], cwd=folder, env=environment, check=True)
    assert run[:3] == ["flwr", "run", "."]
    done = engine.flwr(*run[1:], "--run-config", f'results-dir="{tmp_path}"', cwd=folder)
    log = done.stderr + done.stdout
    assert engine.last_status() == "finished:completed", log

    (results,) = tmp_path.iterdir()
    last = json.loads((results / "rounds.jsonl").read_text().splitlines()[-1])
    metric, bound, is_most = stated(example)
    assert last["metric"] == metric
    assert last[metric] <= bound if is_most else last[metric] >= bound, log
    assert last["plan"]["pairs"], "slow agents have helpers"
    agents = json.loads((results / "agents.json").read_text())["agents"]
    assert [agent["num_samples"] > 0 for agent in agents] == [True] * NUM_NODES
    summary = json.loads((results / "summary.json").read_text())
    assert summary["models"]
    for entry in summary["models"]:
        model = read_model(results / entry["file"])
        assert (model.round, model.weights_sha256) == (entry["round"], entry["weights_sha256"])


@pytest.mark.parametrize("example", NAMES)
def test_the_bundle_holds_the_app_alone(example, engine, tmp_path):
    folder, package = ROOT / "examples" / example, example.replace("-", "_")
    done = engine.flwr("build", "--app", str(folder), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "missing" not in done.stdout + done.stderr
    (bundle,) = tmp_path.glob("*.fab")
    modules = {f"{package}/{path.name}" for path in (folder / package).glob("*.py")}
    names = set(zipfile.ZipFile(bundle).namelist())
    assert names == {"pyproject.toml", "LICENSE", ".info/CONTENT", *modules}
