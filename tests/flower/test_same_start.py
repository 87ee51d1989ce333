"""Nodes that do not begin with the same data and weights are refused before training, in one line."""

from dataclasses import replace

import pytest
import torch

from clients.fedavg import add_fedavg
from comdml_flwr.core.errors import RunError
from comdml_flwr.flower.clientapp import peer_client_app, session
from comdml_flwr.flower.serverapp.serverless_run import run_serverless
from comdml_flwr.runs.catalogue import Catalogue
from strategies.fedavg import run_fedavg
from strategies.splitfed import run_splitfed
from tests.flower.loop_grid import LoopGrid, grid_config, quiet_terminal
from tests.small import few_digits, fleet_text, four_stages, small_config

NUM_AGENTS = 3
ODD = 2  # the place of the node that differs


class OddGrid(LoopGrid):
    """Tells which node is being called, each of which has a process of its own."""

    place = None

    def _handle(self, message):
        session._SETUPS.clear()
        self.place = self._contexts[message.metadata.dst_node_id].node_config["partition-id"]
        try:
            return super()._handle(message)
        finally:
            session._SETUPS.clear()
            self.place = None


def one_fewer(data):
    return replace(data, x_train_NCHW=data.x_train_NCHW[:-1], y_train_N=data.y_train_N[:-1])


def other_pixels(data):
    return replace(data, x_test_NCHW=data.x_test_NCHW.flip(-1))


def another_label(data):
    labels_N = data.y_train_N.clone()
    labels_N[0] = (labels_N[0] + 1) % 10
    return replace(data, y_train_N=labels_N)


def unseeded(shape, num_classes, generator):
    return four_stages(shape, num_classes, torch.Generator().manual_seed(generator.initial_seed() + 1))


def refusal(folder, *, change_data=lambda data: data, build=four_stages, method="comdml", is_odd):
    """Run with a node, or the ServerApp, whose data or model is another; return the line."""
    grids = []

    def load(config):
        return change_data(few_digits()) if is_odd(grids[0].place) else few_digits()

    def build_here(*words):
        return build(*words) if is_odd(grids[0].place) else four_stages(*words)

    catalogue = Catalogue(models={"four-stages": build_here}, datasets={"few-digits": load})
    config = grid_config(small_config(method=method, cut=2), folder)
    app = peer_client_app.peer_client_app(models=catalogue.models, datasets=catalogue.datasets)
    grids.append(OddGrid(add_fedavg(app, catalogue), NUM_AGENTS, config.with_defaults_named()))
    terminal, text = quiet_terminal(config.num_rounds), fleet_text(NUM_AGENTS)
    runs = {
        "comdml": lambda grid: run_serverless(grid, config, text, terminal),
        "fedavg": lambda grid: run_fedavg(grid, config, text, catalogue, terminal),
        "splitfed": lambda grid: run_splitfed(grid, config, text, catalogue, terminal),
    }
    with pytest.raises(RunError) as caught:
        runs[method](grids[0])
    assert not list(folder.glob("*/rounds.jsonl")), "before training"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def is_odd_node(place):
    return place == ODD


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (one_fewer, r"(x_train_NCHW): it is float32 of shape 200x1x8x8, or float32 of shape 199x1x8x8"),
        (other_pixels, "(x_test_NCHW): it has other values"),
        (another_label, "(y_train_N): it is int64 of shape 200, sha256 "),
        (lambda data: replace(data, augment=True), "(augment): it is False, or True"),
    ],
    ids=["one sample fewer", "other pixels", "another label", "augmented"],
)
def test_a_node_with_other_data_is_refused(change, what, tmp_path):
    line = refusal(tmp_path, change_data=change, is_odd=is_odd_node)
    assert f"agent 0 and agent {ODD} do not begin with the same data {what}" in line
    assert line.endswith("every node must load the same data set, of which it trains on its part")


@pytest.mark.parametrize("method", ["fedavg", "splitfed"])
def test_a_node_with_other_data_is_refused_where_there_is_a_server(method, tmp_path):
    line = refusal(tmp_path, change_data=one_fewer, method=method, is_odd=is_odd_node)
    assert f"agent 0 and agent {ODD} do not begin with the same data" in line


@pytest.mark.parametrize("method", ["fedavg", "splitfed"])
def test_a_server_with_other_data_than_the_nodes_is_refused(method, tmp_path):
    line = refusal(tmp_path, change_data=one_fewer, method=method, is_odd=lambda place: place is None)
    assert "agent 0 and the ServerApp do not begin with the same data" in line


def test_a_node_with_other_initial_weights_is_refused(tmp_path):
    line = refusal(tmp_path, build=unseeded, is_odd=is_odd_node)
    assert f"agent 0 and agent {ODD} do not begin with the same initial weights: it has other values" in line
    assert line.endswith("draw from the generator that it is given")
