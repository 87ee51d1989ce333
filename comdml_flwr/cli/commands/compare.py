"""`comdml compare`: methods compared on the same data, seeds, devices and clock."""

from pathlib import Path
from typing import Annotated

import typer

from comdml_flwr.cli.commands.json_output import AsJson, print_json
from comdml_flwr.cli.commands.options import App


def compare(
    config: Annotated[Path, typer.Argument(help="What to compare (TOML).")],
    app: App = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for everything; by default `results/<name>`."),
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A trial of a minute: what the file's \\[smoke] table replaces.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Runs at a time: by default one for each core that may be used; 1 stays in this process,"
            " without Ray. No result depends on it.",
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(help="Spread the runs over this Ray cluster, `auto` or host:port, instead."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare methods on the same data, seeds, devices and clock; write runs, tables, plots and a report.

    Stop it whenever you like: started again, it trains only what is missing,
    and ends with the same bytes. What has changed in the file is trained again.

    \b
    A file to begin with:
        name = "first"
        seeds = [1, 2, 3]
        targets = [0.9]
        reference = "AllReduce"
        \\[run]
        num-rounds = 10
        [\\[methods]]
        label = "ComDML"
        method = "comdml"
        [\\[methods]]
        label = "AllReduce"
        method = "allreduce"
        [\\[cases]]
        label = "10 unequal devices"
        fleet = "comdml-10"
        num-agents = 10

    \\[run], [\\[methods]] and [\\[cases]] take any key of the run configuration;
    a case's wins over a method's, and that over \\[run]'s. A fleet is a preset of
    `comdml fleet new`, or a fleet file by its path from the comparison's folder.

    With --app, or `app = "FOLDER"` in the file, all runs train an app of your own. The file then needs
    neither `model` nor `dataset`, and what is trained already is trained again when the app's code has
    changed.

    Example: comdml compare experiments/configs/main.toml --smoke
    """  # noqa: D301
    from comdml_flwr.agents.measuring.cores import workers_here
    from comdml_flwr.cli.commands.compare_progress import CompareProgress  # these import torch
    from comdml_flwr.cli.commands.compare_table import print_comparison
    from comdml_flwr.comparison.chart import check_matplotlib
    from comdml_flwr.comparison.compare import compare as compare_all
    from comdml_flwr.comparison.report import write_report
    from comdml_flwr.comparison.settings import load_comparison

    comparison = load_comparison(config, smoke=smoke, app=app)
    folder = output or Path("results") / comparison.name
    check_matplotlib(folder)
    num_workers = workers or (0 if ray_address else workers_here())
    with CompareProgress() as progress:
        result = compare_all(comparison, folder, progress, num_workers=num_workers, ray_address=ray_address)
    write_report(folder)
    if as_json:
        print_json(result, indent=2, ensure_ascii=False)
    else:
        print_comparison(result, folder)
