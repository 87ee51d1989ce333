"""Data that stay where they are: every node trains on what its own folder holds, on all of it."""

import json

import numpy as np
import pytest
from torch import nn

from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.seeds import SHARED, derive_seed
from comdml_flwr.flower.clientapp.peer_client_app import peer_client_app
from comdml_flwr.flower.serverapp.serverless_run import run_serverless
from comdml_flwr.learning.data.app_data import own_data
from comdml_flwr.learning.data.partition import partition
from comdml_flwr.learning.data.source import Place
from comdml_flwr.learning.task import Classification
from comdml_flwr.runs.catalogue import Catalogue
from comdml_flwr.runs.local_run import run_locally
from comdml_flwr.runs.run_data import data_of_app
from tests.flower.loop_grid import LoopGrid, grid_config, quiet_terminal, run_on_grid
from tests.small import few_digits, fleet_text, four_stages, small_config

NUM = 3
TASK = Classification(num_classes=10)
CONFIG = {"dataset": "few-digits", "partition": "dirichlet"}


@pytest.fixture
def folders(tmp_path):
    """Give each node a folder with its part of the digits, as the built-in partition spreads them."""
    data = few_digits()
    labels = data.y_train_N.numpy()
    seed = derive_seed(small_config().seed, SHARED, SHARED, "partition")
    parts = partition(labels, NUM, scheme="dirichlet", alpha=0.5, seed=seed)
    for number, rows in enumerate(parts):
        (tmp_path / f"node-{number}").mkdir()
        np.savez(tmp_path / f"node-{number}" / "digits.npz", x=data.x_train_NCHW[rows], y=labels[rows])
    return tmp_path


def load_data(place):
    """Read the node's folder, which it alone knows."""
    with np.load(f"{place.node_config['data-path']}/digits.npz") as file:
        return (file["x"], file["y"]), None


def load_test(place):
    data = few_digits()
    return data.x_test_NCHW, data.y_test_N


def normed(shape, num_classes, generator):
    """Return a model that cannot train on one sample."""
    return nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8)), nn.Linear(8, 10))


def run(
    tmp_path,
    load=load_data,
    shared_test=load_test,
    folder_of=lambda number: f"node-{number}",
    model=four_stages,
    **keys,
):
    config = grid_config(small_config(**keys), tmp_path / "results")
    app = peer_client_app(model=model, task=TASK, data=load, shared_test=shared_test)
    grid = LoopGrid(
        app,
        NUM,
        config.with_defaults_named(),
        lambda number: {"data-path": str(tmp_path / folder_of(number))},
    )
    run_serverless(grid, config, fleet_text(NUM), quiet_terminal(config.num_rounds))
    (folder,) = (tmp_path / "results").iterdir()
    return folder


def test_own_folders_give_the_bits_of_a_data_set_that_is_spread_alike(folders):
    seen = []

    def spying(place):
        seen.append((place.partition_id, place.node_config["data-path"]))
        return load_data(place)

    folder = run(folders, spying)
    assert {*seen} == {(number, str(folders / f"node-{number}")) for number in range(NUM)}
    config = grid_config(small_config(**CONFIG), folders / "of-a-data-set")
    run_on_grid(config, fleet_text(NUM), NUM)
    (other,) = (folders / "of-a-data-set").iterdir()
    for name in ("weights_sha256", "virtual_time_s", "accuracy", "bytes_sent"):
        own, spread = (json.loads((place / "summary.json").read_text())[name] for place in (folder, other))
        assert own == spread, name
    assert (folder / "agents.json").read_text() == (other / "agents.json").read_text()
    assert json.loads((folder / "config.json").read_text())["dataset"] == "spying"
    assert json.loads((folder / "summary.json").read_text())["model"] == "four_stages"


