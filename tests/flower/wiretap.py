"""A grid that is tapped, and a run whose weights, activations and labels are known patterns.

All weights of the model are one number, all activations at its cuts another, all labels a third; steps are so
small that no weight changes. In envelopes that are not sealed they are easy to find.
"""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import torch
from flwr.common.serde import recorddict_to_proto
from torch import nn

from comdml_flwr.core.errors import RunError
from comdml_flwr.flower.clientapp import peer_client_app
from comdml_flwr.flower.serverapp.serverless_run import run_serverless
from comdml_flwr.runs.catalogue import Catalogue
from strategies.splitfed import run_splitfed
from tests.flower.loop_grid import LoopGrid, grid_config, quiet_terminal
from tests.small import few_digits, fleet_text, small_config

NUM_AGENTS = 3
WEIGHT, ACTIVATION, LABEL = 0.015625, 1.7182817, 7
PATTERNS = {
    "weights": np.full(16, WEIGHT, np.float32).tobytes(),
    "activations": np.full(16, ACTIVATION, np.float32).tobytes(),
    "labels": np.full(4, LABEL, np.int64).tobytes(),
}


class Always(nn.Module):
    """Gives one number, whatever comes in; its input has a gradient all the same."""

    def forward(self, x_NCHW):
        return x_NCHW * 0 + ACTIVATION


def patterned(shape, num_classes, generator):
    """Return a model whose weights and activations are known."""
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(shape[0], 8, 3, padding=1), Always()),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), Always()),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), Always()),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)),
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(WEIGHT)
    return model


def all_sevens(config):
    data = few_digits()
    return dataclasses.replace(data, y_train_N=torch.full_like(data.y_train_N, LABEL))


CATALOGUE = Catalogue(models={"patterned": patterned}, datasets={"sevens": all_sevens})


class Wiretap(LoopGrid):
    """A grid that keeps all that passes, as bytes in Flower's own layout, and may change it."""

    def __init__(self, config, node_config=lambda place: {}):
        app = peer_client_app.peer_client_app(models=CATALOGUE.models, datasets=CATALOGUE.datasets)
        super().__init__(app, NUM_AGENTS, config.with_defaults_named(), node_config)
        self.seen, self.change, self.packed = [], lambda message: None, []

    def _handle(self, message):
        self.change(message)
        self._see(message)
        name = super()._handle(message)
        self._see(self._replies[name])
        return name

    def _see(self, message):
        self.seen.append(recorddict_to_proto(message.content).SerializeToString())
        self.packed += message.content["facts"].get("packed", [])

    def found(self):
        """Return which patterns passed."""
        return {name for name, pattern in PATTERNS.items() if any(pattern in seen for seen in self.seen)}

    def num_bytes(self):
        return sum(map(len, self.seen))


def patterned_config(tmp_path, **keys):
    keys = {"method": "comdml", "num_rounds": 2, "optimizer": "sgd", "momentum": 0.0} | keys
    config = small_config(learning_rate=1e-30, **keys)
    names = {"model": "patterned", "dataset": "sevens"}
    return grid_config(config.model_copy(update=names), tmp_path / "results")


def run(grid, config, terminal=None):
    """Run a method over a grid; return its summary."""
    terminal = terminal or quiet_terminal(config.num_rounds)
    if config.method == "splitfed":
        run_splitfed(grid, config, fleet_text(NUM_AGENTS), CATALOGUE, terminal)
    else:
        run_serverless(grid, config, fleet_text(NUM_AGENTS), terminal)
    (summary,) = Path(config.results_dir).glob("*/summary.json")
    return json.loads(summary.read_text())


def printed(config, grid):
    """Run, and return what the ServerApp printed."""
    terminal = quiet_terminal(config.num_rounds)
    run(grid, config, terminal)
    return terminal.console.file.getvalue()


def refused(grid, config):
    """Run; return the lines with which nodes refused: the one that ended the run, or those of who left."""
    terminal, ended_with = quiet_terminal(config.num_rounds), ""
    try:
        run(grid, config, terminal)
    except RunError as error:
        ended_with = str(error)
    assert len(ended_with.splitlines()) <= 1
    assert bool(ended_with) != bool(list(Path(config.results_dir).glob("*/summary.json")))
    if ended_with:
        return ended_with
    printed = terminal.console.file.getvalue().splitlines()
    return "\n".join(line for line in printed if re.match(r"agent \d+ failed in round \d+, ", line))


def in_round(round_, place, change):
    """Return a ServerApp that changes the facts of one message: the first of a round to a node."""
    done = []

    def lie(message):
        facts = message.content["facts"]
        rounds = facts.get("rounds", [])
        if not done and rounds and rounds[0] == round_ and message.metadata.dst_node_id == 1000 - place:
            done.append(place)
            change(facts)

    return lie
