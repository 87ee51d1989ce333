"""How plans are shown: units for people, SI units for scripts."""

from math import inf
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from comdml_flwr.core.typed_json import Json
from comdml_flwr.core.units import human_s

if TYPE_CHECKING:
    from comdml_flwr.planning.alternatives import Option
    from comdml_flwr.planning.types import Plan

WIDTH = 120  # of the tables of plans; runs/terminal.py has that of a run


def json_s(seconds: float) -> float | None:
    """Return a time for scripts: JSON knows no infinity, so `never` is null."""
    return None if seconds == inf else seconds


def make_console() -> Console:
    """Return where tables are printed: in a file or a pipe they are as wide as they need."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    return console


def make_table(*columns: str) -> Table:
    """Return an empty table in the style of the house; columns but the first are right-aligned numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def plan_as_json(plan: "Plan") -> dict[str, Json]:
    """Return a plan as scripts read it."""
    return {
        "solver": plan.solver,
        "time_model": plan.time_model,
        "makespan_s": plan.makespan_s,
        "solo_makespan_s": plan.solo_makespan_s,
        "lower_bound_s": plan.lower_bound_s,
        "pairs": [pair.to_json() for pair in plan.pairs],
        "solo": list(plan.solo),
    }


def plan_traffic_bytes(plan: "Plan") -> float:
    """Return what all pairs of a plan send."""
    return sum(pair.traffic_bytes for pair in plan.pairs)


def above_bound(plan: "Plan") -> str:
    """Say how far a plan may be from the best one."""
    gap = plan.makespan_s / plan.lower_bound_s - 1
    bound = human_s(plan.lower_bound_s)
    if gap <= 0:
        return f"no plan is faster: {bound} is a lower bound"
    return f"{100 * gap:.1f} % above {bound}, a lower bound of every plan"


def bottleneck(option: "Option") -> str:
    """Say which stage of a pair takes longest, and how long the others take."""
    stages = {
        "slow side": option.slow_s,
        "transfer": option.transfer_s,
        "helper": option.helper_s,
        "waiting": option.wait_s,
    }
    others = ", ".join(
        f"{stage} {human_s(seconds)}" for stage, seconds in stages.items() if stage != option.bottleneck
    )
    return f"the {option.bottleneck}, {human_s(stages[option.bottleneck])} ({others})"
