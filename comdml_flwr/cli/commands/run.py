"""`comdml run`: a method in this process."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from comdml_flwr.cli.commands.dry_run import run_dry
from comdml_flwr.cli.commands.json_output import print_nothing_else
from comdml_flwr.cli.commands.options import App, Settings, parse_settings, read_app
from comdml_flwr.core.app_folder import app_in
from comdml_flwr.core.errors import InputError, InterruptedRun, StoppedError

DEFAULT_NUM_AGENTS = 10
OUR_APP = "comdml.comdml-flwr"  # the one in this package's checkout


def run(
    settings: Settings = None,
    app: App = None,
    num_agents: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many agents of the fleet take part: by default 10 (with --app all of a smaller fleet),"
            " or those of the resumed run.",
        ),
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
    as_json: Annotated[
        bool,
        typer.Option("--json", help="With --dry-run: print one JSON object.", callback=print_nothing_else),
    ] = False,
) -> None:
    """Run a method in this process, without Flower's engine; the same result as `flwr run .`, to the bit.

    Models and data sets are those of this package or, with --app, those of an app of your own.
    Each of its agents is told its number among all, as its virtual SuperNode would be. A run of an app is
    resumed with --app, too.

    Exit status 1 if the run failed, agents that had failed were gone at its end or most of them in most
    rounds, or nobody's training was finite.

    With --dry-run, model, batch size and samples come from the fleet file, and with `--set hysteresis=0.1` it
    says by how much that cuts re-pairings and what it costs in makespan.

    Example: comdml run --set num-rounds=3 --set method=allreduce

    Example: comdml run --app my-app --set num-rounds=3

    Example: comdml run --set checkpoint-every=5, and after a crash: comdml run --resume results/RUN

    Example: comdml run --dry-run --num-agents 100 --set num-rounds=200 --set fleet=fleet.toml
    """
    values = dict(parse_settings(settings))
    if resume is not None:
        values["resume"] = str(resume)
    if dry_run or as_json:
        if app is not None:
            rule = "does not go with --dry-run, which takes its model from the fleet file"
            raise InputError("--app", str(app), rule)
        return run_dry(values, num_agents or DEFAULT_NUM_AGENTS, dry_run=dry_run, as_json=as_json)
    if app is None:
        _tell_of_own_app()
    from comdml_flwr.runs.local_run import run_locally  # imports torch

    own = read_app(app)
    if not values.get("resume"):  # a run that goes on has all values of its own
        values = own.over_defaults(values) if own else values
        num_agents = num_agents or (_num_in_fleet(values) if own else DEFAULT_NUM_AGENTS)
    try:
        catalogue = own.catalogue if own else None
        record = run_locally(values, num_agents=num_agents, num_workers=num_workers, catalogue=catalogue)
    except InterruptedRun as interrupted:  # Typer would make a bare status of it
        with_app = f" --app {shlex.quote(str(app))}" if own and "--resume" in str(interrupted) else ""
        raise StoppedError(f"{interrupted}{with_app}") from None
    except InputError as error:
        if own or not values.get("resume") or error.what not in ("model", "dataset"):
            raise
        rule = f"{error.rule}; a run of an app of your own is resumed with --app"
        raise InputError(error.what, error.value, rule) from None
    if not record.is_complete:  # the run's last line has said so
        raise typer.Exit(1)


def _num_in_fleet(values: Mapping[str, object]) -> int:
    """Return how many agents take part where nobody says it: all of a small fleet."""
    from comdml_flwr.core.config import find_fleet, parse_config  # pydantic
    from comdml_flwr.planning.fleet.fleet_file import load_fleet

    fleet = load_fleet(find_fleet(parse_config(values).fleet))
    return min(DEFAULT_NUM_AGENTS, len(fleet.agents))


def _tell_of_own_app() -> None:
    """Say that an app of the user's own, in whose folder this is typed, is not what is run."""
    app = app_in(Path.cwd())
    if app and app.name != OUR_APP:
        typer.echo(
            f"note: the app in this folder, {app.name}, is not used; `comdml run --app .` runs it", err=True
        )
