"""The run configuration of the testbed's runs, and mistakes on its command line."""

import os
import shutil
import tomllib
from pathlib import Path

import pytest

from comdml_flwr.core.errors import InputError, RunError
from experiments.testbed import __main__ as command
from experiments.testbed.federation import FinishedRun
from experiments.testbed.session import _compare, _write_run_config, read_run_config
from tests.experiments.testbed.fleets import TEXT

FLEET = Path("/fleets/two.toml")


def test_words_and_files_are_read_as_flwr_reads_them(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("seed = 3\nlearning-rate = 0.1\n")
    values = read_run_config([str(file), "local-epochs=1 wandb-project='a b' tensorboard=true"], FLEET, 2)
    assert values == {
        "seed": 3,
        "learning-rate": 0.1,
        "local-epochs": 1,
        "wandb-project": "a b",
        "tensorboard": True,
        "fleet": "/fleets/two.toml",
        "num-rounds": 2,
        "profiles": "fleet",
    }


@pytest.mark.parametrize("rounds", [None, 0])
def test_rounds_that_are_not_given_stay_those_of_the_configuration(rounds):
    assert read_run_config(["num-rounds=4"], FLEET, rounds)["num-rounds"] == 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("seed", "--run-config = 'seed': must be key=value, separated by spaces"),
        ("seed=1 x", "--run-config = 'x': must be key=value"),
        ("model=resnet-56", "--run-config = 'model=resnet-56': values are as in TOML, text in quotes"),
        ("sed=1", "did you mean 'seed'?"),
        ("local-epochs=0", "local-epochs = 0: "),
        ("carrier='local'", "carrier = 'local': must be one of those between SuperNodes"),
        ("fleet='x'", "--run-config = 'fleet': is set by the testbed's own arguments"),
        ("none.toml", "--run-config = 'none.toml': No such file or directory"),
    ],
)
def test_a_mistake_in_the_run_configuration_is_one_line(given, message):
    with pytest.raises(InputError) as caught:
        read_run_config([given], FLEET, None)
    assert message in str(caught.value)


def test_a_runs_file_is_what_was_asked(tmp_path):
    values = {"seed": 3, "learning-rate": 1e-05, "wandb-project": 'a "b" ü', "tensorboard": True}
    read = tomllib.loads(_write_run_config(tmp_path, "allreduce", values).read_text())
    assert read == {**values, "method": "allreduce", "results-dir": str(tmp_path / "allreduce")}


def test_other_weights_than_the_local_carriers_are_an_error():
    run = FinishedRun(folder=Path(), rounds=(), summary={"weights_sha256": "ab"})
    _compare({"comdml": run}, {"comdml": "ab"})
    with pytest.raises(RunError, match="comdml: weights ab on the hosts, cd by the local carrier"):
        _compare({"comdml": run}, {"comdml": "cd"})


@pytest.fixture
def as_root(monkeypatch):
    """A machine that could make hosts, as far as the command can see; nothing here goes on to make them."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    monkeypatch.setattr(shutil, "which", lambda name: f"/sbin/{name}")
    monkeypatch.setattr(command, "find_hierarchy", lambda mounts: None)


def test_without_root_it_says_so_in_one_line(experiment, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    status, out, err = experiment(command.main, "fleet.toml")
    assert (status, out) == (1, "")
    assert (
        err == "experiment: the testbed makes network namespaces and CPU quotas: it needs Linux, and root\n"
    )


@pytest.mark.usefixtures("as_root")
def test_without_iproute2_it_says_what_to_install(experiment, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    status, _, err = experiment(command.main, "fleet.toml")
    assert (status, err) == (
        1,
        "experiment: ip and tc not found: install iproute2 (apt-get install iproute2)\n",
    )


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "FLEET = None: must be a fleet file"),
        (["none.toml"], "fleet = 'none.toml': No such file or directory"),
        (["FLEET", "--flops-per-cpu", "1e8"], "sum of CPU quotas = 13.5: must be at most 1.85"),
        (["FLEET", "--method", "magic", "--rounds", "1"], "method = 'magic': must be one of allreduce"),
    ],
)
def test_bad_input_is_one_line_and_status_2_before_anything_is_made(experiment, tmp_path, words, message):
    fleet = tmp_path / "fleet.toml"
    fleet.write_text(TEXT)
    status, out, err = experiment(
        command.main, *(str(fleet) if word == "FLEET" else word for word in words), "--output", tmp_path / "r"
    )
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "r").exists()
