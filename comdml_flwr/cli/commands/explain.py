"""`comdml explain`: why an agent has its helper and its cut, and what the alternatives would cost."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from comdml_flwr.cli.commands.json_output import AsJson, print_json
from comdml_flwr.cli.commands.options import App, OptionalFleet, Settings, Solver, TimeModel
from comdml_flwr.cli.commands.show import bottleneck, json_s, make_console, make_table, plan_as_json
from comdml_flwr.core.typed_json import Json
from comdml_flwr.core.units import human_s
from comdml_flwr.runs.planned import dropped_pairs

if TYPE_CHECKING:
    from rich.table import Table

    from comdml_flwr.planning.alternatives import Option
    from comdml_flwr.planning.questions import Explanation

_WHY = {
    "taken": "taken",
    "faster": "faster: the solver did not find it",
    "slower": "slower than no offload",
    "late": "this pair ends too late",
    "needed": "{} needs this helper",
    "not-needed": "in time without offload",
    "busy": "helps {}; to change that gains nothing",
    "later": "no gain; this pair ends later",
    "more-traffic": "as fast; sends more",
    "tie": "no faster",
}


def explain(
    *,
    fleet: OptionalFleet = None,
    agent: Annotated[int, typer.Option(help="Id of the agent to explain.")],
    app: App = None,
    settings: Settings = None,
    solver: Solver = "exact",
    time_model: TimeModel = "pipeline",
    top: Annotated[int, typer.Option(min=1, help="How many alternatives of a kind to look at.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Say why an agent has its helper and its cut: the alternatives, their times, and why not these.

    An alternative is a pair that is forced while everybody else is planned again around it.

    Example: comdml explain ten --agent 9

    Example: comdml explain --app my-app --agent 3
    """
    from comdml_flwr.cli.commands.planned_fleet import read_planned
    from comdml_flwr.planning.questions import explain as explain_agent

    planned = read_planned(fleet, app, settings)
    found = explain_agent(
        planned.profiles, planned.cuts, agent, solver=solver, time_model=time_model, top=top
    )
    if as_json:
        print_json(_as_json(found))
        return
    _print(found, top)
    judged = planned.judge(found.plan)
    if judged and judged.dropped:
        make_console().print(f"a run's plan: {dropped_pairs(judged.dropped)}")


def _as_json(found: "Explanation") -> dict[str, Json]:
    return {
        "agent": found.agent,
        "role": found.role,
        "solo_s": json_s(found.solo_s),
        "taken": [_option_as_json(option) for option in found.taken],
        "others": [_option_as_json(option) for option in found.others],
        "other_cuts": [_option_as_json(option) for option in found.other_cuts],
        "alone_makespan_s": json_s(found.alone_makespan_s),
        "impossible": list(found.impossible),
        "num_left_out": found.num_left_out,
        "plan": plan_as_json(found.plan),
    }


def _option_as_json(option: "Option") -> dict[str, Json]:
    makespan_s = json_s(option.makespan_s)
    return {**asdict(option), "makespan_s": makespan_s, "bottleneck": option.bottleneck}


def _print(found: "Explanation", top: int) -> None:
    console, plan = make_console(), found.plan
    console.print(f"[bold]{_headline(found)}[/bold]")
    for option in found.taken:
        console.print(f"cut {option.cut}: the bottleneck is {bottleneck(option)}")
    console.print(f"everybody's training takes {human_s(plan.makespan_s)} (modelled){_if_alone(found)}")
    if found.others:
        console.print(f"\n{_title(found)}, each at the cut that ends first:")
        console.print(_table((*found.taken, *found.others)))
    if found.num_left_out:
        console.print(f"... and {found.num_left_out} that end later; see them with --top")
    if found.impossible:
        console.print(f"no link or no room: {_first(found.impossible, 2 * top)}")
    if found.other_cuts:
        cuts = sorted(found.other_cuts, key=lambda option: option.finish_s)[:top]
        console.print("\nother cuts of the same pair:")
        console.print(_table(sorted((*found.taken, *cuts), key=lambda option: option.cut)))
    console.print(f"\nsolver: {plan.solver}, time model: {plan.time_model}")


def _first(agents: tuple[int, ...], most: int) -> str:
    more = f", and {len(agents) - most} more" if len(agents) > most else ""
    return f"{', '.join(map(str, agents[:most]))}{more}"


def _if_alone(found: "Explanation") -> str:
    if found.role == "alone":
        return ""
    return f"; {human_s(found.alone_makespan_s)} if {found.agent} neither offloaded nor helped"


def _headline(found: "Explanation") -> str:
    solo = human_s(found.solo_s)
    if found.role == "alone":
        return f"agent {found.agent} trains alone, in {solo}"
    ends = human_s(max(option.finish_s for option in found.taken))
    if found.role == "slow":
        helpers = ", ".join(str(option.fast) for option in found.taken)
        return f"agent {found.agent} offloads to {helpers}: {ends} instead of {solo} alone"
    partners = ", ".join(str(option.slow) for option in found.taken)
    return f"agent {found.agent} helps {partners} until {ends}; its own training takes {solo}"


def _title(found: "Explanation") -> str:
    if found.role == "fast":
        return "whom it could help instead"
    return "other helpers" if found.role == "slow" else "helpers that it could have"


def _table(options: "list[Option] | tuple[Option, ...]") -> "Table":
    columns = ("pair", "cut", "slow side", "transfer", "helper", "waiting", "pair ends", "all end")
    table = make_table(*columns)
    table.add_column("why not", no_wrap=True)
    for option in options:
        stages = (option.slow_s, option.transfer_s, option.helper_s, option.wait_s)
        times = (human_s(seconds) for seconds in (*stages, option.finish_s, option.makespan_s))
        style = "bold" if option.reason == "taken" else None
        why = _WHY[option.reason].format(option.needed_by)
        table.add_row(f"{option.slow} -> {option.fast}", str(option.cut), *times, why, style=style)
    return table
