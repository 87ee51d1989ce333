"""`comdml init` writes a whole app: one that starts, that trains, and whose every file is what it says."""

import io
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import torch
from flwr.cli.build import build_fab_from_disk
from typer.testing import CliRunner

from comdml_flwr.cli.commands.init import FLOWER, OF_APP, TARGET
from comdml_flwr.cli.main import app as comdml
from comdml_flwr.core.config import RunConfig, parse_config
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.settings.base import kebab
from comdml_flwr.core.settings.data import DataSettings
from comdml_flwr.runs.local_run import run_locally
from comdml_flwr.runs.own_app import load_app
from tests.comparison.small_comparison import add_small_names
from tests.flower.engine import ROOT, copy_of_checkout
from tests.flower.loop_grid import quiet_terminal


@pytest.fixture
def app(tmp_path):
    """An app called "Leaf-Counter"."""
    done = CliRunner().invoke(comdml, ["init", str(tmp_path / "Leaf-Counter")])
    assert done.exit_code == 0, done.output
    assert f"cd {tmp_path}/Leaf-Counter && flwr run . --stream" in done.output
    return tmp_path / "Leaf-Counter"


def settings_of(app):
    return tomllib.loads((app / "pyproject.toml").read_text())


def names_in_bundle(app):
    return sorted(zipfile.ZipFile(io.BytesIO(build_fab_from_disk(app))).namelist())


def test_the_keys_of_a_run_stand_in_the_app_with_their_defaults_and_meanings(app):
    config = settings_of(app)["tool"]["flwr"]["app"]["config"]
    of_named_data = {"model", *map(kebab, DataSettings.model_fields)}
    defaults = {k: x for k, x in RunConfig().with_defaults_named().items() if k not in of_named_data}
    assert list(config) == list(defaults)
    assert config == defaults | OF_APP
    assert config.items() <= parse_config(config).with_defaults_named().items()
    text = (app / "pyproject.toml").read_text()
    assert text.count("  # ") >= len(config)


def test_flower_bundles_the_app_alone(app):
    names = ["LICENSE", "fleet.toml", *(f"leaf_counter/{name}.py" for name in MODULES), "pyproject.toml"]
    assert names_in_bundle(app) == sorted([".info/CONTENT", *names])
    bundle = build_fab_from_disk(app)
    leave_results(app)
    for name in ("tests/test_app.py", "tests/helpers.py", "docs/index.md", "NOTES.md", "plot.py"):
        (app / name).parent.mkdir(exist_ok=True)
        (app / name).write_text("")
    assert build_fab_from_disk(app) == bundle


EXAMPLES = sorted(path.parent for path in ROOT.glob("examples/*/pyproject.toml"))


@pytest.mark.parametrize("folder", [ROOT, *EXAMPLES], ids=lambda folder: folder.name)
def test_the_apps_that_come_with_this_package_bundle_neither_tests_nor_docs(folder):
    names = names_in_bundle(folder)
    assert "LICENSE" in names
    tops = {name.partition("/")[0] for name in names} - {".info", "LICENSE", "pyproject.toml"}
    own = {"clients", "comdml_flwr", "experiments", "strategies"}
    assert tops == (own if folder == ROOT else {folder.name.replace("-", "_")})
    code = {path.relative_to(folder).as_posix() for path in (folder / min(tops)).rglob("*.py")}
    assert code <= {*names}


@pytest.mark.parametrize("folder", [None, ROOT, *EXAMPLES])
def test_the_bundle_is_of_flowers_first_format_and_for_the_flower_that_we_need(app, folder):
    (own,) = (text for text in settings_of(ROOT)["project"]["dependencies"] if text.startswith("flwr["))
    settings = settings_of(folder or app)
    assert own in settings["project"]["dependencies"]
    bundled = settings["tool"]["flwr"]["app"]
    assert (bundled["fab-format-version"], bundled["flwr-version-target"]) == (1, TARGET)


MODULES = ("__init__", "client_app", "server_app")


def leave_results(folder):
    run = folder / "results" / "20260101-120000-comdml-digits-seed1"
    run.mkdir(parents=True)
    for name in ("config.json", "rounds.jsonl", "fleet.toml"):
        (run / name).write_text("{}")


