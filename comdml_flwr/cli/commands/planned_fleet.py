"""What `comdml plan` and its kin plan for: a fleet file by itself, or an app of the user's own on a fleet."""

from pathlib import Path

import typer

from comdml_flwr.cli.commands.options import parse_settings, read_app
from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.fleet.fleet_file import load_fleet
from comdml_flwr.runs.planned import Planned


def read_planned(fleet: Path | None, app: Path | None, settings: list[str] | None) -> Planned:
    """Return what the planner needs.

    Parameters
    ----------
    fleet : Path, optional
        Fleet file or preset; with an app by default the app's own.
    app : Path, optional
        Folder of an app: its model is cut, and its data are loaded, as all agents of the fleet would.
    settings : list[str], optional
        Of `--set`; needs an app.

    Raises
    ------
    InputError, RunError
        What is wrong, in one line.
    """
    if app is None:
        if settings:
            raise InputError("--set", settings[0], "needs --app: else the fleet file says all")
        if fleet is None:
            raise InputError("FLEET", None, "must be given, or --app")
        return Planned.of(load_fleet(fleet))
    from comdml_flwr.core.config import find_fleet, parse_config  # pydantic, and torch
    from comdml_flwr.runs.assemble import assemble

    own = read_app(app)
    assert own is not None
    config = parse_config(own.over_defaults(parse_settings(settings)))
    devices = load_fleet(fleet or find_fleet(config.fleet))
    setup = assemble(config, devices, len(devices.agents), own.catalogue)
    for line in setup.warnings:
        typer.echo(f"note: {line}", err=True)
    return Planned.of_run(setup)
