"""The ServerApp of a run, and PeerStrategy, which starts a serverless method as Flower starts a strategy."""

from collections.abc import Callable, Mapping

from flwr.app import Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Result

from comdml_flwr.core.app_folder import running_app
from comdml_flwr.core.config import RunConfig, parse_config
from comdml_flwr.core.errors import InputError
from comdml_flwr.flower.app_paths import fleet_path, notes_on_paths, with_data_found, with_results_placed
from comdml_flwr.flower.serverapp.choices import without_choice
from comdml_flwr.flower.serverapp.last_line import tell_errors_last
from comdml_flwr.flower.serverapp.serverless_run import TIMEOUT_S, run_serverless
from comdml_flwr.planning.fleet.fleet_file import self_contained_text
from comdml_flwr.runs.catalogue import SERVERLESS, WITH_SERVER, Catalogue, DatasetLoader, ModelBuilder
from comdml_flwr.runs.records import RunRecord
from comdml_flwr.runs.resuming import Resumed, find_run, given_to_flower
from comdml_flwr.runs.terminal import Terminal

tell_errors_last()


class PeerStrategy:
    """Runs a serverless method where a ServerApp would start one of Flower's strategies; owns no model.

    It has their `start`, and is no `Strategy` of Flower's: there is no model for `configure_train` to send,
    and none for `aggregate_train` to average, so what wraps a strategy (differential privacy, secure
    aggregation) would have nothing to work on.

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

    def start(self, grid: Grid, *given: object, timeout: float = TIMEOUT_S, **named: object) -> Result:
        """Run all rounds and write the result files.

        Parameters
        ----------
        grid : Grid
            Flower's grid.
        timeout : float
            How long to wait for all nodes to be there, in seconds.
        given, named
            What Flower's strategies take besides (`initial_arrays`, `num_rounds`, `train_config`,
            `evaluate_config`, `evaluate_fn`); must be left out, as the agents begin from the seed, and the
            run configuration says the rest.

        Returns
        -------
        Result
            The task's metrics per round; no arrays.

        Raises
        ------
        InputError, RunError
            What is wrong, in one line.
        """
        if any(value is not None for value in (*given, *named.values())):
            raise InputError(
                "PeerStrategy.start", "an argument", "must be left out: the run configuration says it"
            )
        record = run_serverless(
            grid,
            self._config,
            self._fleet_text,
            self._terminal,
            resumed=self._resumed,
            timeout_s=timeout,
            reverse_replies=self._reverse_replies,
        )
        return as_result(record)

    def summary(self) -> None:
        """Print what will run."""
        config = self._config
        self._terminal.say(f"{config.method}: {config.model} on {config.dataset}, {config.num_rounds} rounds")


def as_result(record: RunRecord) -> Result:
    """Return a run's metrics as Flower keeps them; one that was not finite is left out."""
    result = Result()
    for line in record.rounds:
        metrics = MetricRecord({name: x for name, x in line.scores.items() if x is not None})
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
