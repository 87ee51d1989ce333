"""PeerStrategy: a Flower strategy without a model; and the ServerApp that runs it.

In a serverless method the agents hold the weights, make the plan and average among themselves. What is left
for the ServerApp: wait until all nodes are there, start each phase, hand on the agents' sealed mail, and add
up what they report. `Result.arrays` stays empty.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from functools import partial

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Result, Strategy

from comdml_flwr.assemble import METHODS, Catalogue, DatasetLoader, ModelBuilder, Scale
from comdml_flwr.config import RunConfig, find_fleet, parse_config
from comdml_flwr.errors import InputError
from comdml_flwr.flower.direct_run import DirectRun
from comdml_flwr.flower.grid_carrier import GridCarrier, say_goodbye
from comdml_flwr.flower.nodes import Federation, greet
from comdml_flwr.messages import phase_name, return_point
from comdml_flwr.planning.fleet_file import parse_fleet, self_contained_text
from comdml_flwr.results import record_run
from comdml_flwr.rounds import Observer, RunRecord, run_rounds
from comdml_flwr.terminal import Terminal


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
        self._method = METHODS[config.method]

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
        with greet(grid, self._fleet_text, self._terminal, timeout) as federation:
            run = self._direct if self._config.carrier == "direct" else self._by_phases
            record = record_run(
                partial(run, grid, federation), self._config, len(federation.ids), self._terminal
            )
            return as_result(record)

    def _by_phases(self, grid: Grid, federation: Federation, observer: Observer) -> RunRecord:
        """Run phase by phase, the agents' mail going through Flower."""
        federation.tell_of_unsigned_keys(self._terminal)
        scale = Scale(num_agents=len(federation.nodes), num_batches=0)
        program = self._method.program(self._config, scale)
        names = tuple(map(phase_name, program))
        carrier = GridCarrier(
            grid,
            federation.nodes,
            names,
            federation.common,
            on_reply=self._terminal.reply,
            on_wait=self._terminal.sign_of_life,
            on_gone=self._terminal.say,
            reverse_replies=self._reverse_replies,
        )
        with closing(carrier):
            return run_rounds(
                carrier,
                names,
                federation.ids,
                self._config,
                observer,
                parse_fleet(self._fleet_text, "fleet").availability,
                models_agree=self._method.models_agree(self._config),
                return_point=return_point(program),
            )

    def _direct(self, grid: Grid, federation: Federation, observer: Observer) -> RunRecord:
        """Let the agents run many rounds at a time, their mail going from peer to peer."""
        rounds = DirectRun(
            grid,
            federation,
            self._config,
            models_agree=self._method.models_agree(self._config),
            on_reply=self._terminal.reply,
            on_wait=self._terminal.sign_of_life,
            on_gone=self._terminal.say,
        )
        try:
            return rounds.run(observer)
        finally:
            say_goodbye(grid, federation.nodes.values(), federation.common, self._terminal.sign_of_life)

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
    """Return a run's accuracy and loss as Flower keeps them."""
    result = Result()
    for line in record.rounds:
        metrics = MetricRecord({"accuracy": line.accuracy, "loss": line.loss})
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
        config = parse_config(context.run_config)
        catalogue.check(config)
        if config.carrier == "local":
            raise InputError("carrier", config.carrier, "must be 'grid' or 'direct' under `flwr run`")
        text, terminal = self_contained_text(find_fleet(config.fleet)), Terminal(config.num_rounds)
        if METHODS[config.method].has_server:
            if config.method not in (with_server or {}):
                raise InputError("method", config.method, "has a server, which this app does not play")
            if config.carrier != "grid":
                raise InputError("carrier", config.carrier, f"must be 'grid' for {config.method}")
            (with_server or {})[config.method](grid, config, text, catalogue, terminal)
            return
        strategy = PeerStrategy(config, text, terminal)
        strategy.summary()
        strategy.start(grid)

    return app
