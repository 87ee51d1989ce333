"""PeerStrategy: a Flower strategy without a model; and the ServerApp that runs it.

In a serverless method the agents hold the weights, make the plan and average among themselves. What is left
for the ServerApp: wait until all nodes are there, start each phase, hand on the agents' sealed mail, and add
up what they report. `Result.arrays` stays empty.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Result, Strategy

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.config import RunConfig, parse_config
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.program import Program
from comdml_flwr.core.strict_json import to_json
from comdml_flwr.flower.app_folder import running_app
from comdml_flwr.flower.app_paths import fleet_path, notes_on_paths, with_data_found, with_results_placed
from comdml_flwr.flower.clientapp.checkpoints import RESTORED
from comdml_flwr.flower.serverapp.checkpoints import NodeCheckpoints
from comdml_flwr.flower.serverapp.choices import choose, without_choice
from comdml_flwr.flower.serverapp.direct_run import DirectRun
from comdml_flwr.flower.serverapp.grid_carrier import GridCarrier
from comdml_flwr.flower.serverapp.last_line import tell_errors_last
from comdml_flwr.flower.serverapp.models import NodeModels
from comdml_flwr.flower.serverapp.nodes import Federation, greet
from comdml_flwr.planning.fleet.fleet_file import parse_fleet, self_contained_text
from comdml_flwr.runs.assemble import SERVERLESS, WITH_SERVER, Catalogue, DatasetLoader, ModelBuilder
from comdml_flwr.runs.checkpoints import Checkpoints
from comdml_flwr.runs.loop import last, run_rounds
from comdml_flwr.runs.records import RunRecord
from comdml_flwr.runs.results import recorded
from comdml_flwr.runs.resuming import Resumed, find_run, given_to_flower
from comdml_flwr.runs.terminal import Terminal

tell_errors_last()


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
    resumed : Resumed, optional
        The run that goes on; `config` is its configuration, and `fleet_text` its fleet.
    """

    def __init__(
        self,
        config: RunConfig,
        fleet_text: str,
        terminal: Terminal,
        *,
        reverse_replies: bool = False,
        resumed: Resumed | None = None,
    ) -> None:
        self._config, self._fleet_text, self._terminal = config, fleet_text, terminal
        self._reverse_replies, self._resumed = reverse_replies, resumed

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
        config_text = to_json(self._config.with_defaults_named()) if self._resumed else ""
        with greet(grid, self._fleet_text, self._terminal, timeout, config_text) as greeted:
            self._config, federation = choose(grid, greeted, self._config, self._terminal)
            with closing(self._carrier(grid, federation)) as carrier:
                return as_result(self._recorded(grid, federation, carrier))

    def _recorded(self, grid: Grid, federation: Federation, carrier: GridCarrier | DirectRun) -> RunRecord:
        """Run all rounds, or those that are left, and write the result files."""
        models = self._models(grid, federation, carrier)
        nodes, checkpoints = self._checkpoints(grid, federation, carrier, models)
        if self._resumed:
            self._resumed.check_agents(federation.ids)
            nodes.restore(self._resumed.checkpoint_folder, self._resumed.checkpoint)
            carrier.restored(RESTORED, self._resumed.checkpoint.files)
        record = last(
            recorded(
                self._rounds(carrier, federation),
                self._config,
                len(federation.ids),
                self._terminal,
                checkpoints,
                self._resumed,
                models,
            )
        )
        if checkpoints:
            nodes.forget()
        return record

    def _carrier(self, grid: Grid, federation: Federation) -> GridCarrier | DirectRun:
        """Return who runs the phases: Flower, mail and all, or the agents, many rounds at a time."""
        program = self._program(federation)
        if self._config.carrier == "direct":
            return DirectRun(
                grid,
                federation,
                self._config,
                program,
                on_reply=self._terminal.reply,
                on_wait=self._terminal.heartbeat,
                on_gone=self._terminal.say,
            )
        federation.check_relay()
        federation.tell_of_unsigned_keys(self._terminal)
        return GridCarrier(
            grid,
            federation.nodes,
            program,
            federation.common,
            on_reply=self._terminal.reply,
            on_wait=self._terminal.heartbeat,
            on_gone=self._terminal.say,
            reverse_replies=self._reverse_replies,
        )

    def _program(self, federation: Federation) -> Program[Agent]:
        """Return one round; its phases run at the nodes."""
        return SERVERLESS[self._config.method](self._config, len(federation.ids))

    def _models(self, grid: Grid, federation: Federation, carrier: GridCarrier | DirectRun) -> NodeModels:
        models = NodeModels(
            grid,
            federation,
            carrier.settle,
            models_agree=self._program(federation).models_agree,
            rounds=self._resumed.record.rounds if self._resumed else (),
            on_wait=self._terminal.heartbeat,
            on_gone=self._terminal.say,
        )
        if self._resumed:
            models.write_into(self._resumed.folder, self._config)
        carrier.tell(models.facts)
        return models

    def _checkpoints(
        self, grid: Grid, federation: Federation, carrier: GridCarrier | DirectRun, models: NodeModels
    ) -> tuple[NodeCheckpoints, Checkpoints | None]:
        resumed = self._resumed
        token = resumed.checkpoint.token if resumed else secrets.token_hex(16)
        nodes = NodeCheckpoints(
            grid,
            federation,
            token,
            carrier.settle,
            models,
            on_wait=self._terminal.heartbeat,
            on_gone=self._terminal.say,
        )
        if not (resumed or self._config.checkpoint_every):
            return nodes, None
        return nodes, Checkpoints(
            config=self._config,
            fleet_text=self._fleet_text,
            ids=federation.ids,
            keep=nodes.keep,
            at_nodes=not federation.shares_folder,
            token=token,
        )

    def _rounds(self, carrier: GridCarrier | DirectRun, federation: Federation) -> Iterator[RunRecord]:
        begun = self._resumed.record if self._resumed else None
        if isinstance(carrier, DirectRun):
            return carrier.rounds(self._terminal, begun)
        return run_rounds(
            carrier,
            self._program(federation),
            federation.ids,
            self._config,
            self._terminal,
            parse_fleet(self._fleet_text, "fleet").availability,
            begun=begun,
        )

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


