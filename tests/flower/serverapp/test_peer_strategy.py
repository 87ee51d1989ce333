"""PeerStrategy in a ServerApp's own `main`: nodes train under its settings, the app's and the defaults."""

import json

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord

from comdml_flwr import PeerStrategy
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.flower.clientapp.peer_client_app import peer_client_app
from tests.flower.loop_grid import LoopGrid, grid_config, run_on_grid
from tests.small import CATALOGUE, fleet_text, small_config

NUM = 3
SETTINGS = {"batch-size": 8, "local-epochs": 1, "profiles": "fleet", "carrier": "grid"}


@pytest.fixture
def app(tmp_path, monkeypatch):
    """The app that Flower runs here, with keys of its own."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "fleet.toml").write_text(fleet_text(NUM))
    lines = [
        '[project]\nname = "mine"\n[tool.flwr.app]\npublisher = "me"',
        '[tool.flwr.app.components]\nclientapp = ""',
        '[tool.flwr.app.config]\nmodel = "four-stages"\ndataset = "few-digits"\nfleet = "fleet.toml"',
        f'results-dir = "{tmp_path / "results"}"\nnum-rounds = 1\nseed = 3\napp.cheer = "loud"\n',
    ]
    (folder / "pyproject.toml").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(folder))
    return folder


def grid_of(**override_config):
    """Return a grid to whose nodes Flower hands another configuration than the strategy's."""
    client = peer_client_app(models=CATALOGUE.models, datasets=CATALOGUE.datasets)
    grid = LoopGrid(client, NUM, {"num-rounds": 7, "batch-size": 16})
    grid.override_config = override_config
    return grid


def of_folder(folder):
    (run,) = folder.iterdir()
    return [json.loads((run / name).read_text()) for name in ("config.json", "summary.json")]


def test_nodes_train_under_the_settings_of_code_command_line_and_app(app, tmp_path):
    strategy = PeerStrategy(method="comdml", batch_size=8, local_epochs=1, profiles="fleet", carrier="grid")
    result = strategy.start(grid_of(**{"seed": 4, "batch-size": 32, "app.cheer": "low"}), num_rounds=2)
    config, summary = of_folder(tmp_path / "results")
    assert {key: config[key] for key in ("seed", "batch-size", "num-rounds", "app.cheer")} == {
        "seed": 4,
        "batch-size": 8,
        "num-rounds": 2,
        "app.cheer": "low",
    }
    assert [*result.evaluate_metrics_clientapp] == [1, 2]
    assert result.evaluate_metrics_clientapp[2]["accuracy"] == summary["accuracy"]
    assert len(result.arrays) == 0

    same = small_config(seed=4, num_rounds=2)
    record, _ = run_on_grid(grid_config(same, tmp_path / "same"), fleet_text(NUM), NUM)
    assert record.weights_sha256 == summary["weights_sha256"]


def test_a_strategy_without_settings_runs_what_the_app_says(app, tmp_path):
    PeerStrategy().start(grid_of(**SETTINGS, method="allreduce"))
    config, summary = of_folder(tmp_path / "results")
    assert (config["method"], config["seed"], summary["num_rounds"]) == ("allreduce", 3, 1)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"bacth_size": 8}, "bacth_size = 8: is no setting of a run; did you mean 'batch_size'?"),
        ({"xyzzy": 8}, "xyzzy = 8: is no setting of a run; they are the keys of the run configuration"),
        ({"method": "fedavg"}, "method = 'fedavg': has a server, which PeerStrategy does not play; must"),
        ({"method": "comdmll"}, "method = 'comdmll': must be one of allreduce, braintorrent, comdml"),
    ],
)
def test_a_setting_that_is_none_is_one_line(settings, line):
    with pytest.raises(InputError) as caught:
        PeerStrategy(**settings)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"batch_size": 0}, "batch-size = 0: must be at least 1"),
        ({"carrier": "local"}, "carrier = 'local': must be 'grid', 'direct' or 'auto'"),
        ({"fleet": "none.toml"}, "none.toml"),
    ],
)
def test_a_value_that_cannot_be_is_one_line_before_anything_is_written(app, tmp_path, values, line):
    with pytest.raises(InputError) as caught:
        PeerStrategy(**values).start(grid_of())
    assert line in str(caught.value)
    assert not (tmp_path / "results").exists()


def test_a_name_that_the_nodes_do_not_know_is_their_line(app):
    with pytest.raises(RunError, match="model = 'resnet-57': must be one of"):
        PeerStrategy(model="resnet-57").start(grid_of())


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("initial_arrays", ArrayRecord([np.zeros(3)]), "the nodes draw the weights from the seed"),
        ("train_config", ConfigRecord({"lr": 0.1}), "a key of your own"),
        ("evaluate_config", ConfigRecord({"lr": 0.1}), "a key of your own"),
        ("evaluate_fn", lambda round_, arrays: None, "no model comes here"),
    ],
)
def test_what_a_strategy_without_a_model_cannot_use_is_refused_with_the_reason(name, value, why):
    with pytest.raises(InputError, match=f"{name} of PeerStrategy.start = .*: must be left out: .*{why}"):
        PeerStrategy().start(grid_of(), **{name: value})
