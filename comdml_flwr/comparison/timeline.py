"""The first round of every method: who computes, who sends, who waits, on the virtual clock.

An agent's row has two lanes: the upper one is its processor, which trains the agent's own layers or another
agent's, or waits (what is no computing waits, up to the end of the round); the lower one is its uplink, which
may send meanwhile.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from comdml_flwr.comparison.chart import Cell, Chart, Layout, short
from comdml_flwr.comparison.contents import AgentOfRun, Case, Method, Run, Span
from comdml_flwr.comparison.heat import boxes, thin_ticks
from comdml_flwr.comparison.idle import busy_spans, end_of, why_idle
from comdml_flwr.comparison.palette import LIGHT
from comdml_flwr.core.units import unit_of_s

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OWN_AXES = 8.0  # ratio of the longest first round to the shortest from which each panel has its own axis
_INVISIBLE = 1 / 1500  # of a panel's width: spans of one kind that are no further apart are drawn as one
_LOWEST_IN, _HIGHEST_IN, _ROW_IN = 0.7, 2.6, 0.14
_LEGEND = {
    "compute": "trains its own layers",
    "help": "trains another agent's layers",
    "wait": "waits",
    "send": "sends",
}


def chart(case: Case) -> Chart | None:
    """Return the figure of a case, of the first seed; None if no run wrote a timeline."""
    runs = [(m, m.runs[0]) for m in case.methods if any(agent.timeline for agent in m.runs[0].agents)]
    if not runs:
        return None
    has_own_axes = _has_own_axes([run for _, run in runs])
    axes_note = (
        "Each panel has a time axis of its own." if has_own_axes else "All panels share one time axis."
    )
    return Chart(
        name="first-round",
        title="The first round, agent by agent",
        about=(
            f"Seed {runs[0][1].seed}. Each row is an agent: above its processor, below its uplink."
            f" {axes_note} Modelled: the time is virtual. Who waits, and why:"
        ),
        notes=tuple((method.label, why_idle(run)) for method, run in runs),
        source=f"runs/{case.name}/*/seed-{runs[0][1].seed}/agents.json",
        columns=("method", "agent", "what", "start_s", "end_s"),
        rows=[row for method, run in runs for row in _rows(method, run)],
        height_in=lambda layout: (0.75 if layout.is_wide else 0.95) + sum(_heights_in(runs, layout)),
        draw=partial(_draw, runs, has_own_axes),
    )


def merge(spans: Iterable[Span], gap_s: float) -> list[tuple[float, float]]:
    """Return where spans begin and end, in order, those as one that are no further apart than `gap_s`.

    Examples
    --------
    >>> spans = [Span(what="send", start_s=s, end_s=e) for s, e in ((0, 1), (1.01, 2), (3, 4))]
    >>> merge(spans, 0.1)
    [(0.0, 2.0), (3.0, 4.0)]
    """
    merged: list[tuple[float, float]] = []
    for span in sorted(spans, key=lambda span: span.start_s):
        if merged and span.start_s <= merged[-1][1] + gap_s:
            merged[-1] = (merged[-1][0], max(merged[-1][1], span.end_s))
        else:
            merged.append((span.start_s, span.end_s))
    return merged


def spans_of(agent: AgentOfRun, what: str) -> list[Span]:
    """Return what an agent did of a kind: "compute" its own layers, "help" (another's), "send" or "wait"."""
    if what in ("send", "wait"):
        return [span for span in agent.timeline if span.what == what]
    is_for_another = what == "help"
    return [span for span in busy_spans(agent) if (span.peer is not None) == is_for_another]


def _has_own_axes(runs: Sequence[Run]) -> bool:
    ends = [end_of(run) for run in runs]
    return min(ends) <= 0 or max(ends) / min(ends) > _OWN_AXES


def _rows(method: Method, run: Run) -> list[tuple[Cell, ...]]:
    gap_s = end_of(run) * _INVISIBLE
    return [
        (method.label, agent.agent, what, start_s, end_s)
        for agent in run.agents
        for what in _LEGEND
        for start_s, end_s in merge(spans_of(agent, what), gap_s)
    ]


def _heights_in(runs: Sequence[tuple[Method, Run]], layout: Layout) -> list[float]:
    columns = _num_columns(runs, layout)
    heights = [min(_HIGHEST_IN, max(_LOWEST_IN, _ROW_IN * len(run.agents))) + 0.38 for _, run in runs]
    return [max(heights[start : start + columns]) for start in range(0, len(heights), columns)]


def _num_columns(runs: Sequence[tuple[Method, Run]], layout: Layout) -> int:
    return min(2, len(runs)) if layout.is_wide else 1


def _draw(runs: Sequence[tuple[Method, Run]], has_own_axes: bool, figure: "Figure", layout: Layout) -> None:
    from matplotlib.patches import Patch

    columns, heights = _num_columns(runs, layout), _heights_in(runs, layout)
    longest_s = max(end_of(run) for _, run in runs)
    grid = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for axes in grid.flat[len(runs) :]:
        axes.set_visible(False)
    for place, (axes, (method, run)) in enumerate(zip(grid.flat, runs, strict=False)):
        _draw_panel(axes, method, run, end_of(run) if has_own_axes else longest_s)
        if not (has_own_axes or place >= len(runs) - columns):
            axes.tick_params(labelbottom=False)
        if place >= len(runs) - columns:
            axes.set_xlabel(f"virtual time, modelled ({unit_of_s(longest_s).name})")
        if place % columns == 0:
            axes.set_ylabel("agent")
    figure.legend(
        [Patch(color=LIGHT[what]) for what in _LEGEND],
        list(_LEGEND.values()),
        loc="outside upper left",
        ncols=len(_LEGEND) if layout.is_wide else 2,
    )


def _draw_panel(axes: "Axes", method: Method, run: Run, longest_s: float) -> None:
    unit, end_s, gap_s = unit_of_s(longest_s), end_of(run), longest_s * _INVISIBLE
    processor, uplink = (-0.42, 0.14), (0.18, 0.42)
    lanes = {"wait": processor, "compute": processor, "help": processor, "send": uplink}
    for what, (top, bottom) in lanes.items():
        spans = [
            (start_s / unit.size, row + bottom, stop_s / unit.size, row + top)
            for row, agent in enumerate(run.agents)
            for start_s, stop_s in ([(0.0, end_s)] if what == "wait" else merge(spans_of(agent, what), gap_s))
        ]
        if spans:
            axes.add_patch(boxes(spans, LIGHT[what]))
    names = ["server" if agent.agent < 0 else str(agent.agent) for agent in run.agents]
    axes.set_yticks(*thin_ticks(names, 12))
    axes.set(xlim=(0, longest_s / unit.size), ylim=(len(names) - 0.5, -0.5))
    axes.set_title(f"{short(method.label)}: {unit_of_s(end_s).show(end_s)}")
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)
