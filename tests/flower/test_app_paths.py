"""Relative paths of an app's configuration are the app's own, wherever the SuperLink was started."""

import shutil
from pathlib import Path

import pytest

from comdml_flwr.core.app_folder import app_in, running_app
from comdml_flwr.core.config import parse_config
from comdml_flwr.flower.app_paths import fleet_path, notes_on_paths, with_data_found, with_results_placed
from tests.flower.test_own_code import write_app


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two apps, A and B, and B's bundle, which this process runs."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("A", "B"):
        write_app(tmp_path / name, name, name=f"app-{name}")
        (tmp_path / name / "fleet.toml").write_text(f"# of {name}")
        (tmp_path / name / "data").mkdir()
        (tmp_path / name / "data" / "labels.json").write_text("{}")
    shutil.copytree(tmp_path / "B", tmp_path / "bundle")
    monkeypatch.syspath_prepend(str(tmp_path / "bundle"))
    return tmp_path


@pytest.mark.parametrize(
    ("started_in", "base"), [("B", "B"), ("B/data", "B/data"), ("A", "home/comdml/tests.app-B"), (".", ".")]
)
def test_results_go_where_the_superlink_was_started_but_never_into_another_app(
    folders, monkeypatch, started_in, base
):
    monkeypatch.chdir(folders / started_in)
    config = with_results_placed(parse_config({"resume": "results/one"}))
    assert Path(config.results_dir) == folders / base / "results"
    assert Path(config.resume) == folders / base / "results" / "one"
    notes = [f"the SuperLink was started in another app's folder: relative paths count from {folders / base}"]
    assert list(notes_on_paths("results")) == (notes if started_in == "A" else [])


def test_an_app_that_was_changed_after_it_was_bundled_is_another_one(folders, monkeypatch):
    (folders / "B" / "helpers.py").write_text("WHO = 'another checkout'")
    monkeypatch.chdir(folders / "B")
    assert Path(with_results_placed(parse_config({})).results_dir).parts[-2:] == ("tests.app-B", "results")


def test_results_of_earlier_runs_do_not_make_it_another_app(folders, monkeypatch):
    (folders / "B" / "results").mkdir()
    (folders / "B" / "results" / "summary.json").write_text("{}")
    (folders / "bundle" / "data" / "labels.json").unlink()
    assert running_app().is_copy_of(app_in(folders / "B"))


@pytest.mark.parametrize("key", ["results-dir", "data-dir"])
def test_full_paths_stay_as_they_are(folders, monkeypatch, key):
    monkeypatch.chdir(folders / "A")
    config = with_data_found(with_results_placed(parse_config({key: "/srv/here"})))
    assert config.with_defaults_named()[key] == "/srv/here"


def test_the_fleet_file_is_the_bundles(folders, monkeypatch):
    monkeypatch.chdir(folders / "A")
    assert fleet_path("fleet.toml").read_text() == "# of B"
    (folders / "A" / "other.toml").touch()
    assert fleet_path("other.toml") == folders / "home" / "comdml" / "tests.app-B" / "other.toml"


@pytest.mark.parametrize(
    ("started_in", "found"), [("A", "bundle/data"), ("B", "B/data"), (".", "bundle/data")]
)
def test_data_is_the_apps_own_and_that_in_its_folder_goes_before_what_is_bundled(
    folders, monkeypatch, started_in, found
):
    monkeypatch.chdir(folders / started_in)
    assert Path(with_data_found(parse_config({})).data_dir) == folders / found


def test_data_that_no_bundle_holds_is_not_taken_from_another_app(folders, monkeypatch):
    shutil.rmtree(folders / "bundle" / "data")
    monkeypatch.chdir(folders / "A")
    assert Path(with_data_found(parse_config({})).data_dir) == folders / "home/comdml/tests.app-B/data"


def test_results_that_travel_in_the_bundle_are_told(folders, monkeypatch):
    monkeypatch.chdir(folders / "B")
    (folders / "bundle" / "results" / "one").mkdir(parents=True)
    (folders / "bundle" / "results" / "one" / "rounds.jsonl").touch()
    (line,) = notes_on_paths("results")
    assert line.startswith("results: results of earlier runs travel")
