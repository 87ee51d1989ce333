"""`comdml ...`: plan a fleet before any training, and run a method in this process.

Nothing heavy is imported before a command needs it, so that `--help` answers at once.
"""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import click
import typer
from rich.console import Console
from rich.table import Table

from comdml_flwr.errors import ComdmlError, InputError

if TYPE_CHECKING:
    from comdml_flwr.planning.fleet import Fleet
    from comdml_flwr.planning.types import CutTable, Plan, Profile

INTERRUPTED = 130

app = typer.Typer(
    name="comdml",
    help="ComDML for Flower: slow devices offload the upper part of their network to faster peers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _group() -> None:
    """Keep the commands' names even while there are few of them."""


@app.command()
def plan(
    fleet: Annotated[
        Path, typer.Argument(help="Fleet file (TOML): devices, links, and a model or its cuts.")
    ],
    solver: Annotated[
        str, typer.Option(help="`exact` (optimal) or `greedy` (as published: slowest first).")
    ] = "exact",
    time_model: Annotated[
        str, typer.Option(help="`pipeline` (fill, drain, latency) or `overlap` (the published formula).")
    ] = "pipeline",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Say who should help whom at which cut, and how long a round's training then takes.

    Nothing is trained. All times are modelled from the speeds and links in the fleet file.

    Example: comdml plan experiments/fleets/ten.toml
    """
    from comdml_flwr.planning.fleet import load_fleet  # each command imports what it needs, see the module
    from comdml_flwr.planning.pairing import pair_agents

    loaded = load_fleet(fleet)
    profiles, cuts = _planner_input(loaded)
    began = time.perf_counter()
    found = pair_agents(profiles, cuts, solver=solver, time_model=time_model)
    solve_s = time.perf_counter() - began
    if as_json:
        typer.echo(json.dumps(_plan_as_json(found, solve_s)))
    else:
        _print_plan(found, profiles, solve_s)


@app.command()
def run(
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A key of the run configuration, as often as you like."
        ),
    ] = None,
    num_agents: Annotated[int, typer.Option(min=1, help="How many agents of the fleet take part.")] = 10,
    num_workers: Annotated[
        int, typer.Option(min=1, help="Agents that train side by side; the result does not depend on it.")
    ] = 1,
) -> None:
    """Run a method in this process, without Flower's engine; the same result as `flwr run .`, to the bit.

    Example: comdml run --set num-rounds=3 --set method=allreduce
    """
    from comdml_flwr.local_run import run_locally  # imports torch

    run_locally(_parse_settings(settings or []), num_agents=num_agents, num_workers=num_workers)


def main() -> NoReturn:
    """Run the command line; what the user can mend is one line and exit status 2."""
    try:
        status = app(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        _end(error.format_message(), 2)
    except InputError as error:
        _end(error, 2)
    except ComdmlError as error:
        _end(error, 1)
    except (KeyboardInterrupt, click.Abort):
        status = INTERRUPTED
    if status == INTERRUPTED:  # typer makes a status of Ctrl-C
        _end("interrupted", INTERRUPTED)
    sys.exit(status or 0)


def _end(reason: object, status: int) -> NoReturn:
    print(f"comdml: {reason}", file=sys.stderr)
    sys.exit(status)


def _planner_input(fleet: "Fleet") -> "tuple[tuple[Profile, ...], CutTable]":
    if fleet.cuts is not None:
        return fleet.profiles(), fleet.cuts
    from comdml_flwr.assemble import planner_input  # imports torch, to count the model's FLOPs

    return planner_input(fleet)


def _plan_as_json(plan: "Plan", solve_s: float) -> dict[str, object]:
    return {
        "solver": plan.solver,
        "time_model": plan.time_model,
        "makespan_s": plan.makespan_s,
        "solo_makespan_s": plan.solo_makespan_s,
        "lower_bound_s": plan.lower_bound_s,
        "pairs": [pair.as_json() for pair in plan.pairs],
        "solo": list(plan.solo),
        "solve_s": solve_s,
    }


def _print_plan(plan: "Plan", profiles: "tuple[Profile, ...]", solve_s: float) -> None:
    console = Console(highlight=False)
    solo_s = {profile.agent: profile.solo_s for profile in profiles}
    table = Table("agent", "role", "cut", "alone", "by this plan", "sends", box=None, header_style="bold")
    for pair in plan.pairs:
        table.add_row(
            f"{pair.slow} -> {pair.fast}",
            f"{pair.slow} offloads to {pair.fast}",
            str(pair.cut),
            f"{solo_s[pair.slow]:.1f} s / {solo_s[pair.fast]:.1f} s",
            f"{pair.finish_s:.1f} s",
            f"{pair.traffic_bytes / 1e6:.1f} MB",
        )
    for agent in plan.solo:
        table.add_row(str(agent), "alone", "", f"{solo_s[agent]:.1f} s", f"{solo_s[agent]:.1f} s", "")
    console.print(table)
    straggler = max(
        [*((pair.finish_s, f"pair {pair.slow} -> {pair.fast}") for pair in plan.pairs)]
        + [(solo_s[agent], f"agent {agent}, which trains alone") for agent in plan.solo]
    )[1]
    console.print(
        f"\ntraining takes [bold]{plan.makespan_s:.1f} s[/bold] (modelled) instead of"
        f" {plan.solo_makespan_s:.1f} s: {plan.solo_makespan_s / plan.makespan_s:.2f} times as fast"
    )
    console.print(f"straggler: {straggler}; no one-to-one plan is faster than {plan.lower_bound_s:.1f} s")
    console.print(f"solver: {plan.solver}, time model: {plan.time_model}, found in {solve_s * 1e3:.1f} ms")


def _parse_settings(settings: list[str]) -> Mapping[str, object]:
    values: dict[str, object] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise InputError("--set", setting, "must be KEY=VALUE")
        values[key.strip()] = _value(text.strip())
    return values


def _value(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip("\"'")
