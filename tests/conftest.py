"""What holds for every test."""

import os
import sys
from collections.abc import Iterator

os.environ["OMP_NUM_THREADS"] = "1"  # before torch loads, and for the processes that tests start

import pytest
from hypothesis import HealthCheck, settings

# A busy machine breaks no law.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("everyday", PATIENT, derandomize=True)  # the same examples for everybody
settings.register_profile("hunt", PATIENT, print_blob=True)  # fresh ones: pytest --hypothesis-profile=hunt
settings.load_profile("everyday")


def pytest_addoption(parser):
    """Say how long `pytest -m hunt` looks for a history that breaks a law."""
    parser.addoption("--hunt-seconds", type=float, default=60.0, help="how long `-m hunt` looks for faults")
    parser.addoption("--hunt-liars", action="store_true", help="of the faults with one that lies as well")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Run every test with the number of threads that agents use by default."""
    import torch  # not above: the process that hands tests to workers needs none

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _count_each_model_once() -> Iterator[None]:
    from comdml_flwr.runs import assemble, model_costs
    from tests.counting import count_once

    with pytest.MonkeyPatch.context() as patch:
        for module in (assemble, model_costs):
            patch.setattr(module, "profile_model", count_once)
        yield


@pytest.fixture
def forget_apps(tmp_path, monkeypatch) -> Iterator[None]:
    """Leave `sys.path` as it was, and nothing imported that lies in the test's folder."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name, module in [*sys.modules.items()]:
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def comdml(monkeypatch, capsys, here):
    """Run `comdml` with these words in this process, in the folder `here` of the test's module.

    Returns exit status, standard output and standard error.
    """
    from comdml_flwr.cli import main as cli

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
