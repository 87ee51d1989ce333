"""A small app of a user's own, in a folder: its nodes train on digits that each alone has."""

from pathlib import Path

from tests.fleets import agent_tables

SETTINGS = """
[project]
name = "small-app"
version = "1.0.0"

[tool.flwr.app]
publisher = "tests"

[tool.flwr.app.components]
serverapp = "small_app.server_app:app"
clientapp = "small_app.client_app:app"

[tool.flwr.app.config]
carrier = "auto"
fleet = "fleet.toml"
num-rounds = 2
local-epochs = 1
batch-size = 8
profiles = "measured"
"""
FLEET = f"[links]\nbandwidth_mbps = 1000\n{agent_tables(3, flops_per_s=(1e8, 2e7, 1e6))}"
CLIENT = '''
"""The ClientApp."""

from comdml_flwr import Classification, peer_client_app
from small_app.task import dense, load_data

app = peer_client_app(model=dense, task=Classification(num_classes=10), data=load_data)
'''
TASK = '''
"""Model and data."""

from torch import nn


def dense(shape, num_classes, generator):
    """Return a chain of four stages."""
    model = nn.Sequential(
        nn.Sequential(nn.Linear(shape[0], 32), nn.ReLU()),
        nn.Sequential(nn.Linear(32, 32), nn.ReLU()),
        nn.Sequential(nn.Linear(32, 32), nn.ReLU()),
        nn.Linear(32, num_classes),
    )
    for weights in model.parameters():
        nn.init.normal_(weights, std=0.2, generator=generator)
    return model


def load_data(place):
    """Return this node's digits."""
    from small_app import pixels  # the app's folder must still be known when it is called

    x, y = pixels.of_node(place.node_config["partition-id"], place.num_partitions)
    return (x[10:], y[10:]), (x[:10], y[:10])
'''
PIXELS = '''
"""Digits by node: the higher its number, the more it has."""

import numpy as np
from sklearn.datasets import load_digits


def of_node(number, num_nodes):
    x, y = load_digits(return_X_y=True)
    rows = np.arange(len(y))[number::num_nodes][: 50 + 10 * number]
    return (x[rows] / 16).astype(np.float32), y[rows]
'''


def write_small_app(folder: Path) -> Path:
    """Write the app into a new folder, and return that."""
    (folder / "small_app").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(SETTINGS)
    (folder / "fleet.toml").write_text(FLEET)
    server = "from comdml_flwr import peer_server_app\n\napp = peer_server_app()\n"
    texts = {"__init__": "", "client_app": CLIENT, "task": TASK, "pixels": PIXELS, "server_app": server}
    for name, text in texts.items():
        (folder / "small_app" / f"{name}.py").write_text(text)
    return folder
