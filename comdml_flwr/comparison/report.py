"""The report of a comparison: a page, its pictures and its tables, from the comparison's files alone.

    FOLDER/report.html                 everything, in one file that needs nothing else
           plots/<case>-<figure>.png   each figure once more
           <case>-<table>.csv          the numbers of each figure and of the main table

The same files give the same bytes. All is made and on the disk before anything takes its place: what is wrong
with the files, or with the disk, leaves an older report as it was.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from comdml_flwr.comparison import bars, curves, own_tests, pairs, partition, timeline
from comdml_flwr.comparison.chart import Chart, check_matplotlib, draw
from comdml_flwr.comparison.contents import Case, Comparison
from comdml_flwr.comparison.main_table import csv_file, main_csv
from comdml_flwr.comparison.page import Drawings, make_page
from comdml_flwr.comparison.palette import Style, styles_of
from comdml_flwr.comparison.reading import read_comparison
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.files import write_files


def write_report(folder: Path) -> Path:
    """Write the report of a comparison into its folder.

    Parameters
    ----------
    folder : Path
        With `comparison.json` and the folders of all runs (records.py).

    Returns
    -------
    Path
        `report.html`.

    Raises
    ------
    InputError
        There is no matplotlib, or a file is missing, cut off or not what a comparison writes, or the report
        cannot be written.
    """
    check_matplotlib(folder)
    comparison = read_comparison(folder)
    styles = styles_of(comparison.labels)
    drawings = {
        case.name: [
            (chart, draw(chart, f"c{number}-{chart.name}")) for chart in charts_of(comparison, case, styles)
        ]
        for number, case in enumerate(comparison.cases, start=1)
    }
    made = _files_of(comparison, drawings, styles)
    try:
        write_files({folder / name: content for name, content in made.items()})
    except OSError as error:
        raise InputError("file", error.filename, error.strerror or "cannot be written") from None
    return folder / "report.html"


def charts_of(comparison: Comparison, case: Case, styles: Mapping[str, Style]) -> Iterator[Chart]:
    """Return the figures of a case in the order of the page, without those that its runs have nothing for."""
    targets = comparison.targets
    yield from curves.charts(case, targets, styles)
    if targets:
        yield bars.chart(case, targets, comparison.reference, styles)
    for chart in (
        own_tests.chart(case, styles),
        timeline.chart(case),
        partition.chart(case),
        pairs.chart(case, styles),
    ):
        if chart is not None:
            yield chart


def _files_of(
    comparison: Comparison, drawings: Mapping[str, Drawings], styles: Mapping[str, Style]
) -> dict[str, bytes]:
    """Return all files by their path in the folder; the page is the last."""
    made = {}
    for case in comparison.cases:
        made[f"{case.name}-main.csv"] = main_csv(case, comparison.targets)
        for chart, drawn in drawings[case.name]:
            made[f"{case.name}-{chart.name}.csv"] = csv_file(chart.columns, chart.rows)
            made[f"plots/{case.name}-{chart.name}.png"] = drawn.png
    return {**made, "report.html": make_page(comparison, drawings, styles).encode()}
