"""What several commands have in common: their arguments and options."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from comdml_flwr.core.errors import InputError

if TYPE_CHECKING:
    from comdml_flwr.runs.own_app import OwnApp

FleetFile: TypeAlias = Annotated[
    Path,
    typer.Argument(
        help="Fleet file (TOML): devices, links, and a model or its cuts; or a preset by its name, as `comdml"
        " fleet new` has them."
    ),
]
OptionalFleet: TypeAlias = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FLEET]",
        help="Fleet file (TOML): devices, links, and a model or its cuts; or a preset by its name, as `comdml"
        " fleet new` has them. With --app by default the app's own, of which devices and links count.",
    ),
]
Solver: TypeAlias = Annotated[
    str,
    typer.Option(
        help="`exact` (the smallest makespan; among equal plans the one whose pairs end earliest, then send"
        " least), `greedy` (as published: slowest first), `shared` (a helper may serve several) or"
        " `integer-program` (as exact, by HiGHS)."
    ),
]
TimeModel: TypeAlias = Annotated[
    str, typer.Option(help="`pipeline` (fill, drain, latency) or `overlap` (the published formula).")
]
Settings: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A key of the run configuration, as often as you like."),
]
App: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--app",
        metavar="FOLDER",
        help="The folder of a Flower app of your own (`comdml init` writes one): its model, task and data are"
        " taken, and the values of its `\\[tool.flwr.app.config]` where none are given here.",
    ),
]


def key_and_value(text: str, what: str) -> tuple[str, str]:
    """Split KEY=VALUE; InputError naming `what` where it is none."""
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(what, text, "must be KEY=VALUE")
    return key, value


def parse_settings(settings: list[str] | None) -> Mapping[str, object]:
    """Return the keys and values of `--set`, numbers and truth values as such."""
    values: dict[str, object] = {}
    for setting in settings or []:
        key, text = key_and_value(setting, "--set")
        values[key.strip()] = _value(text.strip())
    return values


def read_app(folder: Path | None) -> "OwnApp | None":
    """Return the app of `--app`; None where there is none."""
    if folder is None:
        return None
    from comdml_flwr.runs.own_app import load_app  # imports torch

    return load_app(folder)


def _value(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip("\"'")
