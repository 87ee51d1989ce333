"""`comdml report`: a comparison's page, or a run's agents one by one, from their files alone."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="Folder that `comdml compare` wrote, or that of a run.")],
) -> None:
    """Make a comparison's report again from its files alone: report.html, plots/*.png and *.csv.

    Nothing is trained, and the same files give the same bytes. Needs matplotlib (the `plots` extra).

    Of a run whose agents have test data of their own, print how well its last model does for each of them.

    Example: comdml report results/main
    """
    if (folder / "rounds.jsonl").is_file() and not (folder / "comparison.json").exists():
        from comdml_flwr.cli.commands.own_test_table import print_own_tests

        print_own_tests(folder)
        return
    from comdml_flwr.comparison.report import write_report

    typer.echo(write_report(folder))
