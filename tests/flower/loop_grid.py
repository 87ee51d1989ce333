"""Flower's messages without its engine: a Grid that calls the ClientApp in this process.

Messages, records and contexts are Flower's own and are copied on their way, as they would be by its wire.
"""

import copy
import io
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from rich.console import Console

from comdml_flwr.core.config import RunConfig
from comdml_flwr.flower.clientapp.peer_client_app import peer_client_app
from comdml_flwr.flower.serverapp.federation import Federation
from comdml_flwr.flower.serverapp.messenger import Messenger
from comdml_flwr.flower.serverapp.serverless_run import run_serverless
from comdml_flwr.learning.metrics import KnownTests
from comdml_flwr.runs.records import RunRecord
from comdml_flwr.runs.terminal import Terminal
from tests.small import CATALOGUE


class LoopGrid(Grid):
    """Calls a ClientApp for every message; `inside_client` says whether it is being called.

    `node_config` gives what a node's configuration holds besides its number, `override_config` is what
    `--run-config` says.
    """

    def __init__(
        self,
        app: ClientApp,
        num_nodes: int,
        run_config: dict[str, bool | int | float | str],
        node_config: Callable[[int], dict[str, str]] = lambda place: {},
    ) -> None:
        run_id = secrets.randbits(60)  # no two runs on this machine share a node's own folder
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, 1
        self.inside_client = False
        self.override_config: dict[str, bool | int | float | str] = {}
        self.num_nodes_there = num_nodes
        self._app, self._replies, self._count = app, {}, 0
        self._contexts = {
            1000 - place: Context(
                run_id=run_id,
                node_id=1000 - place,
                node_config={"partition-id": place, "num-partitions": num_nodes, **node_config(place)},
                state=RecordDict(),
                run_config=run_config,
            )
            for place in range(num_nodes)
        }

    def get_node_ids(self) -> Iterable[int]:
        return list(self._contexts)[: self.num_nodes_there]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [self._handle(message) for message in messages]

    def _handle(self, message: Message) -> str:
        self._count += 1
        name = f"message-{self._count}"
        message.metadata.__dict__["_message_id"] = name
        with self._as_client():
            context = self._contexts[message.metadata.dst_node_id]
            self._replies[name] = self._app(copy.deepcopy(message), context)
        return name

    @contextmanager
    def _as_client(self) -> Iterator[None]:
        self.inside_client = True
        try:
            yield
        finally:
            self.inside_client = False

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [copy.deepcopy(self._replies.pop(name)) for name in message_ids if name in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))

    def set_run(self, run: object) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        return replace(Run.create_empty(1), override_config=self.override_config)

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise NotImplementedError


def greeted(grid: LoopGrid, nodes: dict[int, int], **common: bool) -> Federation:
    """Return the federation of these nodes, by agent id, without asking them anything."""
    return Federation(
        messenger=Messenger(grid),
        nodes=nodes,
        folder=Path(),
        common=ConfigRecord({"files": True, **common}),
        addresses={},
        hello_s=0.0,
        start={},
        names={},
        metrics="",
        tests=KnownTests(ids=tuple(nodes), own={}, num_shared=1 << 30),
        model_bytes=0,
    )


def quiet_terminal(num_rounds: int) -> Terminal:
    """Return a terminal that prints into memory."""
    return Terminal(num_rounds, Console(file=io.StringIO(), width=100))


def grid_config(config: RunConfig, results: Path) -> RunConfig:
    """Return the configuration for the grid, with its results in a folder of the test's."""
    return config.model_copy(update={"carrier": "grid", "results_dir": str(results)})


def run_on_grid(
    config: RunConfig, fleet_text: str, num_nodes: int, *, reverse_replies: bool = False
) -> tuple[RunRecord, Terminal]:
    """Run a whole serverless method over a LoopGrid."""
    app = peer_client_app(models=CATALOGUE.models, datasets=CATALOGUE.datasets)
    grid = LoopGrid(app, num_nodes, config.with_defaults_named())
    terminal = quiet_terminal(config.num_rounds)
    record = run_serverless(grid, config, fleet_text, terminal, reverse_replies=reverse_replies)
    return record, terminal
