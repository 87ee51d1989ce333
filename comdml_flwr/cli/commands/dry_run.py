"""`comdml run --dry-run`: the modelled rounds of a run, without training."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from comdml_flwr.cli.commands.json_output import print_json
from comdml_flwr.core.disk_errors import naming_what_cannot_be_written
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.units import human_s, unit_of_s

if TYPE_CHECKING:
    from comdml_flwr.core.config import RunConfig
    from comdml_flwr.core.typed_json import Json


def run_dry(values: Mapping[str, object], num_agents: int, *, dry_run: bool, as_json: bool) -> None:
    """Simulate a run, print its outcome, and write its files.

    Parameters
    ----------
    values : Mapping[str, object]
        Keys of the run configuration.
    num_agents : int
        How many agents of the fleet take part.
    dry_run, as_json : bool
        The options; `--json` needs `--dry-run`.

    Raises
    ------
    InputError
        What is wrong, in one line; nothing has been written.
    """
    from comdml_flwr.core.config import find_fleet, keys_declared, parse_config
    from comdml_flwr.planning.fleet.fleet_file import load_fleet
    from comdml_flwr.runs.dry_run import DryRun, summarize_dry
    from comdml_flwr.runs.results import RunFolder

    if not dry_run:
        raise InputError("--json", True, "needs --dry-run: a run prints a line a round")
    if values.get("resume"):
        raise InputError("resume", values["resume"], "does not go with --dry-run: it keeps no checkpoints")
    for key in sorted(keys_declared("dry_run", "of the fleet") & values.keys()):
        raise InputError(key, values[key], "is not read by --dry-run: the fleet file says it")
    if values.get("target-metric"):
        rule = "does not go with --dry-run: nothing is trained that could reach it"
        raise InputError("target-metric", values["target-metric"], rule)
    config = parse_config({"carrier": "local", **values})
    began = time.monotonic()
    simulated = DryRun(load_fleet(find_fleet(config.fleet)), config, num_agents)
    rounds = simulated.rounds(sorted({0.0, config.hysteresis}))
    elapsed_s = time.monotonic() - began
    ways = [summarize_dry(lines, threshold) for threshold, lines in rounds.items()]
    summary = _summary(config, num_agents, ways, elapsed_s)
    with naming_what_cannot_be_written(Path(config.results_dir)):
        folder = RunFolder(config, "dry-run")
        for line in rounds[config.hysteresis]:
            folder.add_line(line.as_json(), sync=False)
        folder.finish(summary)
    if as_json:
        print_json({**summary, "folder": str(folder.path)})
    else:
        _print_dry(summary, ways, folder.path)


def _summary(
    config: "RunConfig", num_agents: int, ways: "Sequence[dict[str, Json]]", elapsed_s: float
) -> "dict[str, Json]":
    return {
        "dry_run": True,
        "method": config.method,
        "fleet": config.fleet,
        "num_agents": num_agents,
        "num_rounds": config.num_rounds,
        "seed": config.seed,
        "solver": config.solver,
        "time_model": config.time_model,
        **ways[-1],
        "without_hysteresis": ways[0],
        "elapsed_s": elapsed_s,
    }


def _print_dry(summary: "Mapping[str, Json]", ways: "Sequence[Mapping[str, Json]]", folder: Path) -> None:
    from comdml_flwr.runs.terminal import WIDTH

    console = Console(highlight=False, width=WIDTH)
    console.print(
        f"{summary['method']}: {summary['num_rounds']} rounds of {summary['num_agents']} agents, not trained;"
        " all times but the last are modelled\n"
    )
    table = Table("", *(f"hysteresis {way['hysteresis']:g}" for way in ways), box=None, header_style="bold")
    for name, key in (("rounds with new pairs", "num_rounds_with_new_pairs"), ("new pairs", "num_new_pairs")):
        table.add_row(name, *(f"{way[key]}" for way in ways))
    for name, key in (
        ("training", "virtual_training_s"),
        ("  without offload", "no_offload_virtual_training_s"),
        ("whole rounds", "virtual_time_s"),
        ("  without offload", "no_offload_virtual_time_s"),
    ):
        times_s = [value for way in ways if isinstance(value := way[key], int | float)]
        if len(times_s) == len(ways):
            table.add_row(name, *map(unit_of_s(max(times_s)).show, times_s))
    console.print(table)
    if len(ways) > 1:
        console.print(f"\n{_verdict(*ways)}")
    elapsed_s = summary["elapsed_s"]
    assert isinstance(elapsed_s, int | float), "a stopwatch's"
    console.print(f"\nfound in {human_s(elapsed_s)} (measured); files in {folder}")


def _verdict(without: "Mapping[str, Json]", with_it: "Mapping[str, Json]") -> str:
    def share(key: str) -> float:
        one, other = without[key], with_it[key]
        assert isinstance(one, int | float), key
        assert isinstance(other, int | float), key
        return other / one - 1 if one else 0.0

    return (
        f"hysteresis {with_it['hysteresis']:g}: {share('num_new_pairs'):+.0%} new pairs,"
        f" {share('num_rounds_with_new_pairs'):+.0%} rounds with any,"
        f" {share('virtual_training_s'):+.1%} makespan, {share('virtual_time_s'):+.1%} whole rounds"
    )
