"""The task's metric against rounds, virtual time and bytes: a line per method, a band over its seeds.

A round's metric holds until the next round ends, so a run is a step function of time and of bytes. Seeds
end their rounds at different times; the mean, the least and the most over the seeds are taken of their step
functions, wherever any of them has a step, from where all of them have ended their first round.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.comparison.chart import Cell, Chart, Layout, short
from comdml_flwr.comparison.contents import Case, Run
from comdml_flwr.comparison.palette import LIGHT, Style
from comdml_flwr.core.units import unit_of_bytes, unit_of_s

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOGARITHMIC = 8.0  # ratio of the longest to the shortest run from which the axis is logarithmic
_MOST_MARKERS = 7

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A method's metric over its seeds: x, and mean, least and most there, all of one length."""

    label: str
    x: Floats
    mean: Floats
    least: Floats
    most: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    name: str
    title: str
    label: str
    column: str
    about: str
    x_of: Callable[[Run], list[float]]
    size: float


def charts(case: Case, targets: Sequence[float], styles: Mapping[str, Style]) -> Iterator[Chart]:
    """Return the three figures of a case."""
    dotted = f" Dotted: {' and '.join(f'{target:g}' for target in targets)}." if targets else ""
    column = case.methods[0].numbers.metric
    for axis in _axes_of(case):
        curves = [curve_of(m.label, m.runs, axis.x_of) for m in case.methods]
        yield Chart(
            name=f"{column}-by-{axis.name}",
            title=f"Test {case.metric} by {axis.title}",
            about=(
                f"Lines are means over the seeds, bands go from the worst seed to the best.{dotted}"
                f" {axis.about}"
            ),
            source=f"runs/{case.name}/*/seed-*/rounds.jsonl",
            columns=("method", axis.column, f"{column}_mean", f"{column}_min", f"{column}_max"),
            rows=[row for curve in curves for row in _rows(curve)],
            height_in=lambda layout: 3.9 if layout.is_wide else 3.0 + 0.17 * _legend_rows(case, layout),
            draw=partial(_draw, axis, curves, targets, styles, case.metric),
        )


def curve_of(label: str, runs: Sequence[Run], x_of: Callable[[Run], list[float]]) -> Curve:
    """Return a method's mean, least and most metric over its seeds as step functions of x.

    Parameters
    ----------
    label : str
        Of the method.
    runs : Sequence[Run]
        One a seed.
    x_of : Callable
        Where the rounds of a run end, ascending.
    """
    ends = [np.asarray(x_of(run), dtype=np.float64) for run in runs]
    start = max(end[0] for end in ends)
    x = np.unique(np.concatenate(ends))
    x = x[x >= start]
    scores_SX = np.array(
        [
            np.array(run.known_scores, dtype=np.float64)[np.searchsorted(end, x, side="right") - 1]
            for run, end in zip(runs, ends, strict=True)
        ]
    )
    is_known = ~np.isnan(scores_SX).any(axis=0)
    if is_known.any():  # from where all seeds have evaluated a test sample
        x, scores_SX = x[is_known], scores_SX[:, is_known]
    return Curve(
        label=label,
        x=x,
        mean=scores_SX.mean(axis=0),
        least=scores_SX.min(axis=0),
        most=scores_SX.max(axis=0),
    )


def _rounds_of(run: Run) -> list[float]:
    return [float(round_.round) for round_ in run.rounds]


def _seconds_of(run: Run) -> list[float]:
    return list(accumulate(round_.virtual_time_s for round_ in run.rounds))


def _bytes_of(run: Run) -> list[float]:
    return list(accumulate(float(round_.bytes_sent) for round_ in run.rounds))