def test_a_run_in_one_process_asks_for_each_place_and_shares_out_the_same_test_samples(folders):
    def load(place):
        number = place.node_config["partition-id"]
        with np.load(folders / f"node-{number}" / "digits.npz") as file:
            return (file["x"], file["y"]), (file["x"][:4], file["y"][:4]) if number == 1 else None

    over_grid = run(folders, load)
    catalogue = Catalogue(own_model=four_stages, own_data=own_data(load, TASK, load_test))
    (folders / "fleet.toml").write_text(fleet_text(NUM))
    values = small_config(fleet=str(folders / "fleet.toml"), results_dir=str(folders / "here"))
    record = run_locally(values.with_defaults_named(), num_agents=NUM, catalogue=catalogue)
    summary = json.loads((over_grid / "summary.json").read_text())
    assert record.weights_sha256 == summary["weights_sha256"]
    rounds = (over_grid / "rounds.jsonl").read_text().splitlines()
    assert json.loads(rounds[-1])["accuracy"] == record.rounds[-1].scores["accuracy"]
    assert json.loads(rounds[-1])["num_evaluated"] == record.rounds[-1].num_evaluated == 50 + 4
    own = json.loads(rounds[-1])["own_tests"]
    assert own == json.loads(json.dumps(record.rounds[-1].own_tests)), "each agent's, on its own test data"
    assert {agent: told["sums"]["num_evaluated"] for agent, told in own.items()} == {"1": 4}


def test_a_round_without_anybody_who_has_a_test_sample_has_no_metric(folders):
    def load(place):
        (x, y), _ = load_data(place)
        return (x, y), (x[:4], y[:4]) if place.partition_id == 1 else None

    folder = run(folders, load, shared_test=None, method="allreduce", participation=0.4, num_rounds=5)
    rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    judged = {line["round"] for line in rounds if line["own_tests"]}
    assert judged
    assert judged < {line["round"] for line in rounds}
    assert {line["round"] for line in rounds if line["accuracy"] is not None} == judged
    assert {line["round"] for line in rounds if line["loss"] is not None} == judged
    assert json.loads((folder / "summary.json").read_text())["status"] == "complete"
    assert (folder / "model-best.safetensors").exists()


def wider(place):
    (x, y), _ = load_data(place)
    x = np.pad(x, ((0, 0), (0, 0), (0, 0), (0, 2))) if place.partition_id == 1 else x
    return (x, y), (x[:2], y[:2])


def test_samples_of_another_shape_at_one_agent_are_named_before_training(folders):
    with pytest.raises(RunError) as failed:
        run(folders, wider, shared_test=None)
    line = "data of partition 1: a training sample = 'float32 (1, 8, 10)': must be float32 (1, 8, 8), as at"
    assert line in str(failed.value)
    places = [
        Place(partition_id=n, num_partitions=NUM, node_config={"data-path": f"{folders}/node-{n}"})
        for n in range(NUM)
    ]
    with pytest.raises(
        InputError, match=r"^data of partition 1: a training sample = 'float32 \(1, 8, 10\)': must be float32"
    ):
        data_of_app(small_config(), own_data(wider, TASK), dict(enumerate(places)), print).share(1)


def one_sample(place):
    x, y = load_data(place)[0]
    return ((x[:1], y[:1]) if place.partition_id == 1 else (x, y)), None


def no_sample(place):
    x, y = load_data(place)[0]
    return ((x[:0], y[:0]) if place.partition_id == 1 else (x, y)), None


def an_eleventh_class(place):
    x, y = load_data(place)[0]
    return ((x, y + 1) if place.partition_id == 1 else (x, y)), None


@pytest.mark.parametrize(
    ("load", "told"),
    [
        (one_sample, "data of partition 1: training samples = 1: must be at least 2: the model cannot train"),
        (no_sample, "data of partition 1: training data = '0 samples': must be at least 1"),
        (an_eleventh_class, "data of partition 1: training data: targets = 10: must be from 0 to 9"),
    ],
)
def test_a_node_whose_data_cannot_be_trained_on_is_named_before_training(folders, load, told):
    with pytest.raises(RunError) as failed:
        run(folders, load, model=normed)
    assert told in str(failed.value)
    assert not (folders / "results").exists()


def test_a_node_without_a_folder_is_named_with_the_users_line(folders):
    with pytest.raises(RunError, match=r"test_own_data.py, line \d+.*FileNotFoundError"):
        run(folders, folder_of=lambda number: f"none-{number}" if number == 2 else f"node-{number}")


def test_shared_test_data_that_differ_are_refused(folders):
    def some(place):
        x, y = load_test(place)
        return x[place.partition_id :], y[place.partition_id :]

    with pytest.raises(InputError, match="shared test data = '48 samples at one agent, 50 at another'"):
        run(folders, shared_test=some)


def test_a_run_that_nobody_can_judge_is_refused(folders):
    with pytest.raises(InputError, match="test data = '0 samples at all agents'"):
        run(folders, shared_test=None)
