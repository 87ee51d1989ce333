"""`comdml model`: where a run's models are, how they are loaded, and one line where something is wrong."""

import json
import subprocess
import sys

import pytest

from comdml_flwr.cli import main as cli
from comdml_flwr.cli.commands.model import OURS
from comdml_flwr.runs.catalogue import MODELS
from tests.carriers.interrupted import only_run_in
from tests.runs.test_trained_models import run, values_of


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """A run that has left its models; only to be read."""
    folder = tmp_path_factory.mktemp("left")
    run(values_of(folder, num_rounds=2, local_epochs=1))
    return only_run_in(folder / "results")


@pytest.fixture
def copied(left, tmp_path):
    """A copy of it, to be spoilt."""
    folder = tmp_path / "run"
    folder.mkdir()
    for path in left.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def model(monkeypatch, capsys):
    """Run `comdml model` in this process; return exit status, what it printed, and its one line."""

    def call(path):
        monkeypatch.setattr(sys, "argv", ["comdml", "model", str(path)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code, *capsys.readouterr()

    return call


def test_the_names_of_our_models_are_known_without_torch():
    assert set(OURS) == set(MODELS)


def test_it_shows_each_file_with_its_round_and_the_code_that_loads_it(left, model):
    status, printed, error = model(left)
    assert (status, error) == (0, "")
    entries = json.loads((left / "summary.json").read_text())["models"]
    lines = printed.splitlines()
    for line, entry in zip(lines[:2], entries, strict=True):
        assert line == (
            f"{entry['file']}: round {entry['round']}, accuracy {entry['accuracy']:.4f},"
            f" weights sha256 {entry['weights_sha256']}"
        )
    program = "\n".join(lines[3:])
    assert len(lines[3:]) == 5
    assert str(left / "model.safetensors") in program
    assert "from my_app import build" in program, "the model is not one of ours"
    builder = "import tests.small; build = tests.small.four_stages"
    program = program.replace("from my_app import build", builder)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_file_alone_is_checked_by_what_it_says_of_itself(left, model):
    status, printed, _ = model(left / "model-best.safetensors")
    assert status == 0
    assert printed.startswith(f"{left / 'model-best.safetensors'}: round ")


def change_a_weight(folder):
    path = folder / "model.safetensors"
    blob = bytearray(path.read_bytes())
    blob[-9] ^= 1
    path.write_bytes(blob)


def exchange_models(folder):
    """Put another whole model in its place."""
    summary = json.loads((folder / "summary.json").read_text())
    summary["models"][0]["weights_sha256"] = "0" * 64
    (folder / "summary.json").write_text(json.dumps(summary))


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def be_of_an_old_version(folder):
    for path in folder.glob("model*"):
        path.unlink()
    summary = json.loads((folder / "summary.json").read_text())
    del summary["models"]
    (folder / "summary.json").write_text(json.dumps(summary))


def lose_all(folder):
    for path in folder.iterdir():
        path.unlink()


def another_file(folder):
    (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")


@pytest.mark.parametrize(
    ("spoil", "status", "line"),
    [
        (change_a_weight, 1, "its weights have sha256 "),
        (exchange_models, 1, "..., summary.json says 0000000000000000..."),
        (truncate, 2, "cannot be read: "),
        (another_file, 2, "is no model that a run has left"),
        (lambda folder: (folder / "model.safetensors").unlink(), 2, "cannot be read: No such file"),
        (lambda folder: (folder / "summary.json").write_text("[1]"), 2, "that no run has written"),
        (lambda folder: (folder / "summary.json").write_text("{"), 2, "summary.json that cannot be read"),
        (be_of_an_old_version, 2, "is a run without a model: "),
        (lose_all, 2, "must be a run's folder: there is no config.json, and no model"),
    ],
    ids=["changed", "another", "truncated", "no model", "missing", "summary", "no json", "old", "empty"],
)
def test_what_is_wrong_is_one_line(spoil, status, line, copied, model):
    spoil(copied)
    found, printed, error = model(copied)
    assert (found, printed) == (status, "")
    assert error.count("\n") == 1
    assert line in error
    assert str(copied) in error


def test_a_run_that_was_interrupted_shows_what_it_has_left(copied, model):
    (copied / "summary.json").unlink()
    status, printed, _ = model(copied)
    assert status == 0
    assert [line.split(":")[0] for line in printed.splitlines()[:2]] == [
        "model-best.safetensors",
        "model.safetensors",
    ]
