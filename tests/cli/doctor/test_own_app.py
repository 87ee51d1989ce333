"""The doctor looks at the Flower app in the working directory."""

import pytest
from typer.testing import CliRunner

from comdml_flwr.cli.commands.init import FLOWER
from comdml_flwr.cli.doctor.own_app import check_app
from comdml_flwr.cli.main import app as comdml


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """The pyproject.toml of a new app, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(comdml, ["init", "leaf-counter"]).exit_code == 0
    monkeypatch.chdir(tmp_path / "leaf-counter")
    return tmp_path / "leaf-counter" / "pyproject.toml"


def change(settings, old, new):
    text = settings.read_text()
    assert old in text
    settings.write_text(text.replace(old, new, 1))


def test_a_new_app_is_well(settings):
    assert check_app().state == "ok"
    assert check_app().facts["name"] == "me.leaf-counter"


def test_where_there_is_no_app_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check_app() is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('version = "1.0.0"', 'version = "1.1.0"'),  # of [project] alone
        (
            '[[tool.uv.dependency-metadata]]\nname = "leaf-counter"',
            '[[tool.uv.other]]\nname = "leaf-counter"',
        ),
        ("requires-dist = []", 'requires-dist = ["comdml-flwr"]'),
    ],
)
def test_what_ends_in_uv_sync_failed_is_told_with_its_cure(settings, old, new):
    change(settings, old, new)
    finding = check_app()
    assert finding.state == "warning"
    assert '[[tool.uv.dependency-metadata]] with name = "leaf-counter", version = ' in finding.mend


@pytest.mark.parametrize("dependencies", ["[]", '["flwr[simulation]>=1.41"]'])
def test_an_app_that_needs_only_flower_needs_no_table(settings, dependencies):
    old = f'dependencies = ["comdml-flwr>=0.1.0", "{FLOWER}"]'
    change(settings, old, f"dependencies = {dependencies}")
    change(settings, "[[tool.uv.dependency-metadata]]", "[[tool.uv.other]]")
    assert check_app().state == "ok"


def test_a_misspelt_key_is_named_with_the_nearest(settings):
    change(settings, "num-rounds = 5", "num-round = 5")
    finding = check_app()
    assert finding.state == "wrong"
    assert "is no key of the run configuration" in finding.says
    assert finding.says.endswith("; did you mean 'num-rounds'?")
