"""Who offloads to whom: the pairs of the first round as a graph, and how often each pair occurred at all."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from math import sin
from typing import TYPE_CHECKING

from comdml_flwr.comparison.chart import Cell, Chart, Layout, bare, short
from comdml_flwr.comparison.contents import Case, Method, Pair
from comdml_flwr.comparison.heat import MOST_NUMBERED, draw_heat, thin_ticks
from comdml_flwr.comparison.palette import LIGHT, Style
from comdml_flwr.comparison.ring import Place, places

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_NAMED = 24  # agents on the outer ring up to which they carry their ids and cuts
_REACH = 1.42  # half of the graph's side; the outer ring has radius 1
_PANEL_IN = 3.5


def chart(case: Case, styles: "Mapping[str, Style]") -> Chart | None:
    """Return the figure of a case; None if no method paired anybody."""
    methods = [method for method in case.methods if how_often(method)]
    if not methods:
        return None
    seed = methods[0].runs[0].seed
    return Chart(
        name="pairs",
        title="Who offloads to whom",
        about=(
            f"The graph shows the first round of seed {seed}: arrows lead from a slow agent to its helper,"
            " with the cut of the model that they agreed on. The table beside or below it shows in what share"
            " of all rounds of all seeds a slow agent (row) had a helper (column); of many agents, only those"
            " that ever had a part in it. Pairs follow from modelled times."
        ),
        source=f"runs/{case.name}/*/seed-*/rounds.jsonl",
        columns=("method", "slow", "fast", "cut_in_first_round", "num_rounds", "share_of_rounds"),
        rows=[row for method in methods for row in _rows(method)],
        height_in=lambda layout: _PANEL_IN * len(methods) * (1 if layout.is_wide else 2),
        draw=partial(_draw, methods, styles),
    )


def how_often(method: Method) -> Counter[tuple[int, int]]:
    """Return in how many rounds of all seeds a slow agent had a helper."""
    return Counter(
        (pair.slow, pair.fast) for run in method.runs for round_ in run.rounds for pair in round_.plan.pairs
    )


def _num_rounds(method: Method) -> int:
    return sum(len(run.rounds) for run in method.runs)


def _first_pairs(method: Method) -> list[Pair]:
    return method.runs[0].rounds[0].plan.pairs


def _rows(method: Method) -> list[tuple[Cell, ...]]:
    cuts = {(pair.slow, pair.fast): pair.cut for pair in _first_pairs(method)}
    total = _num_rounds(method)
    return [
        (method.label, *pair, cuts.get(pair), times, times / total)
        for pair, times in sorted(how_often(method).items())
    ]


def _draw(methods: Sequence[Method], styles: "Mapping[str, Style]", figure: "Figure", layout: Layout) -> None:
    grid = figure.subplots(len(methods) if layout.is_wide else 2 * len(methods), 2 if layout.is_wide else 1)
    panels = list(grid.flat)
    for place, method in enumerate(methods):
        graph, table = panels[2 * place : 2 * place + 2]
        _draw_graph(graph, method, styles[method.label])
        _draw_table(table, method)


def _draw_graph(axes: "Axes", method: Method, style: Style) -> None:
    plan = method.runs[0].rounds[0].plan
    where = places([(pair.slow, pair.fast) for pair in plan.pairs], plan.solo)
    outer = [agent for agent, place in where.items() if place.radius == 1.0]
    has_names = len(outer) <= _MOST_NAMED
    for pair in plan.pairs:
        axes.annotate(
            "",
            xy=(where[pair.fast].x, where[pair.fast].y),
            xytext=(where[pair.slow].x, where[pair.slow].y),
            arrowprops={
                "arrowstyle": "-|>",
                "color": style.colour,
                "linewidth": 1.6 if has_names else 0.9,
                "shrinkA": 7 if has_names else 2,
                "shrinkB": 8 if has_names else 2,
                "mutation_scale": 10 if has_names else 5,
            },
        )
        if has_names:
            _draw_cut(axes, where[pair.slow].angle, pair.cut)
    _draw_agents(axes, where, [pair.fast for pair in plan.pairs], style, has_names)
    axes.set(xlim=(-_REACH, _REACH), ylim=(-_REACH, _REACH), aspect="equal", xticks=[], yticks=[])
    axes.set_title(f"{short(method.label)}: first round")
    bare(axes)


def _draw_cut(axes: "Axes", angle: float, cut: int) -> None:
    beyond = Place(angle=angle, radius=1.14)
    is_above_or_below = abs(sin(angle)) < 0.2
    axes.text(
        beyond.x,
        beyond.y,
        f"cut {cut}",
        ha="center" if is_above_or_below else "left" if sin(angle) > 0 else "right",
        va=("bottom" if beyond.y > 0 else "top") if is_above_or_below else "center",
        color=LIGHT["muted"],
    )


def _draw_agents(
    axes: "Axes", where: "Mapping[int, Place]", helpers: Sequence[int], style: Style, has_names: bool
) -> None:
    for agent, place in sorted(where.items()):
        is_helper = agent in helpers
        axes.plot(
            [place.x],
            [place.y],
            marker="o",
            markersize=15 if has_names else 4,
            color=LIGHT["paper"] if has_names else style.colour if is_helper else LIGHT["muted"],
            markeredgecolor=style.colour if is_helper else LIGHT["muted"],
            markeredgewidth=1.8 if is_helper else 1.0,
        )
        if has_names:
            axes.text(place.x, place.y, str(agent), ha="center", va="center", color=LIGHT["ink"])


def _everyone(method: Method) -> list[int]:
    plans = [round_.plan for run in method.runs for round_ in run.rounds]
    paired = {agent for plan in plans for pair in plan.pairs for agent in (pair.slow, pair.fast)}
    return sorted(paired.union(*(plan.solo for plan in plans)))


def _draw_table(axes: "Axes", method: Method) -> None:
    times, total = how_often(method), _num_rounds(method)
    slow_agents, helpers = (sorted({pair[side] for pair in times}) for side in (0, 1))
    everyone = _everyone(method)
    if len(everyone) <= MOST_NUMBERED:
        slow_agents = helpers = everyone
    cells = {
        (slow_agents.index(slow), helpers.index(fast)): count / total for (slow, fast), count in times.items()
    }
    title = "all rounds, all seeds: % with this pair"
    draw_heat(
        axes, cells, (len(slow_agents), len(helpers)), lambda share: f"{100 * share:.0f}", title, most=1.0
    )
    axes.set_xticks(*thin_ticks([str(agent) for agent in helpers], 10))
    axes.set_yticks(*thin_ticks([str(agent) for agent in slow_agents], 12))
    axes.set(xlabel="helper", ylabel="slow agent")
