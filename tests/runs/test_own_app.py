"""An app of the user's own, read from its folder: it trains as under Flower; what is wrong is one line."""

import importlib

import pytest
from torch import nn

from comdml_flwr import load_app, run_locally
from comdml_flwr.core.config import parse_config
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.flower.serverapp.serverless_run import run_serverless
from comdml_flwr.runs.catalogue import Catalogue
from tests.flower.loop_grid import LoopGrid, quiet_terminal
from tests.small_app import CLIENT, FLEET, SETTINGS, write_small_app

NUM = 3
pytestmark = pytest.mark.usefixtures("forget_apps")


@pytest.fixture
def folder(tmp_path):
    return write_small_app(tmp_path / "app")


def run_here(folder, results, **keys):
    app = load_app(folder)
    values = {**app.defaults, "results-dir": str(results), **keys}
    return run_locally(values, num_agents=NUM, catalogue=app.catalogue, terminal=quiet_terminal(2))


def test_an_app_trains_to_the_bits_that_its_nodes_come_to_under_flower(folder, tmp_path):
    here = run_here(folder, tmp_path / "here")
    config = parse_config({**load_app(folder).defaults, "carrier": "grid", "profiles": "fleet"})
    config = config.model_copy(update={"results_dir": str(tmp_path / "there")})
    client = importlib.import_module("small_app.client_app").app
    grid = LoopGrid(client, NUM, config.with_defaults_named())
    run_serverless(grid, config, FLEET, quiet_terminal(2))
    (summary,) = (tmp_path / "there").glob("*/summary.json")
    assert here.weights_sha256 in summary.read_text()
    assert [agent["num_samples"] for agent in here.rounds[0].agents] == [40, 50, 60]
    assert here.rounds[0].plan["pairs"]


def test_its_configuration_holds_here_but_for_what_nodes_do_together(folder, tmp_path):
    (folder / "data").mkdir()
    (folder / "pyproject.toml").write_text(f'{SETTINGS}data-dir = "data"\nresults-dir = "results"\n')
    defaults = load_app(folder).defaults
    assert (defaults["carrier"], defaults["profiles"]) == ("local", "auto")
    assert (defaults["fleet"], defaults["data-dir"]) == (str(folder / "fleet.toml"), str(folder / "data"))
    assert (defaults["num-rounds"], defaults["results-dir"]) == (2, "results")
    (folder / "pyproject.toml").write_text(SETTINGS.replace("fleet.toml", "ten"))
    assert load_app(folder).defaults["fleet"] == "ten"


def test_a_second_app_of_the_same_name_is_read_from_its_own_folder(folder, tmp_path):
    first = load_app(folder).catalogue
    other = write_small_app(tmp_path / "other")
    task = other / "small_app" / "task.py"
    task.write_text(task.read_text().replace("def dense", "def other").replace("32", "16"))
    client = other / "small_app" / "client_app.py"
    client.write_text(CLIENT.replace("dense", "other"))
    second = load_app(other).catalogue
    assert (first.own_model.__name__, second.own_model.__name__) == ("dense", "other")
    assert load_app(folder).catalogue.own_model.__name__ == "dense"


def replace(folder, file, old, new):
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("pyproject.toml", "[project]", "[project", r"its pyproject.toml is not TOML \(.*line 2"),
        (
            "pyproject.toml",
            "[tool.flwr.app.components]",
            "[tool.other]",
            r"no \[tool.flwr.app.components\]",
        ),
        ("pyproject.toml", "clientapp", "agentapp", "clientapp = '': must be MODULE:ATTRIBUTE"),
        ("pyproject.toml", "small_app.client_app:app", "client_app", "must be MODULE:ATTRIBUTE"),
        ("pyproject.toml", "small_app.client_app:", "smal_app.client_app:", "there is no smal_app in "),
        ("pyproject.toml", "small_app.client_app:", "small_app.client:", "there is no small_app.client in "),
        ("pyproject.toml", "client_app:app", "client_app:ap", "small_app.client_app has no ap$"),
        ("pyproject.toml", "client_app:app", "client_app:dense", "and is a function of builtins"),
        ("pyproject.toml", "num-rounds = 2", "num-round = 2", "did you mean 'num-rounds'"),
        ("pyproject.toml", "num-rounds = 2", "num-rounds = 0", "pyproject.toml: num-rounds = 0: .*at least"),
        (
            "small_app/client_app.py",
            "app = peer",
            "from flwr.clientapp import ClientApp\napp = ClientApp()\nother = peer",
            "clientapp = .*: must be what peer_client_app returns, and is a ClientApp of flwr$",
        ),
    ],
)
def test_what_is_no_app_of_ours_is_one_line_with_the_reason(folder, file, old, new, told):
    replace(folder, file, old, new)
    with pytest.raises(InputError, match=told) as refused:
        load_app(folder)
    assert "\n" not in str(refused.value)


def test_a_folder_without_an_app_is_told(tmp_path):
    with pytest.raises(InputError, match=r"app = '.*none': must be .*: there is no such folder"):
        load_app(tmp_path / "none")
    with pytest.raises(InputError, match=r"it has no pyproject.toml"):
        load_app(tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        (
            "client_app.py",
            '"""The ClientApp."""',
            "import nosuch",
            "client_app.py, line 2: .*nosuch",
        ),
        ("client_app.py", '"""The ClientApp."""', "def", "client_app.py, line 2: SyntaxError"),
        ("task.py", '"""Model and', "1 / 0  #", "small_app/task.py, line 2: ZeroDivisionError"),
        ("task.py", "from torch", "from torchh", "small_app/task.py, line 4: .*torchh"),
    ],
)
def test_an_error_when_it_is_imported_names_the_users_line(folder, file, old, new, told):
    replace(folder / "small_app", file, old, new)
    with pytest.raises(RunError, match=told):
        load_app(folder)


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        (
            "task.py",
            "    x, y = ",
            "    x, y = 1 / 0, ",
            "small_app/task.py, line 24, in load_data: Zero",
        ),
        ("task.py", "    model = ", "    model = 1 / 0 or ", "task.py, line 9, in dense: Zero"),
    ],
)
def test_an_error_of_its_functions_names_the_users_line(folder, tmp_path, file, old, new, told):
    replace(folder / "small_app", file, old, new)
    with pytest.raises(RunError, match=told):
        run_here(folder, tmp_path / "results")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "(x[:10], y[:10])",
            "None",
            "test data = '0 samples at all agents': must be at least 1 at one of them",
        ),
        (
            "def dense(shape, num_classes, generator)",
            "def dense(shape, generator)",
            r"model = 'dense(shape, generator)': must be a function (shape of a sample,",
        ),
    ],
)
def test_what_no_round_could_use_is_refused_before_any_training(old, new, line, folder, tmp_path):
    task = folder / "small_app" / "task.py"
    task.write_text(task.read_text().replace(old, new))
    with pytest.raises(InputError) as refused:
        run_here(folder, tmp_path / "results")
    assert str(refused.value).startswith(line)
    assert not (tmp_path / "results").exists()


def test_a_model_in_place_of_its_builder_is_refused():
    with pytest.raises(InputError, match=r"^model = 'Linear': must be a function that builds it"):
        Catalogue(own_model=nn.Linear(2, 2))
