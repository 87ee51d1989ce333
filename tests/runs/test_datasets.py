"""One key changes the data set: every one of them trains through the same code, from its published files."""

import json

import pytest

from comdml_flwr.cli.doctor.data_files import check_data
from comdml_flwr.core.config import parse_config
from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data import published_files
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.runs.assemble import assemble
from comdml_flwr.runs.catalogue import DATASETS, HUB
from comdml_flwr.runs.local_run import run_locally
from tests.fleets import agent_tables
from tests.flower.loop_grid import quiet_terminal
from tests.published import write_cifar, write_cinic, write_fashion, write_folder, write_hub
from tests.small import CATALOGUE

FLEET = "[links]\nbandwidth_mbps = 100\n" + agent_tables(2, flops_per_s=(4e9, 0.2e9))


def run_on(dataset, folder):
    """Run a ResNet for one round on the data set in a folder; the rest of the configuration is the same."""
    (folder / "fleet.toml").write_text(FLEET)
    values = {
        "model": "resnet-20",
        "dataset": dataset,
        "data-dir": str(folder),
        "fleet": str(folder / "fleet.toml"),
        "results-dir": str(folder / "results"),
        "num-rounds": 1,
        "local-epochs": 1,
        "batch-size": 8,
    }
    return run_locally(values, num_agents=2, catalogue=CATALOGUE, terminal=quiet_terminal(1))


def write_files(dataset, folder, monkeypatch):
    """Write the data set's files; return how many labels it has."""
    if dataset == "cinic-10":
        write_cinic(folder)
        return 10
    if dataset in ("fashion-mnist", "folder"):
        (write_fashion if dataset == "fashion-mnist" else write_folder)(folder)
        return 10
    num_classes = int(dataset.split("-")[1])
    write_cifar(folder, num_classes, monkeypatch)
    return num_classes


OF_FILES = [name for name in sorted(DATASETS) if name not in ("digits", HUB)]


@pytest.fixture(autouse=True)
def no_package_of_debian(monkeypatch, tmp_path):
    monkeypatch.setattr(published_files, "FASHION_OF_DEBIAN", tmp_path / "nowhere")


@pytest.mark.parametrize("dataset", OF_FILES)
def test_a_round_of_comdml_on_the_published_files(dataset, tmp_path, monkeypatch):
    num_classes = write_files(dataset, tmp_path, monkeypatch)
    record = run_on(dataset, tmp_path)
    (line,) = record.rounds
    assert [(pair["slow"], pair["fast"]) for pair in line.plan["pairs"]] == [(1, 0)], (
        "a split model was trained"
    )
    assert 0 < line.loss < 10 * num_classes
    (summary,) = (tmp_path / "results").glob("*/summary.json")
    assert json.loads(summary.read_text())["dataset"] == dataset
    assert run_on(dataset, tmp_path).weights_sha256 == record.weights_sha256


def test_a_round_on_a_folder_of_the_package_datasets(tmp_path):
    name = write_hub(tmp_path / "set")
    assert 0 < run_on(name, tmp_path).rounds[0].loss < 20
    (summary,) = (tmp_path / "results").glob("*/summary.json")
    assert json.loads(summary.read_text())["dataset"] == name
    with pytest.raises(InputError, match=r"dataset = 'hf:.*nowhere': must be a folder: there is no /"):
        run_on("hf:./nowhere", tmp_path)


@pytest.mark.parametrize("dataset", OF_FILES)
def test_missing_files_end_a_run_before_it_has_a_folder(dataset, tmp_path):
    with pytest.raises(InputError, match=f"data-dir = '{tmp_path}'"):
        run_on(dataset, tmp_path)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("dataset", ["cifar-10", "cifar-100", "fashion-mnist"])
def test_a_run_names_the_files_that_the_doctor_names(dataset, tmp_path, monkeypatch):
    write_files(dataset, tmp_path, monkeypatch)
    next(iter([*tmp_path.glob("*/test*"), *tmp_path.glob("t10k*")])).unlink()
    says = check_data(parse_config({"dataset": dataset, "data-dir": str(tmp_path)})).says
    with pytest.raises(InputError) as caught:
        run_on(dataset, tmp_path)
    assert says in str(caught.value)
    assert " lacks t" in says


def test_a_run_on_half_a_data_set_says_so_as_the_doctor_does(tmp_path):
    write_cinic(tmp_path)
    values = {"dataset": "cinic-10", "data-dir": str(tmp_path)}
    config = parse_config(values)
    finding = check_data(config)
    assert finding.state == "warning"
    assert finding.says in assemble(config, parse_fleet(FLEET, "fleet"), 2).warnings
