"""`comdml run`: a method in this process."""

from pathlib import Path
from typing import Annotated

import typer

from comdml_flwr.cli.commands.dry_run import run_dry
from comdml_flwr.cli.commands.options import Settings, parse_settings
from comdml_flwr.core.errors import InterruptedRun, StoppedError
from comdml_flwr.core.app_folder import app_in

DEFAULT_NUM_AGENTS = 10
OUR_APP = "comdml.comdml-flwr"  # the one in this package's checkout


def run(
    settings: Settings = None,
    num_agents: Annotated[
        int | None,
        typer.Option(min=1, help="How many agents of the fleet take part; 10, or those of the resumed run."),
    ] = None,
    num_workers: Annotated[
        int, typer.Option(min=1, help="Agents that train side by side; the result does not depend on it.")
    ] = 1,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Go on with the run in this folder, from its last checkpoint."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plans and the virtual clock only: no data, no training.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print one JSON object.")] = False,
) -> None:
    """Run a method in this process, without Flower's engine; the same result as `flwr run .`, to the bit.

    Models and data sets are those of this package: an app of your own runs under `flwr run`.

    Exit status 1 if the run failed, agents that had failed were gone at its end, or nobody's training was
    finite.

    With --dry-run, model, batch size and samples come from the fleet file, and with `--set hysteresis=0.1` it
    says by how much that cuts re-pairings and what it costs in makespan.

    Example: comdml run --set num-rounds=3 --set method=allreduce

    Example: comdml run --set checkpoint-every=5, and after a crash: comdml run --resume results/RUN

    Example: comdml run --dry-run --num-agents 100 --set num-rounds=200 --set fleet=fleet.toml
    """
    values = dict(parse_settings(settings))
    if resume is not None:
        values["resume"] = str(resume)
    if num_agents is None and not values.get("resume"):
        num_agents = DEFAULT_NUM_AGENTS
    if dry_run or as_json:
        return run_dry(values, num_agents or DEFAULT_NUM_AGENTS, dry_run=dry_run, as_json=as_json)
    _tell_of_own_app()
    from comdml_flwr.runs.local_run import run_locally  # imports torch

    try:
        record = run_locally(values, num_agents=num_agents, num_workers=num_workers)
    except InterruptedRun as interrupted:  # Typer would make a bare status of it
        raise StoppedError(str(interrupted)) from None
    if record.missing or record.diverged:  # the run's last line has said so
        raise typer.Exit(1)


def _tell_of_own_app() -> None:
    """Say that an app of the user's own, in whose folder this is typed, is not what is run."""
    app = app_in(Path.cwd())
    if app and app.name != OUR_APP:
        typer.echo(
            f"note: the app in this folder, {app.name}, is not used: `comdml run` knows the models and data"
            " sets of this package alone; `flwr run . --stream` runs the app",
            err=True,
        )
