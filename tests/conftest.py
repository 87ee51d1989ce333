"""What holds for every test."""

import pickle
import sys
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import nn

from comdml_flwr.cli import main as cli
from comdml_flwr.learning.cut_profile import ModelProfile, profile_model
from comdml_flwr.runs import assemble

# A busy machine breaks no law.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("everyday", PATIENT, derandomize=True)  # the same examples for everybody
settings.register_profile("hunt", PATIENT, print_blob=True)  # fresh ones: pytest --hypothesis-profile=hunt
settings.load_profile("everyday")


def pytest_addoption(parser):
    """Say how long `pytest -m hunt` looks for a history that breaks a law."""
    parser.addoption("--hunt-seconds", type=float, default=60.0, help="how long `-m hunt` looks for faults")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Run every test with the number of threads that agents use by default."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _count_each_model_once() -> Iterator[None]:
    """Do not count a model's operations again: that takes longer than the small run trains."""
    counted: dict[bytes, ModelProfile] = {}

    def count(model: nn.Sequential, *how: object) -> ModelProfile:
        try:
            key = pickle.dumps((model, how))
        except (AttributeError, TypeError, pickle.PicklingError):  # a test's own class
            return profile_model(model, *how)  # type: ignore[arg-type]
        if key not in counted:
            counted[key] = profile_model(model, *how)  # type: ignore[arg-type]
        return counted[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assemble, "profile_model", count)
        yield


@pytest.fixture
def comdml(monkeypatch, capsys, here):
    """Run `comdml` with these words in this process, in the folder `here` of the test's module.

    Returns exit status, standard output and standard error.
    """

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["comdml", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


@pytest.fixture(autouse=True)
def flower_home(tmp_path, monkeypatch):
    """Flower's own folder, in which nodes keep what no other node sees."""
    home = tmp_path.with_name(f"{tmp_path.name}-flwr-home")
    monkeypatch.setenv("FLWR_HOME", str(home))
    return home
