"""Draw one round's training phase with and without offload: who trains what, and who waits (modelled).

    python experiments/plot_round.py ten docs/round.svg

Needs the `plots` extra: pip install -e ".[plots]"
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from comdml_flwr.planning.fleet.fleet_file import load_fleet
from comdml_flwr.planning.pairing import pair_agents
from comdml_flwr.planning.types import CutTable, Plan, Profile
from comdml_flwr.runs.model_costs import planner_input

COLOURS = {"own": "#4477aa", "partner": "#ee7733", "wait": "#e6e6e6"}
LABELS = {
    "own": "trains its own model, or its lower layers",
    "partner": "trains its partner's upper layers",
    "wait": "waits",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time of one agent."""

    agent: int
    what: str
    start_s: float
    end_s: float


def bars_of(plan: Plan, profiles: tuple[Profile, ...], cuts: CutTable) -> list[Bar]:
    """Return what each agent does until the end of the training phase."""
    by_id = {profile.agent: profile for profile in profiles}
    busy: list[Bar] = [Bar(agent, "own", 0.0, by_id[agent].solo_s) for agent in plan.solo]
    for pair in plan.pairs:
        slow_s = by_id[pair.slow].solo_s * cuts[pair.cut].slow_share
        busy.append(Bar(pair.slow, "own", 0.0, slow_s))
        busy.append(Bar(pair.fast, "own", 0.0, by_id[pair.fast].solo_s))
        busy.append(Bar(pair.fast, "partner", by_id[pair.fast].solo_s, pair.finish_s))
    ends = {bar.agent: bar.end_s for bar in busy}
    return busy + [Bar(agent, "wait", end_s, plan.makespan_s) for agent, end_s in ends.items()]


def main(
    fleet: Annotated[Path, typer.Argument(help="Fleet file with a [model] table.")],
    picture: Annotated[Path, typer.Argument(help="SVG, PNG or PDF to write.")],
) -> None:
    """Draw one round's training phase with and without offload."""
    import matplotlib  # an extra, and slow to import

    matplotlib.use("agg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "comdml"  # same picture, same bytes
    profiles, cuts = planner_input(load_fleet(fleet))
    plan = pair_agents(profiles, cuts)
    alone = Plan(
        solver="none",
        time_model=plan.time_model,
        pairs=(),
        solo=tuple(profile.agent for profile in profiles),
        makespan_s=plan.solo_makespan_s,
        solo_makespan_s=plan.solo_makespan_s,
        lower_bound_s=plan.lower_bound_s,
    )
    titles = (
        "without offload: all wait for the slowest",
        f"ComDML: {plan.solo_makespan_s / plan.makespan_s:.1f} times as fast",
    )
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.6), sharex=True, sharey=True, layout="constrained")
    for axis, title, shown in zip(axes, titles, (alone, plan), strict=True):
        for bar in bars_of(shown, profiles, cuts):
            axis.barh(
                bar.agent, bar.end_s - bar.start_s, left=bar.start_s, color=COLOURS[bar.what], height=0.7
            )
        for pair in shown.pairs:
            axis.annotate(
                f"helped by {pair.fast}",
                (shown.makespan_s, pair.slow),
                (5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("seconds of one round's training (modelled)")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("agent")
    axes[0].set_yticks([profile.agent for profile in profiles])
    axes[0].invert_yaxis()
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=COLOURS[what]) for what in LABELS]
    figure.legend(handles, LABELS.values(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(picture, metadata={"Date": None} if picture.suffix == ".svg" else None)


if __name__ == "__main__":
    typer.run(main)
