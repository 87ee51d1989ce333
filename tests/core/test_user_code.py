"""An error in a user's own code is told by the user's own file and line."""

import importlib
import logging
import sys

import pytest

from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.user_code import naming_user_code
from comdml_flwr.flower.serverapp.last_line import tell_errors_last
from comdml_flwr.runs.assemble import assemble
from comdml_flwr.runs.catalogue import Catalogue
from comdml_flwr.runs.local_run import run_locally
from tests.flower.loop_grid import quiet_terminal
from tests.small import CATALOGUE, fleet_text, small_config, small_fleet

TASK = """\
import torch
from torch import nn


class Odd(nn.Module):
    def __init__(self, is_odd):
        super().__init__()
        self.is_odd = is_odd

    def forward(self, x):
        return x @ torch.zeros(3, 5, device=x.device) if self.is_odd(x) else x


def misspelt(shape, num_classes, generator):
    return nn.Sequential(nn.Flatten(), nn.Liner(64, num_classes))


def load_nothing(config):
    return open("no-such-file.csv")


def odd_always(shape, num_classes, generator):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), Odd(lambda x: True), nn.Linear(10, num_classes))


def odd_in_training(shape, num_classes, generator):
    odd = Odd(lambda x: torch.is_grad_enabled() and not x.is_meta)  # looked at without gradients
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), odd, nn.Linear(10, num_classes))
"""
MISSPELT = (
    "my_package/task.py, line 15, in misspelt: AttributeError: module 'torch.nn' has no attribute 'Liner'"
)


@pytest.fixture
def own_package(tmp_path, monkeypatch):
    """Return a function that writes an app's module into a folder and imports it from there."""

    def write(text, folder=tmp_path):
        package = folder / "my_package"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").touch()
        (package / "task.py").write_text(text)
        monkeypatch.syspath_prepend(str(folder))
        return importlib.import_module("my_package.task")

    yield write
    for name in ("my_package", "my_package.task"):
        sys.modules.pop(name, None)


def set_up(models=None, datasets=None, **keys):
    catalogue = Catalogue(
        models={**CATALOGUE.models, **(models or {})}, datasets={**CATALOGUE.datasets, **(datasets or {})}
    )
    return assemble(small_config(**keys), small_fleet(2), 2, catalogue)


def test_a_model_builder_is_told_by_its_line(own_package):
    task = own_package(TASK)
    with pytest.raises(RunError) as caught:
        set_up({"own": task.misspelt}, model="own")
    assert str(caught.value) == MISSPELT
    assert isinstance(caught.value.__cause__, AttributeError)


def test_a_file_in_flowers_copy_of_an_app_is_told_by_its_path_in_the_app(own_package, tmp_path):
    task = own_package(TASK, tmp_path / "home" / "apps" / "me.my-app.1.0.0.0123abcd")
    with pytest.raises(RunError) as caught:
        set_up({"own": task.misspelt}, model="own")
    assert str(caught.value) == MISSPELT


def test_a_loader_is_told_by_its_line(own_package):
    task = own_package(TASK)
    with pytest.raises(RunError, match=r"^my_package/task\.py, line 19, in load_nothing: FileNotFoundError"):
        set_up(datasets={"own": task.load_nothing}, dataset="own")


def test_a_stage_that_fits_nothing_is_told_by_its_line_before_any_training(own_package):
    task = own_package(TASK)
    with pytest.raises(InputError, match=r"stage 3 of 4 \(Odd\) .* my_package/task\.py, line 11, in forward"):
        set_up({"own": task.odd_always}, model="own")


def test_a_stage_that_fails_in_training_is_told_by_its_line(own_package, tmp_path):
    task, fleet = own_package(TASK), tmp_path / "fleet.toml"
    fleet.write_text(fleet_text(2))
    catalogue = Catalogue(models={"own": task.odd_in_training}, datasets=CATALOGUE.datasets)
    values = {
        "model": "own",
        "dataset": "few-digits",
        "fleet": str(fleet),
        "results-dir": str(tmp_path / "r"),
    }
    where = "round 1, balance and train"
    line = rf"agent \d failed in {where}: my_package/task\.py, line 11, in forward: RuntimeError"
    with pytest.raises(RunError, match=line):
        run_locally(values, num_agents=2, catalogue=catalogue, terminal=quiet_terminal(1))


def test_a_module_that_is_no_python_is_told_by_its_own_line(own_package):
    with pytest.raises(RunError) as caught, naming_user_code():
        own_package("import torch\n\nx = (\n")
    assert str(caught.value) == "my_package/task.py, line 3: SyntaxError: '(' was never closed"


def test_an_error_without_a_line_of_the_users_names_our_line_that_led_there():
    with pytest.raises(
        RunError, match=r"comdml_flwr/runs/assemble\.py, line \d+, in \w+: AttributeError: 'str'"
    ):
        assemble(small_config(), "no fleet", 2, CATALOGUE)


class FlowersLog(logging.Handler):
    """What Flower logs when an app has failed with an error."""

    def __init__(self, error):
        super().__init__()
        self.lines = []
        logger = logging.getLogger("flwr")
        logger.addHandler(self)
        logger.error("%s raised an exception", "ServerApp", exc_info=error)
        logger.error("Exit Code: 700\n\nAn unhandled exception occurred.\n\nFor more, visit: <https://x>")
        logger.removeHandler(self)

    def emit(self, record):
        self.lines += self.format(record).splitlines()


def test_flowers_log_ends_with_our_line_and_has_no_traceback():
    tell_errors_last()
    log = FlowersLog(InputError("momentum", 1.5, "must be less than 1"))
    assert log.lines[-1] == "comdml: momentum = 1.5: must be less than 1"
    assert not any("Traceback" in line for line in log.lines)


def test_flowers_log_ends_with_the_users_line_where_a_module_cannot_be_imported(own_package, monkeypatch):
    tell_errors_last()
    with pytest.raises(AttributeError) as caught:
        own_package("from torch import nn\n\nLAYER = nn.Liner\n")
    wrapped = RuntimeError("An error was encountered. Ending simulation.")
    wrapped.__cause__ = caught.value.with_traceback(caught.value.__traceback__.tb_next)
    line = "comdml: my_package/task.py, line 3: AttributeError: module 'torch.nn' has no attribute 'Liner'"
    assert FlowersLog(wrapped).lines[-1] == line
    monkeypatch.setenv("COMDML_TRACEBACK", "1")
    log = FlowersLog(wrapped)
    assert log.lines[-1] == line
    assert any(line.startswith("Traceback") for line in log.lines)


def test_what_neither_we_nor_the_user_have_caused_is_flowers_own_to_tell():
    tell_errors_last()
    assert FlowersLog(OSError("of Flower's own")).lines[-1] == "For more, visit: <https://x>"
