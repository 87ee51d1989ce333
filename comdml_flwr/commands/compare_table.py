"""The tables that `comdml compare` ends with: one a case."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from comdml_flwr.commands.show import Json, make_console, make_table
from comdml_flwr.units import human_bytes, human_s


def print_comparison(comparison: Mapping[str, Json], folder: Path) -> None:
    """Print what `comparison.json` holds, and where the files are."""
    console = make_console()
    result: Mapping[str, Any] = comparison
    for case in result["cases"]:
        console.print(Text(f"\n{case['label']} ({case['num_agents']} agents of {case['fleet']})", "bold"))
        targets = [str(target) for target in result["targets"]]
        table = make_table(
            "method",
            "accuracy",
            "a round",
            *(column for target in targets for column in (f"to {100 * float(target):.4g} %", "ratio")),
            "sent",
        )
        for method in case["methods"]:
            table.add_row(
                Text(method["label"]),
                _with_spread(method["accuracy"]),
                human_s(method["round_virtual_time_s"]["mean"]),
                *(cell for target in targets for cell in _reached(method["time_to"][target])),
                human_bytes(method["bytes_sent"]["mean"]),
            )
        console.print(table)
    num_seeds = len(result["seeds"])
    console.print(
        f"\nmeans over {num_seeds} seed{'s' * (num_seeds > 1)}; all times are modelled;"
        f" ratio: time to the target / that of {result['reference']}, seed by seed",
        markup=False,
    )
    console.print(f"files: {folder}; the report: {folder / 'report.html'}", markup=False)


def _with_spread(value: Mapping[str, Any]) -> str:
    spread = "" if value["spread"] is None else f" ± {value['spread']:.4f}"
    return f"{value['mean']:.4f}{spread}"


def _reached(time_to: Mapping[str, Any]) -> tuple[str, str]:
    """Return a mean time, or how many seeds got there; and the ratio."""
    ratio = time_to["ratio_to_reference"]
    if time_to["mean"] is None:
        return f"{time_to['num_reached']} of {len(time_to['by_seed'])} seeds", ""
    return human_s(time_to["mean"]), "" if ratio is None else f"{ratio:.2f}x"