def as_result(record: RunRecord) -> Result:
    """Return a run's accuracy and loss as Flower keeps them; a loss that was not finite is left out."""
    result = Result()
    for line in record.rounds:
        loss = {} if line.loss is None else {"loss": line.loss}
        metrics = MetricRecord({"accuracy": line.accuracy, **loss})
        result.evaluate_metrics_clientapp[line.round] = metrics
    return result


RunWithServer = Callable[[Grid, RunConfig, str, Catalogue, Terminal], Result]
"""(grid, configuration, fleet file's text, catalogue, terminal) -> result; for methods with a server."""


def peer_server_app(
    *,
    models: Mapping[str, ModelBuilder] | None = None,
    datasets: Mapping[str, DatasetLoader] | None = None,
    with_server: Mapping[str, RunWithServer] | None = None,
) -> ServerApp:
    """Return a ServerApp that starts serverless training.

    Parameters
    ----------
    models, datasets : Mapping, optional
        Names that the configuration may use besides ours; give the same to `peer_client_app`.
    with_server : Mapping, optional
        How to run the methods that have a server, by name; the ServerApp then plays it.
    """
    catalogue = Catalogue(models=models or {}, datasets=datasets or {})
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        config = with_results_placed(parse_config(context.run_config))
        resumed = _resumed(config, context.run_config)
        config = resumed.config if resumed else config
        catalogue.check(config)
        if config.carrier == "local":
            raise InputError("carrier", config.carrier, "must be 'grid', 'direct' or 'auto' under `flwr run`")
        text = resumed.checkpoint.fleet if resumed else self_contained_text(fleet_path(config.fleet))
        terminal = Terminal(config.num_rounds)
        for line in notes_on_paths(str(context.run_config.get("results-dir", config.results_dir))):
            terminal.say(line)
        if config.method in WITH_SERVER:
            if config.method not in (with_server or {}):
                others = ", ".join(sorted(SERVERLESS))
                rule = f"has a server, which this app does not play; methods without one are {others}"
                raise InputError("method", config.method, rule)
            if config.checkpoint_every:
                rule = f"must be 0 for {config.method} under `flwr run`; `comdml run` keeps checkpoints of it"
                raise InputError("checkpoint-every", config.checkpoint_every, rule)
            config = with_data_found(without_choice(config))
            (with_server or {})[config.method](grid, config, text, catalogue, terminal)
            return
        strategy = PeerStrategy(config, text, terminal, resumed=resumed)
        strategy.summary()
        strategy.start(grid)

    return app


def _resumed(config: RunConfig, run_config: Mapping[str, object]) -> Resumed | None:
    if not config.resume:
        return None
    app = running_app()
    return find_run(config.resume, given_to_flower(run_config, app.defaults if app else {}), fleet_path)
