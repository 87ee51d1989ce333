"""`comdml what-if`: the plan before and after a change of devices, links or agents."""

from typing import TYPE_CHECKING, Annotated

import typer

from comdml_flwr.cli.commands.json_output import AsJson, print_json
from comdml_flwr.cli.commands.options import FleetFile, Solver, TimeModel, key_and_value
from comdml_flwr.cli.commands.show import make_console, make_table, plan_as_json, plan_traffic_bytes
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.typed_json import Json
from comdml_flwr.core.units import human_bytes, human_s
from comdml_flwr.runs.planned import Planned, dropped_pairs

if TYPE_CHECKING:
    from rich.table import Table

    from comdml_flwr.planning.clock.whole_round import Judged
    from comdml_flwr.planning.questions import WhatIf
    from comdml_flwr.planning.types import Pair


_MOST_CHANGES = 40  # a screen


def what_if(
    fleet: FleetFile,
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Keys of the fleet file: of [\\[agents]], or bandwidth_mbps and latency_ms of all links.",
        ),
    ] = None,
    agent: Annotated[list[int] | None, typer.Option(help="Agent that changes, as often as you like.")] = None,
    without: Annotated[
        list[int] | None, typer.Option(help="Agent that is not there, as often as you like.")
    ] = None,
    solver: Solver = "exact",
    time_model: TimeModel = "pipeline",
    as_json: AsJson = False,
) -> None:
    """Say what another device, another link or a missing agent would change: the plan before and after.

    Example: comdml what-if ten --agent 9 bandwidth_mbps=100 --without 3
    """
    from comdml_flwr.planning.fleet.changes import change_fleet
    from comdml_flwr.planning.fleet.fleet_file import load_fleet
    from comdml_flwr.planning.questions import what_if as compare

    agents, missing, values = agent or [], without or [], _parse(changes or [])
    if bool(agents) != bool(values):
        raise InputError("what-if", " ".join(changes or []), "needs --agent and KEY=VALUE together")
    if not agents and not missing:
        raise InputError("what-if", "no change", "give --agent with KEY=VALUE, or --without")
    now = load_fleet(fleet)
    changed = change_fleet(now, agents, values, missing)
    was, will_be = Planned.of(now), Planned.of(changed)
    found = compare(was.profiles, will_be.profiles, was.cuts, solver=solver, time_model=time_model)
    if as_json:
        question: dict[str, Json] = {"agents": agents, "changes": values, "without": missing}
        print_json({**question, **_as_json(found)})
    else:
        judged = was.judge(found.before), will_be.judge(found.after)
        _print(found, _question(agents, values, missing), *judged)


def _parse(changes: list[str]) -> dict[str, float]:
    values: dict[str, float] = {}
    for change in changes:
        name, text = key_and_value(change, "change")
        if name in values:
            raise InputError(name, text, "must be given once")
        try:
            values[name] = float(text)
        except ValueError:
            raise InputError(name, text, "must be a number") from None
    return values


def _as_json(found: "WhatIf") -> dict[str, Json]:
    before, after = found.before, found.after
    return {
        "before": plan_as_json(before),
        "after": plan_as_json(after),
        "difference": {
            "makespan_s": after.makespan_s - before.makespan_s,
            "bytes": plan_traffic_bytes(after) - plan_traffic_bytes(before),
            "appear": [pair.to_json() for pair in found.appear],
            "vanish": [pair.to_json() for pair in found.vanish],
            "recut": [{"before": old.to_json(), "after": new.to_json()} for old, new in found.recut],
        },
    }


def _question(agents: list[int], values: dict[str, float], without: list[int]) -> str:
    changes = ", ".join(f"{name} = {value:g}" for name, value in values.items())
    parts = [f"{_named(agents)} had {changes}"] if agents else []
    parts += [f"{_named(without)} were not there"] if without else []
    return " and ".join(parts)


def _named(agents: list[int]) -> str:
    return f"agent{'s' if len(agents) > 1 else ''} {', '.join(map(str, agents))}"


def _print(found: "WhatIf", question: str, before: "Judged | None", after: "Judged | None") -> None:
    console = make_console()
    console.print(f"[bold]if {question}[/bold] (all times modelled)\n")
    table = _numbers(found)
    if before and after:
        whole_s = before.times.virtual_time_s, after.times.virtual_time_s
        table.add_row("a whole round", *map(human_s, whole_s), _percent(*whole_s))
    console.print(table)
    changes = _changes(found)
    console.print("\n".join(["", *changes]) if changes else "\nall pairs and cuts stay as they are")
    for when, judged in (("before", before), ("after", after)):
        if judged and judged.dropped:
            console.print(f"\na run's plan {when}: {dropped_pairs(judged.dropped)}")
    console.print(f"\nsolver: {found.after.solver}, time model: {found.after.time_model}")


def _numbers(found: "WhatIf") -> "Table":
    before, after = found.before, found.after
    table = make_table("", "before", "after", "")
    table.add_row(
        "training takes",
        human_s(before.makespan_s),
        human_s(after.makespan_s),
        _percent(before.makespan_s, after.makespan_s),
    )
    for name, was, will_be in (
        ("without offload", before.solo_makespan_s, after.solo_makespan_s),
        ("lower bound", before.lower_bound_s, after.lower_bound_s),
    ):
        table.add_row(name, human_s(was), human_s(will_be), _percent(was, will_be))
    traffic = plan_traffic_bytes(before), plan_traffic_bytes(after)
    table.add_row("traffic of the pairs", *map(human_bytes, traffic), _percent(*traffic))
    return table


def _percent(before: float, after: float) -> str:
    if before == after:
        return "same"
    return f"{100 * (after / before - 1):+.1f} %" if before else ""


def _changes(found: "WhatIf") -> list[str]:
    changes = [
        *(f"vanishes  {_pair(pair)}" for pair in found.vanish),
        *(f"appears   {_pair(pair)}" for pair in found.appear),
        *(f"changes   {_pair(old)}; now cut {new.cut}, {human_s(new.finish_s)}" for old, new in found.recut),
    ]
    more = len(changes) - _MOST_CHANGES
    return changes if more <= 0 else [*changes[:_MOST_CHANGES], f"... and {more} more; --json shows all"]


def _pair(pair: "Pair") -> str:
    return f"{pair.slow} -> {pair.fast} at cut {pair.cut}, {human_s(pair.finish_s)}"
