"""The tables that `comdml compare` ends with: one a case."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from comdml_flwr.cli.commands.show import make_console, make_table
from comdml_flwr.comparison.contents import MethodNumbers, metric_words
from comdml_flwr.comparison.verdict import ran_for, shares_left_out, show_target, verdict
from comdml_flwr.core.typed_json import Json
from comdml_flwr.core.units import human_bytes, unit_of_s


def print_comparison(comparison: Mapping[str, Json], folder: Path) -> None:
    """Print what `comparison.json` holds, and where the files are."""
    console = make_console()
    result: Mapping[str, Any] = comparison
    for case in result["cases"]:
        console.print(Text(f"\n{case['label']} ({case['num_agents']} agents of {case['fleet']})", "bold"))
        targets = [str(target) for target in result["targets"]]
        metric = str(case["methods"][0].get("metric", "accuracy"))
        table = make_table(
            "method",
            metric_words(metric),
            "a round",
            *(c for target in targets for c in (f"to {show_target(float(target), metric)}", "ratio")),
            "sent",
        )
        for method in case["methods"]:
            table.add_row(
                Text(method["label"]),
                _with_spread(method[metric]),
                _time(method["round_virtual_time_s"]),
                *(cell for target in targets for cell in _reached(method, target)),
                human_bytes(method["bytes_sent"]["mean"]),
            )
        console.print(table)
        methods = [MethodNumbers.model_validate(method) for method in case["methods"]]
        if said := shares_left_out(methods):
            console.print(f"shares that were left out: {said}", markup=False)
        console.print(verdict(methods, result["targets"], result["reference"]), markup=False)
    num_seeds = len(result["seeds"])
    seeds = (
        f"means over {num_seeds} seeds, ± their sample standard deviation" if num_seeds > 1 else "one seed"
    )
    console.print(
        f"\n{seeds}; all times are modelled; ratio: time to the target / that of {result['reference']},"
        " seed by seed",
        markup=False,
    )
    console.print(f"files: {folder}; the report: {folder / 'report.html'}", markup=False)


def _with_spread(value: Mapping[str, Any]) -> str:
    spread = "" if value["spread"] is None else f" ± {value['spread']:.4f}"
    return f"{value['mean']:.4f}{spread}"


def _time(value: Mapping[str, Any]) -> str:
    return unit_of_s(value["mean"]).show(value["mean"], value["spread"])


def _reached(method: Mapping[str, Any], target: str) -> tuple[str, str]:
    """Return a mean time, or how many seeds got there in how long a run; and the ratio."""
    time_to = method["time_to"][target]
    ratio = time_to["ratio_to_reference"]
    if time_to["mean"] is None:
        num_reached = time_to["num_reached"]
        some = f"{num_reached} of {len(time_to['by_seed'])} seeds" if num_reached else "not"
        return f"{some} in {ran_for(MethodNumbers.model_validate(method))}", ""
    return _time(time_to), "" if ratio is None else f"{ratio:.2f}x"
