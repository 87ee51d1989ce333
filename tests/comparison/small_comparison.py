"""A small comparison that the tests share: two methods, two seeds, and the run of tests/small.py."""

import json
from pathlib import Path

import pytest

from comdml_flwr.runs import catalogue
from tests.small import few_digits, fleet_text, four_stages

TOML = """
name = "small"
seeds = [1, 2]
targets = [0.05, 1.0]
reference = "AllReduce"

[run]
model = "four-stages"
dataset = "few-digits"
num-rounds = 2
batch-size = 8

[[methods]]
label = "ComDML"
method = "comdml"

[[methods]]
label = "AllReduce"
method = "allreduce"

[[cases]]
label = "three agents"
fleet = "fleet.toml"
num-agents = 3

[smoke]
seeds = [3]
num-agents = 2
num-rounds = 1
"""
MEASURED = ("elapsed_s", "evaluation_s")
COVERS_MEASURED = "chain_sha256"


def add_small_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let configurations name the small model and the small data set."""
    monkeypatch.setitem(catalogue.MODELS, "four-stages", four_stages)
    monkeypatch.setitem(catalogue.DATASETS, "few-digits", lambda config: few_digits())


def write_comparison(folder: Path, text: str = TOML) -> Path:
    """Write the comparison file and its fleet; return the path of the first."""
    (folder / "fleet.toml").write_text(fleet_text(5))
    path = folder / "small.toml"
    path.write_text(text)
    return path


def without_stopwatch(folder: Path) -> dict[str, bytes]:
    """Return all files of a comparison's folder but for elapsed.json and what else a stopwatch said."""
    return {
        str(path.relative_to(folder)): _without(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "elapsed.json"
    }


def _without(path: Path) -> bytes:
    if path.name not in ("summary.json", "rounds.jsonl"):
        return path.read_bytes()
    lines = path.read_text().splitlines() if path.name == "rounds.jsonl" else [path.read_text()]
    values = [json.loads(line) for line in lines]
    stopwatch = [value.pop(name) for value in values for name in MEASURED if name in value]
    assert min(stopwatch) > 0
    for value in values:
        value.pop(COVERS_MEASURED, None)
    return json.dumps(values).encode()