def test_results_of_earlier_runs_do_not_travel_in_the_checkouts_bundle(tmp_path):
    checkout = copy_of_checkout(tmp_path / "checkout")
    shutil.copy(ROOT / ".gitignore", checkout)
    bundle = build_fab_from_disk(checkout)
    leave_results(checkout)
    assert build_fab_from_disk(checkout) == bundle


def test_uv_sync_works_offline_with_an_empty_cache(app, tmp_path):
    """Flower runs `uv sync` for every run, and comdml-flwr may be on no package index."""
    assert settings_of(app)["project"]["dependencies"] == ["comdml-flwr>=0.1.0", FLOWER]
    command = [sys.executable, "-m", "uv", "sync", "--offline", "--cache-dir", str(tmp_path / "cache")]
    command += ["--no-install-project", "--inexact", "--python", sys.executable]
    done = subprocess.run(command, cwd=app, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_written_python_is_clean(app):
    program = str(Path(sys.executable).parent / "ruff")
    for words in (["check", "--select", "E,F,W,I,UP,B,D1"], ["format", "--check"]):
        command = [program, *words, "--isolated", "--line-length", "110", "."]
        done = subprocess.run(command, cwd=app, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("forget_apps")
def test_the_written_model_learns_and_its_seed_decides_it(app, tmp_path):
    own = load_app(app)

    def drawn(seed):
        model = own.catalogue.own_model((1, 8, 8), 10, torch.Generator().manual_seed(seed))
        return torch.cat([weights.flatten() for weights in model.parameters()])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))

    values = {**own.defaults, "num-rounds": 3, "results-dir": str(tmp_path / "results")}
    record = run_locally(values, num_agents=2, catalogue=own.catalogue, terminal=quiet_terminal(5))
    assert record.last.score > 0.8
    assert [agent["num_samples"] for agent in record.rounds[0].agents] == [719, 718]
    assert all(line.plan["pairs"] for line in record.rounds)  # the slow agent is helped


@pytest.mark.usefixtures("forget_apps")
@pytest.mark.parametrize("command", ["run", "plan", "doctor"])
def test_the_written_app_answers_each_command_that_its_readme_names(app, monkeypatch, command):
    assert f"comdml {command} --app ." in (app / "README.md").read_text()
    monkeypatch.chdir(app)
    words = ["--set", "num-rounds=1", "--set", "local-epochs=1"] if command == "run" else []
    done = CliRunner().invoke(comdml, [command, "--app", ".", *words])
    assert done.exit_code == 0, done.output
    assert "note:" not in done.output


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("a_b", "letters, digits and hyphens only, at most 32"),
        ("1st", "must begin with a letter"),
        ("a" * 33, "at most 32"),
        ("class", "a word of Python's own"),
        ("torch", "would hide the installed package torch"),
        ("comdml-flwr", "would hide the installed package comdml_flwr"),
        ("json", "would hide the installed package json"),
    ],
)
def test_a_name_that_cannot_be_is_refused_and_nothing_is_written(tmp_path, name, rule):
    with pytest.raises(InputError, match=rule):
        CliRunner().invoke(comdml, ["init", str(tmp_path / name)], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(app):
    before = {path: path.read_bytes() for path in app.rglob("*") if path.is_file()}
    for folder in (app, app / "fleet.toml"):
        with pytest.raises(InputError, match="FOLDER = "):
            CliRunner().invoke(comdml, ["init", str(folder)], catch_exceptions=False)
    assert {path: path.read_bytes() for path in app.rglob("*") if path.is_file()} == before


def test_the_folder_that_one_is_in_can_be_the_apps(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    done = CliRunner().invoke(comdml, ["init", "."])
    assert "next: flwr run . --stream" in done.output
    assert settings_of(tmp_path / "here")["project"]["name"] == "here"


def test_a_run_outside_flower_says_that_it_does_not_use_the_app(app, monkeypatch):
    add_small_names(monkeypatch)
    monkeypatch.chdir(app)
    settings = ("model=four-stages", "dataset=few-digits", "num-rounds=1")
    words = [word for setting in settings for word in ("--set", setting)]
    done = CliRunner().invoke(comdml, ["run", "--num-agents", "2", *words])
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith("note: the app in this folder, me.Leaf-Counter, is not used")
    assert "`comdml run --app .` runs it" in done.stderr
