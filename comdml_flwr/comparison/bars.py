"""Virtual time to each target: a bar per method, its ratio to the reference beside it."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from comdml_flwr.comparison.chart import Cell, Chart, Layout, bare, short
from comdml_flwr.comparison.contents import Case, MethodNumbers, Reached
from comdml_flwr.comparison.palette import LIGHT, Style
from comdml_flwr.comparison.verdict import ran_for
from comdml_flwr.core.units import Unit, unit_of_s

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW_IN, _AROUND_IN = 0.25, 0.62


def chart(case: Case, targets: Sequence[float], reference: str, styles: Mapping[str, Style]) -> Chart:
    """Return the figure of a case; `targets` holds at least one."""
    return Chart(
        name="time-to-target",
        title=f"Virtual time to the targets of test {case.metric}",
        about=(
            "Mean over the seeds, the thin line from the fastest seed to the slowest; behind it the ratio to"
            f" {reference} (the mean of the seeds' own ratios). A method that missed the target in a seed has"
            " no bar. Modelled: all times are virtual."
        ),
        source="comparison.json",
        columns=(
            "method",
            f"target_{case.methods[0].numbers.metric}",
            "seed",
            "virtual_time_s",
            "mean_s",
            "ratio_to_reference",
        ),
        rows=[row for target in targets for row in _rows(case, target)],
        height_in=lambda layout: (
            -(-len(targets) // _num_columns(targets, layout)) * (_AROUND_IN + _ROW_IN * len(case.methods))
        ),
        draw=partial(_draw, case, targets, styles),
    )


def say(method: MethodNumbers, target: float, unit: Unit) -> tuple[str, str, str]:
    """Return a time to a target for people, its spread, and its ratio; or how many got there in how long."""
    reached = method.time_to[target]
    if reached.mean is None:
        num_seeds = len(reached.by_seed)
        some = f"{reached.num_reached} of {num_seeds} seeds" if reached.num_reached else "not reached"
        return some, "", f"in {ran_for(method)}"
    spread = "" if reached.spread is None else unit.show_spread(reached.mean, reached.spread)
    ratio = reached.ratio_to_reference
    return unit.show(reached.mean), spread, "" if ratio is None else f"{ratio:.2f}x"


def unit_of_times(case: Case) -> Unit:
    """Return the unit that all times to targets in a case share."""
    return unit_of_s(max((_longest(r) for m in case.methods for r in m.numbers.time_to.values()), default=0))


def _longest(reached: Reached) -> float:
    return max((time_s for time_s in reached.by_seed.values() if time_s is not None), default=0.0)


def _rows(case: Case, target: float) -> list[tuple[Cell, ...]]:
    return [
        (method.label, target, seed, time_s, reached.mean, reached.ratio_to_reference)
        for method in case.methods
        for reached in (method.numbers.time_to[target],)
        for seed, time_s in reached.by_seed.items()
    ]


def _num_columns(targets: Sequence[float], layout: Layout) -> int:
    return min(2, len(targets)) if layout.is_wide else 1


def _draw(
    case: Case, targets: Sequence[float], styles: Mapping[str, Style], figure: "Figure", layout: Layout
) -> None:
    columns, unit = _num_columns(targets, layout), unit_of_times(case)
    grid = figure.subplots(-(-len(targets) // columns), columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(targets) :]:
        axes.set_visible(False)
    for axes, target in zip(grid.flat, targets, strict=False):
        _draw_panel(axes, case, target, styles, unit, layout)


def _draw_panel(
    axes: "Axes", case: Case, target: float, styles: Mapping[str, Style], unit: Unit, layout: Layout
) -> None:
    found = [method.numbers.time_to[target] for method in case.methods]
    longest = max(map(_longest, found)) / unit.size or 1.0
    for row, (method, reached) in enumerate(zip(case.methods, found, strict=True)):
        time, _, beside = say(method.numbers, target, unit)
        at = 0.0
        if reached.mean is not None:
            time = unit.show(reached.mean, reached.spread)
            seeds = [time_s / unit.size for time_s in reached.by_seed.values() if time_s is not None]
            axes.barh(row, reached.mean / unit.size, color=styles[method.label].colour, height=0.66)
            if max(seeds) > min(seeds):
                axes.plot([min(seeds), max(seeds)], [row, row], color=LIGHT["ink"], linewidth=1.0)
            at = max(seeds)
        axes.text(
            at + 0.02 * longest,
            row,
            (" " if reached.mean is None else " · ").join(part for part in (time, beside) if part),
            va="center",
            color=LIGHT["ink" if reached.mean is not None else "muted"],
        )
    axes.set_title(f"to a test {case.metric} of {target:g}")
    axes.set_xlim(0, longest / (0.66 if layout.is_wide else 0.6))
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_yticks(range(len(found)), [short(method.label) for method in case.methods])
    axes.set_xticks([])
    bare(axes)
    axes.tick_params(axis="y", labelcolor=LIGHT["ink"])
    axes.axvline(0, color=LIGHT["muted"], linewidth=0.9)