def _axes_of(case: Case) -> tuple[_Axis, ...]:
    runs = [run for method in case.methods for run in method.runs]
    seconds = unit_of_s(max(_seconds_of(run)[-1] for run in runs))
    sizes = unit_of_bytes(max(_bytes_of(run)[-1] for run in runs))
    steps = "Between the ends of two rounds the metric is held (a step function)"
    return (
        _Axis(
            name="round",
            title="rounds",
            label="rounds",
            column="round",
            about="Accuracy is that of the real training.",
            x_of=_rounds_of,
            size=1.0,
        ),
        _Axis(
            name="time",
            title="virtual time",
            label=f"virtual time, modelled ({seconds.name})",
            column="virtual_time_s",
            about=f"{steps}; so are the seeds averaged. The time is modelled: virtual, averaging included.",
            x_of=_seconds_of,
            size=seconds.size,
        ),
        _Axis(
            name="bytes",
            title="bytes sent",
            label=f"sent by all together ({sizes.name})",
            column="bytes_sent",
            about=f"{steps}; so are the seeds averaged. Modelled: bytes of all agents' mail without headers.",
            x_of=_bytes_of,
            size=sizes.size,
        ),
    )


def _rows(curve: Curve) -> Iterator[tuple[Cell, ...]]:
    for values in zip(curve.x, curve.mean, curve.least, curve.most, strict=True):
        yield (curve.label, *map(float, values))


def _legend_rows(case: Case, layout: Layout) -> int:
    columns = _legend_columns([method.label for method in case.methods], layout)
    return -(-len(case.methods) // columns)


def _legend_columns(labels: Sequence[str], layout: Layout) -> int:
    return 1 if layout.is_wide or max(map(len, labels)) > 16 else 2


def _draw(
    axis: _Axis,
    curves: Sequence[Curve],
    targets: Sequence[float],
    styles: Mapping[str, Style],
    metric: str,
    figure: "Figure",
    layout: Layout,
) -> None:
    axes = figure.subplots()
    for curve in curves:
        _draw_curve(axes, curve, styles[curve.label], axis)
    _draw_targets(axes, curves, targets)
    ends = [curve.x[-1] for curve in curves]
    if min(ends) > 0 and max(ends) / min(ends) > _LOGARITHMIC:
        make_logarithmic(axes, min(curve.x[0] for curve in curves), max(ends))
    else:
        axes.set_xlim(left=0)
        axes.locator_params("x", nbins=9 if layout.is_wide else 5, integer=axis.name == "round")
    axes.set(xlabel=axis.label, ylabel=f"test {metric}")
    figure.legend(
        axes.get_lines()[: len(curves)],
        [short(curve.label) for curve in curves],
        loc="outside right upper" if layout.is_wide else "outside lower left",
        ncols=_legend_columns([curve.label for curve in curves], layout),
        handlelength=3.2,
        columnspacing=1.2,
    )


def _draw_curve(axes: "Axes", curve: Curve, style: Style, axis: _Axis) -> None:
    x, is_steps = curve.x / axis.size, axis.name != "round"
    every = max(1, -(-len(x) // _MOST_MARKERS))
    axes.fill_between(
        x,
        curve.least,
        curve.most,
        step="post" if is_steps else None,
        color=style.colour,
        alpha=0.14,
        linewidth=0,
    )
    axes.plot(
        x,
        curve.mean,
        drawstyle="steps-post" if is_steps else "default",
        color=style.colour,
        linestyle=style.line,
        linewidth=1.5,
        marker=style.marker,
        markersize=4.2,
        markeredgewidth=0,
        markevery=(style.place % every, every),
    )


def _draw_targets(axes: "Axes", curves: Sequence[Curve], targets: Sequence[float]) -> None:
    lowest = min([*targets, *(float(curve.least.min()) for curve in curves)])
    highest = max([*targets, *(float(curve.most.max()) for curve in curves)])
    margin = 0.04 * max(highest - lowest, 0.01)
    axes.set_ylim(lowest - margin, highest + margin)
    for target in targets:
        axes.axhline(target, color=LIGHT["muted"], linewidth=0.9, linestyle=(0, (2, 3)), zorder=1)


def make_logarithmic(axes: "Axes", first: float, last: float) -> None:
    """Make the horizontal axis logarithmic, with numbers that suit its range."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    is_short = last < 100 * first  # powers of ten alone might be one tick
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0) if is_short else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
