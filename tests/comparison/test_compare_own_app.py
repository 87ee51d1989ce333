"""A comparison on an app of the user's own: its model, its data and its keys, and its code as it is now."""

import json
from dataclasses import replace

import pytest

from comdml_flwr.comparison.compare import compare
from comdml_flwr.comparison.schedule import plan_runs
from comdml_flwr.comparison.settings import load_comparison
from comdml_flwr.comparison.workers import attempt
from comdml_flwr.core.errors import InputError
from tests.comparison.test_compare import Listener
from tests.flower.engine import ROOT
from tests.small_app import write_small_app

TOML = """
name = "own"
seeds = [1]
targets = [0.1]
reference = "AllReduce"
[run]
num-rounds = 1
app.width = 24
[[methods]]
label = "ComDML"
method = "comdml"
[[methods]]
label = "AllReduce"
method = "allreduce"
[[cases]]
label = "three"
fleet = "comdml-10"
num-agents = 3
"""


@pytest.fixture
def here(tmp_path, forget_apps):
    """A comparison file beside an app."""
    write_small_app(tmp_path / "app")
    (tmp_path / "own.toml").write_text(TOML)
    return tmp_path


def perform(here, file="own.toml", app="app"):
    listener = Listener()
    comparison = load_comparison(here / file, app=here / app if app else None)
    compare(comparison, here / "out", listener)
    return listener.missing


def test_an_app_is_compared_and_again_when_its_code_has_changed(here):
    assert perform(here) == [("ComDML", 1), ("AllReduce", 1)]
    (config,) = [json.loads(path.read_text()) for path in here.glob("out/runs/*/comdml/*/config.json")]
    expected = {"model": "dense", "dataset": "load_data", "batch-size": 8, "num-rounds": 1, "seed": 1}
    assert {key: config[key] for key in expected} == expected
    assert perform(here) == []
    reproduce = here / "out" / "reproduce.toml"
    assert f'app = "{here / "app"}"' in reproduce.read_text()
    assert perform(here, file="out/reproduce.toml", app="") == []
    task = here / "app" / "small_app" / "task.py"
    task.write_text(f"{task.read_text()}\n# changed\n")
    assert perform(here) == [("ComDML", 1), ("AllReduce", 1)]


def test_keys_of_the_apps_own_are_those_of_the_file_or_else_of_the_app(here):
    settings = here / "app" / "pyproject.toml"
    settings.write_text(f"{settings.read_text()}app.width = 16\napp.depth = 2\n")
    runs = plan_runs(load_comparison(here / "own.toml", app=here / "app"))
    assert {(run.config["app.width"], run.config["app.depth"]) for run in runs} == {(24, 2)}


def test_a_file_may_name_the_app_by_its_path_from_there(here):
    (here / "own.toml").write_text(TOML.replace('name = "own"', 'name = "own"\napp = "app"'))
    assert load_comparison(here / "own.toml").catalogue.own_model.__name__ == "dense"


def test_a_worker_whose_app_is_another_one_says_so(here):
    run, _ = plan_runs(load_comparison(here / "own.toml", app=here / "app"))
    outcome = attempt(replace(run, app_version="tests.small-app, code 0"), lambda round_: None)
    assert outcome.startswith(f"{here / 'app'} is tests.small-app, code ")
    assert outcome.endswith(" here, and should be tests.small-app, code 0")


def test_targets_are_of_the_apps_own_metric(here):
    assert load_comparison(ROOT / "examples" / "language-model" / "compare.toml").targets == (12.0,)
    (here / "own.toml").write_text(TOML.replace("targets = [0.1]", "targets = [1.5]"))
    with pytest.raises(InputError, match=r"own.toml: targets\[0\] = 1.5: must be at most 1"):
        load_comparison(here / "own.toml", app=here / "app")
