"""A figure of a report: what it shows, the numbers behind it, and how it becomes SVG (twice) and PNG."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comdml_flwr.comparison.palette import LIGHT
from comdml_flwr.comparison.svg import inline
from comdml_flwr.core.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Cell = str | int | float | None
LONGEST_LABEL = 26  # characters of a method's label in a figure
_PNG_DPI = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A width to draw for.

    Parameters
    ----------
    name : str
        Class of the figure in the page, which shows one layout and hides the other.
    width_in : float
        Width in inches.
    points : float
        Size of the text; nothing in a figure is smaller than 0.9 of it.
    """

    name: str
    width_in: float
    points: float

    @property
    def is_wide(self) -> bool:
        """Return whether panels stand side by side."""
        return self.width_in > 6


WIDE = Layout(name="wide", width_in=9.0, points=9.0)
NARROW = Layout(name="narrow", width_in=4.0, points=8.4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A figure and the table behind it.

    Parameters
    ----------
    name : str
        Part of the names of its files.
    title, about : str
        What it shows and how to read it, modelled values named; plain text.
    source : str
        Files that it was made of, relative to the comparison's folder.
    columns, rows : Sequence
        Its CSV.
    height_in : Callable
        Height in inches in a layout.
    draw : Callable
        Draws into an empty figure of that size.
    notes : Sequence[tuple[str, str]]
        What there is to say of single methods: label and text.
    """

    name: str
    title: str
    about: str
    source: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    height_in: Callable[[Layout], float]
    draw: "Callable[[Figure, Layout], None]"
    notes: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A figure in the page, by layout, and as a picture file."""

    svg: dict[str, str]
    png: bytes


def check_matplotlib(folder: Path) -> None:
    """Raise InputError if there is no matplotlib to draw a folder's report, before any work is done."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError("report of", str(folder), "needs matplotlib: pip install matplotlib") from None


def draw(chart: Chart, key: str) -> Drawn:
    """Draw a figure; the same chart gives the same bytes.

    Parameters
    ----------
    chart : Chart
        What to draw.
    key : str
        What no other figure of the page has.
    """
    import matplotlib
    from matplotlib.figure import Figure

    svg, png = {}, b""
    for layout in (WIDE, NARROW):
        with matplotlib.rc_context():
            matplotlib.rcdefaults()  # a matplotlibrc of the user's would give other bytes
            matplotlib.rcParams.update(_settings(layout))
            figure = Figure(figsize=(layout.width_in, chart.height_in(layout)), layout="constrained")
            chart.draw(figure, layout)
            text = _saved(figure, "svg", metadata={"Date": None, "Creator": None}).decode()
            figure.set_layout_engine("none")  # it is laid out now, and would be again for the PNG
            svg[layout.name] = inline(text, f"{key}-{layout.name[0]}", escape(chart.title, quote=True))
            if layout.is_wide:
                png = _saved(figure, "png", metadata={"Software": None}, dpi=_PNG_DPI, facecolor="white")
    return Drawn(svg=svg, png=png)


def _saved(figure: "Figure", kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=kind, **options)
    return file.getvalue()


def _settings(layout: Layout) -> dict[Any, object]:
    ink, muted, grid = LIGHT["ink"], LIGHT["muted"], LIGHT["grid"]
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "comdml",
        "text.parse_math": False,  # a label with two dollar signs is no formula
        "savefig.facecolor": "none",
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "font.size": layout.points,
        "axes.titlesize": layout.points + 0.6,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlecolor": ink,
        "axes.labelsize": layout.points,
        "legend.fontsize": layout.points,
        "xtick.labelsize": 0.94 * layout.points,
        "ytick.labelsize": 0.94 * layout.points,
        "text.color": ink,
        "axes.labelcolor": muted,
        "axes.edgecolor": grid,
        "xtick.color": grid,
        "ytick.color": grid,
        "xtick.labelcolor": muted,
        "ytick.labelcolor": muted,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": grid,
        "grid.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.labelcolor": ink,
        "axes.unicode_minus": False,
    }


def short(label: str) -> str:
    """Return a label as figures show it: not too long, on one line, and never hidden by its first letter."""
    text = " ".join(label.split())
    text = text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"
    return f" {text}" if text.startswith("_") else text  # matplotlib hides labels that begin with _


def bare(axes: "Axes") -> None:
    """Take grid, frame and tick marks off axes that show no numbers."""
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
