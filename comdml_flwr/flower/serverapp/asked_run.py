"""What a ServerApp is asked to run: its configuration, its fleet, and the run that goes on, if one does."""

from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result

from comdml_flwr.core.app_folder import running_app
from comdml_flwr.core.config import RunConfig, parse_config
from comdml_flwr.core.errors import InputError
from comdml_flwr.flower.app_paths import fleet_path, notes_on_paths, with_results_placed
from comdml_flwr.flower.serverapp.serverless_run import TIMEOUT_S, run_serverless
from comdml_flwr.planning.fleet.fleet_file import self_contained_text
from comdml_flwr.runs.records import RunRecord
from comdml_flwr.runs.resuming import Resumed, find_run, given_to_flower
from comdml_flwr.runs.terminal import Terminal


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedRun:
    """A run that a ServerApp is to start.

    Parameters
    ----------
    config : RunConfig
        All of its configuration.
    fleet_text : str
        The fleet file's text, handed to nodes that do not see the ServerApp's files.
    terminal : Terminal
        Where progress is printed.
    resumed : Resumed, optional
        The run that goes on; `config` is its configuration, and `fleet_text` its fleet.
    """

    config: RunConfig
    fleet_text: str
    terminal: Terminal
    resumed: Resumed | None

    def start(self, grid: Grid, timeout_s: float = TIMEOUT_S) -> Result:
        """Run all rounds of a method without a server; return each round's metrics, and no arrays."""
        record = run_serverless(
            grid,
            self.config,
            self.fleet_text,
            self.terminal,
            resumed=self.resumed,
            timeout_s=timeout_s,
        )
        return as_result(record)


def asked_run(run_config: Mapping[str, object], in_code: Mapping[str, object] | None = None) -> AskedRun:
    """Return the run that a configuration asks for.

    Parameters
    ----------
    run_config : Mapping[str, object]
        Flower's: the app's keys, and what `--run-config` says.
    in_code : Mapping[str, object], optional
        Keys that the app's code gives, which win.

    Raises
    ------
    InputError
        What is wrong, in one line; nothing has been written.
    """
    app, in_code = running_app(), in_code or {}
    values = {**run_config, **in_code}
    config = with_results_placed(parse_config(values))
    resumed = None
    if config.resume:
        given = {**given_to_flower(run_config, app.defaults if app else {}), **in_code}
        resumed = find_run(config.resume, given, fleet_path)
        config = resumed.config
    if config.carrier == "local":
        raise InputError("carrier", config.carrier, "must be 'grid', 'direct' or 'auto' under `flwr run`")
    text = resumed.checkpoint.fleet if resumed else self_contained_text(fleet_path(config.fleet))
    terminal = Terminal(config.num_rounds)
    for line in notes_on_paths(str(values.get("results-dir", config.results_dir))):
        terminal.say(line)
    return AskedRun(config=config, fleet_text=text, terminal=terminal, resumed=resumed)


def as_result(record: RunRecord) -> Result:
    """Return a run's metrics as Flower keeps them; one that was not finite is left out."""
    result = Result()
    for line in record.rounds:
        metrics = MetricRecord({name: x for name, x in line.scores.items() if x is not None})
        result.evaluate_metrics_clientapp[line.round] = metrics
    return result
