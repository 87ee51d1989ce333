"""A heat map in a few levels: cells of one level are one path, so a hundred agents stay a small file."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING

from comdml_flwr.comparison.palette import LIGHT, NUM_HEATS, heat_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import PathPatch

MOST_NUMBERED = 12  # rows or columns up to which cells show their numbers


def boxes(spans: Sequence[tuple[float, float, float, float]], colour: str) -> "PathPatch":
    """Return rectangles (left, bottom, right, top) of one colour as one patch."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners = [
        corner
        for left, bottom, right, top in spans
        for corner in ((left, bottom), (right, bottom), (right, top), (left, top), (left, bottom))
    ]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(spans)
    return PathPatch(Path(corners, codes), facecolor=colour, linewidth=0)


def level_of(value: float, most: float) -> int:
    """Return the level of a value above 0: 0 for the smallest share of `most`, NUM_HEATS - 1 for the largest.

    Examples
    --------
    >>> [level_of(value, 60) for value in (1, 10, 11, 60)]
    [0, 0, 1, 5]
    """
    return min(NUM_HEATS, ceil(NUM_HEATS * value / most)) - 1


def draw_heat(
    axes: "Axes",
    cells: Mapping[tuple[int, int], float],
    shape: tuple[int, int],
    say: Callable[[float], str],
    title: str = "",
    most: float = 0.0,
) -> None:
    """Draw cells (row, column) with values above 0: few show their numbers, many have a key above them.

    Parameters
    ----------
    axes : Axes
        Where.
    cells : Mapping[tuple[int, int], float]
        Values; what is absent stays empty.
    shape : tuple[int, int]
        Rows and columns.
    say : Callable
        A value as a cell shows it.
    title : str, optional
        Stands above; above the key where there is one.
    most : float, optional
        The value that has the strongest colour; 0 means the largest of the cells.
    """
    from matplotlib import rcParams

    (rows, columns), most = shape, most or max(cells.values(), default=1.0)
    gap = 0.03 if max(shape) <= 40 else 0.0
    for level in range(NUM_HEATS):
        spans = [
            (column - 0.5 + gap, row - 0.5 + gap, column + 0.5 - gap, row + 0.5 - gap)
            for (row, column), value in sorted(cells.items())
            if level_of(value, most) == level
        ]
        if spans:
            axes.add_patch(boxes(spans, LIGHT[f"heat-{level}"]))
    if max(shape) <= MOST_NUMBERED:
        for (row, column), value in sorted(cells.items()):
            colour = heat_text(level_of(value, most))
            axes.text(column, row, say(value), ha="center", va="center", color=colour)
    else:
        _draw_key(axes, most, say)
    pad = 6.0 if max(shape) <= MOST_NUMBERED else 8.0 + 3.0 * float(rcParams["legend.fontsize"])
    axes.set_title(title, pad=pad)
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    axes.spines[:].set_visible(True)
    axes.tick_params(length=0)


def _draw_key(axes: "Axes", most: float, say: Callable[[float], str]) -> None:
    from matplotlib.patches import Patch

    axes.legend(
        [Patch(color=LIGHT[f"heat-{level}"]) for level in range(NUM_HEATS)],
        [f"up to {say(most * (level + 1) / NUM_HEATS)}" for level in range(NUM_HEATS)],
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=3,
        columnspacing=1.2,
        handlelength=1.2,
        borderpad=0.2,
    )


def thin_ticks(names: Sequence[str], most: int) -> tuple[list[int], list[str]]:
    """Return places and names of a limited number of ticks, evenly apart, the first included."""
    step = max(1, -(-len(names) // most))
    places = list(range(0, len(names), step))
    return places, [names[place] for place in places]
