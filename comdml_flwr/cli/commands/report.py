"""`comdml report`: the page, pictures and tables of a comparison, made again from its files."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="Folder that `comdml compare` wrote.")],
) -> None:
    """Make a comparison's report again from its files alone: report.html, plots/*.png and *.csv.

    Nothing is trained, and the same files give the same bytes. Needs matplotlib (the `plots` extra).

    Example: comdml report results/main
    """
    from comdml_flwr.comparison.report import write_report

    typer.echo(write_report(folder))
