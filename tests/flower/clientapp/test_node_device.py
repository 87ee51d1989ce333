"""A SuperNode may train on another device than the run names; one that it lacks ends the run in one line."""

import json

import pytest

from comdml_flwr.core.errors import RunError
from comdml_flwr.flower.clientapp.peer_client_app import peer_client_app
from comdml_flwr.flower.serverapp.serverless_run import run_serverless
from comdml_flwr.learning import devices
from comdml_flwr.runs import assemble
from tests.flower.loop_grid import LoopGrid, grid_config, quiet_terminal
from tests.second_device import SecondDevice, kept_apart
from tests.small import CATALOGUE, fleet_text, run_local, small_config, small_fleet


def run_with(config, node_config, num_nodes=3):
    app = peer_client_app(models=CATALOGUE.models, datasets=CATALOGUE.datasets)
    grid = LoopGrid(app, num_nodes, config.with_defaults_named(), node_config)
    run_serverless(grid, config, fleet_text(num_nodes), quiet_terminal(config.num_rounds))


@pytest.mark.parametrize(
    ("device", "rule"),
    [
        ("cuda:7", "'cuda:7': must be one that is here: cpu"),
        ("abacus", "'abacus': must be auto, cpu, cuda, cuda:N"),
        (1, "1: must be auto"),
    ],
)
def test_a_device_that_a_node_lacks_ends_the_run_in_one_line(device, rule, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_accelerators", lambda: iter(()))
    config = grid_config(small_config(), tmp_path)
    with pytest.raises(RunError) as caught:
        run_with(config, lambda place: {"device": device} if place == 1 else {})
    assert f"--node-config device (partition-id=1) = {rule}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [*tmp_path.iterdir()]


def test_a_node_that_lacks_the_runs_device_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_accelerators", lambda: iter(()))
    with pytest.raises(RunError, match=r"^device \(partition-id=[1-3]\) = 'cuda': must be one that is here"):
        run_with(
            grid_config(small_config(device="cuda"), tmp_path),
            lambda place: {"device": "cpu"} if place == 0 else {},
        )


def test_the_nodes_of_a_run_may_mix_devices(tmp_path, monkeypatch):
    """Two devices that compute alike come to the bits of one."""

    def find(wanted, precision, *, is_deterministic):
        return SecondDevice(precision=precision) if wanted == "cuda" else devices.Device(wanted, precision)

    monkeypatch.setattr(assemble, "find_device", find)
    config = small_config(num_rounds=1, num_chunks=2)
    expected, _ = run_local(config, small_fleet(3))
    seen = []
    place_on = SecondDevice.place
    monkeypatch.setattr(
        SecondDevice, "place", lambda device, module: (seen.append(module), place_on(device, module))[1]
    )
    with kept_apart():
        run_with(grid_config(config, tmp_path), lambda place: {"device": "cuda" if place == 0 else "cpu"})
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "summary.json").read_text())["weights_sha256"] == expected.weights_sha256
    assert seen
