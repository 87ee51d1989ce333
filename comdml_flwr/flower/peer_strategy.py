"""PeerStrategy: a Flower strategy without a model; and the ServerApp that runs it.

In a serverless method the agents hold the weights, make the plan and average among themselves. What is left
for the ServerApp: wait until all nodes are there, start each phase, hand on the agents' sealed mail, and add
up what they report. `Result.arrays` stays empty.
"""

import secrets
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import closing

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Result, Strategy

from comdml_flwr.assemble import METHODS, Catalogue, DatasetLoader, ModelBuilder
from comdml_flwr.config import RunConfig, find_fleet, parse_config
from comdml_flwr.errors import InputError, RunError
from comdml_flwr.flower.code_version import code_digest
from comdml_flwr.flower.grid_carrier import GridCarrier, exchange_messages
from comdml_flwr.flower.mail import new_shared_folder
from comdml_flwr.flower.records import OTHER_CHECKOUT, facts_of, flower_reason, integer
from comdml_flwr.messages import phase_name
from comdml_flwr.planning.fleet_file import parse_fleet, self_contained_text
from comdml_flwr.results import record_run
from comdml_flwr.rounds import RunRecord
from comdml_flwr.terminal import Terminal

WAIT_POLL_S = 0.1


class PeerStrategy(Strategy):
    """Runs a serverless method over Flower; owns no model.

    Parameters
    ----------
    config : RunConfig
        The run.
    fleet_text : str
        The fleet file's text, handed to nodes that do not see the ServerApp's files.
    terminal : Terminal
        Where progress is printed.
    reverse_replies : bool
        Take replies in reversed order, which must not matter.
    """

    def __init__(
        self, config: RunConfig, fleet_text: str, terminal: Terminal, *, reverse_replies: bool = False
    ) -> None:
        self._config, self._fleet_text, self._terminal = config, fleet_text, terminal
        self._reverse_replies = reverse_replies
        self._phase_names = tuple(map(phase_name, METHODS[config.method](config)))

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord | None = None,
        num_rounds: int | None = None,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: object = None,
    ) -> Result:
        """Run all rounds and write the result files.

        Parameters
        ----------
        grid : Grid
            Flower's grid.
        initial_arrays, num_rounds, train_config, evaluate_config, evaluate_fn
            Of Flower's signature; must be left out, as the agents begin from the seed, and the run
            configuration says the rest.
        timeout : float
            How long to wait for all nodes to be there, in seconds.

        Returns
        -------
        Result
            Accuracy and loss per round; no arrays.

        Raises
        ------
        InputError, RunError
            What is wrong, in one line.
        """
        given = (initial_arrays or None, num_rounds, train_config, evaluate_config, evaluate_fn)
        if any(value is not None for value in given):
            raise InputError(
                "PeerStrategy.start", "an argument", "must be left out: the run configuration says it"
            )
        availability = parse_fleet(self._fleet_text, "fleet").availability
        token = secrets.token_hex(16)
        folder = new_shared_folder(token, self._fleet_text)
        try:
            common = {"folder": str(folder), "token": token, "code": code_digest()}
            nodes, shared = self._gather_nodes(
                grid, ConfigRecord({**common, "fleet": self._fleet_text}), timeout
            )
            carrier = GridCarrier(
                grid,
                nodes,
                self._phase_names,
                ConfigRecord({**common, "files": shared}),
                on_reply=self._terminal.reply,
                on_wait=self._terminal.sign_of_life,
                reverse_replies=self._reverse_replies,
            )
            ids = tuple(sorted(nodes))
            with closing(carrier):
                return _as_result(
                    record_run(carrier, self._phase_names, ids, self._config, self._terminal, availability)
                )
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _gather_nodes(
        self, grid: Grid, greeting: ConfigRecord, timeout: float
    ) -> tuple[dict[int, int], bool]:
        """Wait until all nodes are there; return the node ids by agent id, and whether all see the folder."""
        first = self._wait_for_nodes(grid, 1, timeout)[0]
        count = integer(self._ask(grid, "query.count", [first], ConfigRecord())[first], "num-partitions")
        node_ids = self._wait_for_nodes(grid, count, timeout)
        self._terminal.exchange_begins(0, "nodes load data and model", count)
        nodes: dict[int, int] = {}
        shared = True
        for node, facts in self._ask(grid, "query.hello", node_ids, greeting).items():
            agent = integer(facts, "agent")
            if agent in nodes:
                raise RunError(
                    f"two nodes say that they are agent {agent}: each needs a partition-id of its own"
                )
            nodes[agent] = node
            shared = shared and bool(facts["sees-folder"])
        return nodes, shared

    def _ask(
        self, grid: Grid, message_type: str, nodes: list[int], facts: ConfigRecord
    ) -> dict[int, ConfigRecord]:
        replies = exchange_messages(
            grid,
            message_type,
            {node: RecordDict({"facts": facts}) for node in nodes},
            group="hello",
            on_reply=self._terminal.reply,
            on_wait=self._terminal.sign_of_life,
        )
        for reply in replies.values():
            if reply.has_error():
                raise RunError(f"a node cannot run this app: {flower_reason(reply)}; {OTHER_CHECKOUT}")
        return {node: facts_of(reply) for node, reply in replies.items()}

    def _wait_for_nodes(self, grid: Grid, count: int, timeout: float) -> list[int]:
        self._terminal.exchange_begins(0, "waiting for nodes", count)
        give_up = time.monotonic() + timeout
        while len(nodes := sorted(grid.get_node_ids())) < count:
            if time.monotonic() > give_up:
                raise RunError(f"only {len(nodes)} of {count} nodes were there after {timeout:g} s")
            self._terminal.sign_of_life()
            time.sleep(WAIT_POLL_S)
        return nodes

    def summary(self) -> None:
        """Print what will run."""
        config = self._config
        self._terminal.say(f"{config.method}: {config.model} on {config.dataset}, {config.num_rounds} rounds")

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return no message: agents are started phase by phase, in `start`."""
        return ()

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return nothing: agents average among themselves."""
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return no message: agents evaluate in their last phase."""
        return ()

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Return nothing: `start` adds up what agents report."""
        return None


def _as_result(record: RunRecord) -> Result:
    result = Result()
    for line in record.rounds:
        metrics = MetricRecord({"accuracy": line.accuracy, "loss": line.loss})
        result.evaluate_metrics_clientapp[line.round] = metrics
    return result


def peer_server_app(
    *,
    models: Mapping[str, ModelBuilder] | None = None,
    datasets: Mapping[str, DatasetLoader] | None = None,
) -> ServerApp:
    """Return a ServerApp that starts serverless training.

    Parameters
    ----------
    models, datasets : Mapping, optional
        Names that the configuration may use besides ours; give the same to `peer_client_app`.
    """
    catalogue = Catalogue(models=models or {}, datasets=datasets or {})
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        config = parse_config(context.run_config)
        catalogue.check(config)
        if config.carrier != "grid":
            raise InputError("carrier", config.carrier, "must be 'grid' under `flwr run`")
        path = find_fleet(config.fleet)
        strategy = PeerStrategy(config, self_contained_text(path), Terminal(config.num_rounds))
        strategy.summary()
        strategy.start(grid)

    return app
