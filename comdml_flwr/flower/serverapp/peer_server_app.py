"""The ServerApp that runs what the run configuration says."""

from collections.abc import Callable, Mapping

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Result

from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import InputError
from comdml_flwr.flower.app_paths import with_data_found
from comdml_flwr.flower.serverapp.asked_run import asked_run
from comdml_flwr.flower.serverapp.choices import without_choice
from comdml_flwr.flower.serverapp.last_line import tell_errors_last
from comdml_flwr.runs.catalogue import SERVERLESS, Catalogue, DatasetLoader, ModelBuilder
from comdml_flwr.runs.terminal import Terminal

tell_errors_last()

RunWithServer = Callable[[Grid, RunConfig, str, Catalogue, Terminal], Result]
"""(grid, configuration, fleet file's text, catalogue, terminal) -> result; for methods with a server."""


def peer_server_app(
    *,
    models: Mapping[str, ModelBuilder] | None = None,
    datasets: Mapping[str, DatasetLoader] | None = None,
    with_server: Mapping[str, RunWithServer] | None = None,
) -> ServerApp:
    """Return a ServerApp that starts serverless training, as the run configuration says.

    Parameters
    ----------
    models, datasets : Mapping, optional
        Names that the configuration may use besides ours, for methods with a server; give the same to
        `peer_client_app`.
    with_server : Mapping, optional
        How to run the methods that have a server, by name; the ServerApp then plays it.
    """
    catalogue = Catalogue(models=models or {}, datasets=datasets or {})
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        asked = asked_run(context.run_config)
        config = asked.config
        if config.method in SERVERLESS:  # the nodes check the other names
            asked.start(grid)
            return
        catalogue.check(config)
        if config.method not in (with_server or {}):
            others = ", ".join(sorted(SERVERLESS))
            rule = f"has a server, which this app does not play; methods without one are {others}"
            raise InputError("method", config.method, rule)
        if config.checkpoint_every:
            rule = f"must be 0 for {config.method} under `flwr run`; `comdml run` keeps checkpoints of it"
            raise InputError("checkpoint-every", config.checkpoint_every, rule)
        config = with_data_found(without_choice(config))
        (with_server or {})[config.method](grid, config, asked.fleet_text, catalogue, asked.terminal)

    return app
