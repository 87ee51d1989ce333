"""`--json`: one object on standard output and nothing else, whatever an app's own code prints there."""

import sys
from contextlib import redirect_stdout
from typing import Annotated, TypeAlias

import click
import typer

from comdml_flwr.core.strict_json import to_json

_STDOUT = "comdml_flwr.stdout"


def print_nothing_else(context: typer.Context, as_json: bool) -> bool:
    """Send what is printed to standard error, up to the end of the command."""
    if as_json and _STDOUT not in context.meta:
        context.meta[_STDOUT] = sys.stdout
        context.with_resource(redirect_stdout(sys.stderr))
    return as_json


AsJson: TypeAlias = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object and nothing else.", callback=print_nothing_else),
]


def print_json(value: object, *, indent: int | None = None, ensure_ascii: bool = True) -> None:
    """Print the one object of a command that was called with `--json`."""
    context = click.get_current_context()
    typer.echo(to_json(value, indent=indent, ensure_ascii=ensure_ascii), file=context.meta.get(_STDOUT))
