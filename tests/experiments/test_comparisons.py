"""Every comparison in experiments/configs: its small variant runs to its report."""

import json
import tomllib
from pathlib import Path

import pytest

from comdml_flwr.cli.commands.compare_progress import CompareProgress
from comdml_flwr.comparison.compare import compare
from comdml_flwr.comparison.report import write_report
from comdml_flwr.comparison.settings import load_comparison
from comdml_flwr.runs.catalogue import MODELS
from tests.small import eight_stages

CONFIGS = Path(__file__).resolve().parents[2] / "experiments" / "configs"
COMPARISONS = [
    path for path in sorted(CONFIGS.glob("*.toml")) if "methods" in tomllib.loads(path.read_text())
]


def test_the_comparisons_are_these():
    names = {path.stem for path in COMPARISONS}
    assert names == {"main", "main_110", "scaling", "sparse", "dynamic"}


@pytest.mark.parametrize(
    "path",
    [path for path in COMPARISONS if path.stem != "main_110"],  # which is `main`, but for its model
    ids=lambda path: path.stem,
)
def test_the_small_variant_runs_to_its_report(path, tmp_path, monkeypatch):
    """Its model has the stages and cuts of ResNet-56, and learns quickly."""
    monkeypatch.setitem(MODELS, "resnet-56", eight_stages)
    assert_it_runs_to_its_report(path, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_the_small_variant_runs_to_its_report_with_its_own_model(path, tmp_path):
    assert_it_runs_to_its_report(path, tmp_path)


def assert_it_runs_to_its_report(path, tmp_path):
    comparison = load_comparison(path, smoke=True)
    with CompareProgress() as progress:
        compare(comparison, tmp_path / "out", progress, num_workers=1)
    report = write_report(tmp_path / "out")
    (case,) = json.loads((tmp_path / "out" / "comparison.json").read_text())["cases"]
    labels = [method["label"] for method in tomllib.loads(path.read_text())["methods"]]
    assert [method["label"] for method in case["methods"]] == labels
    for method in case["methods"]:
        assert method["virtual_time_s"]["mean"] > 0
        assert 0 < method["accuracy"]["mean"] < 1
        assert [reached["num_reached"] for reached in method["time_to"].values()] == [1], method["label"]
    assert report.stat().st_size > 100_000


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_the_whole_comparison_could_run(path):
    """All names, fleets and keys are right; nothing is trained."""
    comparison = load_comparison(path, smoke=False)
    assert len(comparison.seeds) == 3
