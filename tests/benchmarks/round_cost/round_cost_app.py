"""A Flower app that runs blocks of ComDML rounds and of Flower's own FedAvg rounds in turn, in one run.

Both train the same model on the same samples in the same batches, and both evaluate 1/10 of the test set at
each of the ten nodes. `round_cost.py` starts it and prints the ratio.
"""

import json
import time
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.setup import Setup
from comdml_flwr.core.config import RunConfig, find_fleet, parse_config
from comdml_flwr.core.sharding import shard_bounds
from comdml_flwr.flower.clientapp.peer_client_app import peer_client_app
from comdml_flwr.flower.serverapp.serverless_run import run_serverless
from comdml_flwr.learning.data.source import in_parts
from comdml_flwr.learning.training import Learner
from comdml_flwr.planning.fleet.fleet_file import load_fleet, self_contained_text
from comdml_flwr.runs.assemble import assemble, optimizer_settings
from comdml_flwr.runs.terminal import Terminal

NUM_NODES = 10
_SETUPS: dict[str, Setup] = {}


def config_of(context: Context) -> RunConfig:
    """Return the run's configuration; `num-blocks` is this app's own."""
    keys = {key: value for key, value in context.run_config.items() if key != "num-blocks"}
    return parse_config(keys)


def setup_of(context: Context) -> Setup:
    """Return what all nodes share, built once a process, as the peers' own is."""
    if "setup" not in _SETUPS:
        config = config_of(context)
        _SETUPS["setup"] = assemble(config, load_fleet(find_fleet(config.fleet)), NUM_NODES)
    return _SETUPS["setup"]


def as_peers_see_it(context: Context) -> Context:
    """Return the context with the keys that the peers know."""
    return Context(
        run_id=context.run_id,
        node_id=context.node_id,
        node_config=context.node_config,
        state=context.state,
        run_config=config_of(context).with_defaults_named(),
    )


class BenchmarkApp(ClientApp):
    """The peers' handlers, and FedAvg's; travels to an actor by name, so that the actor keeps its set-up."""

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return this_app, ()


def this_app() -> ClientApp:
    """Return the app of this process."""
    return client_app


client_app = BenchmarkApp()
peers = peer_client_app()


@client_app.query("count")
@client_app.query("hello")
@client_app.train("steps")
def peer(message: Message, context: Context) -> Message:
    """Do as the peers do."""
    return peers(message, as_peers_see_it(context))


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Train the whole model, as a FedAvg client does."""
    torch.set_num_threads(1)
    setup = setup_of(context)
    agent = Agent(context.node_config["partition-id"], setup)
    agent.begin_round(1)
    model = setup.learners.model
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    learner = Learner(model, None, optimizer_settings(setup.config), setup.task)
    for number, indices in enumerate(agent.batches()):
        learner.train_batch(*agent.samples(indices, number))
    content = {
        "arrays": ArrayRecord(model.state_dict()),
        "metrics": MetricRecord({"num-examples": agent.num_samples}),
    }
    return Message(RecordDict(content), reply_to=message)


@client_app.evaluate()
def evaluate_part(message: Message, context: Context) -> Message:
    """Evaluate a tenth of the test set."""
    torch.set_num_threads(1)
    setup = setup_of(context)
    model, test = setup.learners.model, Agent(context.node_config["partition-id"], setup).data.test
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    start, stop = shard_bounds(len(test), NUM_NODES)[context.node_config["partition-id"]]
    learner = Learner(model, None, optimizer_settings(setup.config), setup.task)
    sums = learner.evaluate(in_parts(test, start, stop))
    metrics = {
        "num-examples": stop - start,
        "accuracy": sums["correct"] / (stop - start),
        "loss": sums["loss_sum"] / (stop - start),
    }
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


server_app = ServerApp()


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the blocks in turn; write what each took to `round_cost.json`."""
    config = config_of(context)
    text = self_contained_text(find_fleet(config.fleet))
    setup = setup_of(context)
    arrays = ArrayRecord(setup.learners.model.state_dict())
    seconds: dict[str, list[float]] = {"comdml": [], "fedavg": []}
    for _ in range(int(context.run_config["num-blocks"])):
        run_serverless(grid, config, text, Terminal(config.num_rounds))
        seconds["comdml"].append(_last_elapsed_s(Path(config.results_dir)) / config.num_rounds)
        began = time.monotonic()
        FedAvg(min_available_nodes=NUM_NODES).start(grid, arrays, num_rounds=config.num_rounds)
        seconds["fedavg"].append((time.monotonic() - began) / config.num_rounds)
    Path(config.results_dir, "round_cost.json").write_text(json.dumps(seconds))


def _last_elapsed_s(results: Path) -> float:
    summary = max(results.glob("*/summary.json"), key=lambda path: path.stat().st_mtime)
    return float(json.loads(summary.read_text())["elapsed_s"])
