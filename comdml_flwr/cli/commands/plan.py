"""`comdml plan`: who should help whom, and how long a round's training then takes."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from comdml_flwr.cli.commands.json_output import AsJson, print_json
from comdml_flwr.cli.commands.options import App, OptionalFleet, Settings, Solver, TimeModel
from comdml_flwr.cli.commands.show import (
    above_bound,
    bottleneck,
    make_console,
    make_table,
    plan_as_json,
    plan_traffic_bytes,
)
from comdml_flwr.core.typed_json import Json
from comdml_flwr.core.units import human_bytes, human_s
from comdml_flwr.runs.planned import Planned, dropped_pairs

if TYPE_CHECKING:
    from rich.table import Table

    from comdml_flwr.planning.alternatives import Option
    from comdml_flwr.planning.clock.whole_round import Judged
    from comdml_flwr.planning.types import Plan


def plan(
    fleet: OptionalFleet = None,
    app: App = None,
    settings: Settings = None,
    solver: Solver = "exact",
    time_model: TimeModel = "pipeline",
    picture: Annotated[
        Path | None, typer.Option(help="Draw the fleet with its pairs into this file, .svg or .png.")
    ] = None,
    time_limit: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds for `integer-program` and `shared`; after them comes the best plan yet, of"
            " `integer-program` with its gap.",
        ),
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Say who should help whom at which cut, and how long a round's training then takes.

    Nothing is trained. All times are modelled from the speeds and links in the fleet file. With a \\[model],
    pairs that would make the whole round longer, averaging included, are left out, as in a run.

    With --app it is the first round of a run of the app: its model is cut, its data are loaded to be counted,
    and a round has its `local-epochs`.

    Example: comdml plan ten --picture fleet.svg

    Example: comdml plan --app my-app --set batch-size=64
    """  # noqa: D301
    from comdml_flwr.cli.commands.picture import check_size, draw_picture
    from comdml_flwr.cli.commands.planned_fleet import read_planned
    from comdml_flwr.cli.commands.searching import Search
    from comdml_flwr.comparison.pictures import check_picture
    from comdml_flwr.planning.pairing import pair_agents  # here, as the package's docstring says
    from comdml_flwr.planning.solvers.integer_program import solve

    if picture is not None:
        check_picture(picture)
    search = Search(solver, time_limit)
    planned = read_planned(fleet, app, settings)
    profiles, cuts = planned.profiles, planned.cuts
    if picture is not None:
        check_size(picture, len(profiles))
    began = time.perf_counter()
    proof: dict[str, bool | float | str] = {}
    with search:
        if solver == "integer-program":
            solved = solve(profiles, cuts, time_model=time_model, time_limit_s=search.left_s)
            found = solved.plan
            proof = {"proven": solved.proven, "gap": solved.gap, "solved_by": solved.solver_name}
        else:
            found = pair_agents(profiles, cuts, solver=solver, time_model=time_model, listener=search.goes_on)
    if solver == "shared":
        proof = {"stopped": search.is_stopped}
    solve_s = time.perf_counter() - began
    judged = planned.judge(found)
    found = judged.plan if judged else found
    if picture is not None:
        draw_picture(found, profiles, picture)
    if as_json:
        print_json({**plan_as_json(found), **_whole_round(judged), "solve_s": solve_s, **proof})
        return
    _print_plan(found, judged, planned, solve_s)
    if search.is_stopped:
        typer.echo("stopped at the time limit: a longer search may find a better plan")
    if "solved_by" in proof:
        quality = "proven optimal" if proof["proven"] else f"gap {proof['gap']:.2%} at the time limit"
        typer.echo(f"{proof['solved_by']}: {quality}")


def _whole_round(judged: "Judged | None") -> dict[str, Json]:
    """Return what a script reads of the whole round; null where it is not known."""
    return {
        "virtual_time_s": judged.times.virtual_time_s if judged else None,
        "no_offload_virtual_time_s": judged.no_offload.virtual_time_s if judged else None,
        "left_out": [pair.to_json() for pair in judged.dropped] if judged else [],
    }


def _print_plan(plan: "Plan", judged: "Judged | None", planned: Planned, solve_s: float) -> None:
    from comdml_flwr.planning.questions import describe_pairs

    options = describe_pairs(plan, planned.profiles, planned.cuts)
    console = make_console()
    solo_s = {profile.agent: profile.solo_s for profile in planned.profiles}
    console.print(_agents_table(plan, options, solo_s))
    console.print(
        f"\ntraining takes [bold]{human_s(plan.makespan_s)}[/bold] (modelled) instead of"
        f" {human_s(plan.solo_makespan_s)}: {plan.solo_makespan_s / plan.makespan_s:.2f} times as fast"
    )
    if judged:
        whole_s, alone_s = judged.times.virtual_time_s, judged.no_offload.virtual_time_s
        console.print(f"a whole round, averaging included: {human_s(whole_s)} instead of {human_s(alone_s)}")
        if judged.dropped:
            console.print(dropped_pairs(judged.dropped))
    console.print(f"straggler: {_straggler(plan, options, solo_s)}")
    console.print(above_bound(plan))
    console.print(f"traffic of the pairs: {human_bytes(plan_traffic_bytes(plan))} a round")
    console.print(f"solver: {plan.solver}, time model: {plan.time_model}, found in {human_s(solve_s)}")


def _agents_table(plan: "Plan", options: "tuple[Option, ...]", solo_s: dict[int, float]) -> "Table":
    table = make_table("agent", "cut", "alone", "by this plan", "sends", "bottleneck")
    rows: dict[int, tuple[str, ...]] = {
        agent: (f"{agent} trains alone", "", human_s(solo_s[agent]), human_s(solo_s[agent]), "", "")
        for agent in plan.solo
    }
    for pair, option in zip(plan.pairs, options, strict=True):
        slow_s, fast_s, end_s = (human_s(t) for t in (solo_s[pair.slow], solo_s[pair.fast], pair.finish_s))
        sends = human_bytes(pair.traffic_bytes)
        what = f"{pair.slow} offloads to {pair.fast}"
        rows[pair.slow] = (what, str(pair.cut), slow_s, end_s, sends, option.bottleneck)
        if pair.fast not in rows:
            helped = [other for other in plan.pairs if other.fast == pair.fast]
            end_s = human_s(max(other.finish_s for other in helped))
            names = ", ".join(str(other.slow) for other in helped)
            rows[pair.fast] = (f"{pair.fast} helps {names}", "", fast_s, end_s, "", "")
    for _, row in sorted(rows.items()):
        table.add_row(*row)
    return table


def _straggler(plan: "Plan", options: "tuple[Option, ...]", solo_s: dict[int, float]) -> str:
    last = max(options, key=lambda option: option.finish_s, default=None)
    if last is not None and last.finish_s == plan.makespan_s:
        return f"pair {last.slow} -> {last.fast}; its bottleneck is {bottleneck(last)}"
    agent = max(plan.solo, key=lambda agent: solo_s[agent])
    return f"agent {agent}, which trains alone"
