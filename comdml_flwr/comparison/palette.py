"""The colours of a report, in a light and a dark scheme, and how each method looks.

Colour-blind safe: the ten hues follow Paul Tol's and Okabe and Ito's qualitative sets, and a method also has
a line style and a marker of its own. A figure is drawn in the light colours; in the page each of them
becomes a CSS variable (svg.py), so no two names may share a light colour.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

COLOURS: Mapping[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#14181d"),
    "ink": ("#1f2933", "#e6e9ee"),
    "muted": ("#566270", "#a7b1be"),
    "grid": ("#dde2e8", "#333b45"),
    "link": ("#0a58a8", "#7ab8ff"),
    "compute": ("#4a5a70", "#8fa3bf"),
    "help": ("#cc79a7", "#e9a3c9"),
    "send": ("#e09f00", "#f2c14e"),
    "wait": ("#e6e9ed", "#29303a"),
    "heat-0": ("#eef3fa", "#1b2532"),
    "heat-1": ("#d3e1f3", "#22364e"),
    "heat-2": ("#a9c6e8", "#2b4a6f"),
    "heat-3": ("#3d73b0", "#6ba1dd"),
    "heat-4": ("#2a5a94", "#94bfee"),
    "heat-5": ("#173c6b", "#c8e0fb"),
    "method-0": ("#d55e00", "#ff914d"),
    "method-1": ("#0072b2", "#5badea"),
    "method-2": ("#117733", "#4fc47a"),
    "method-3": ("#aa4499", "#e08fd2"),
    "method-4": ("#1c93a8", "#6fd3e6"),
    "method-5": ("#86801a", "#d2c95a"),
    "method-6": ("#332288", "#9d92ff"),
    "method-7": ("#cc6677", "#ffa0ac"),
    "method-8": ("#882255", "#cf6a98"),
    "method-9": ("#6b6b6b", "#b5b5b5"),
}
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
NUM_HEATS, NUM_HUES = 6, 10

_LINES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "-",
    (0, (5, 2)),
    (0, (1.2, 1.4)),
    (0, (6, 2, 1.2, 2)),
)
_MARKERS = "osD^vPX<>*hp8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a method is drawn: its colour as a variable, the line style and marker as matplotlib has them."""

    variable: str
    line: str | tuple[int, tuple[float, ...]]
    marker: str
    place: int

    @property
    def colour(self) -> str:
        """Return its light colour."""
        return LIGHT[self.variable]


def styles_of(labels: Sequence[str]) -> dict[str, Style]:
    """Return the style of each method; after ten methods the hues begin again with other lines."""
    return {
        label: Style(
            variable=f"method-{place % NUM_HUES}",
            line=_LINES[(place + place // NUM_HUES) % len(_LINES)],
            marker=_MARKERS[place % len(_MARKERS)],
            place=place,
        )
        for place, label in enumerate(labels)
    }


def heat_text(level: int) -> str:
    """Return the colour of text on a heat level that can be read in both schemes."""
    return LIGHT["ink" if level < NUM_HEATS // 2 else "paper"]


def css_variables() -> str:
    """Return the colours as CSS: light, and dark on a screen that asks for it (never on paper)."""
    light, dark = (
        "".join(f"--{name}:{pair[scheme]};" for name, pair in COLOURS.items()) for scheme in (0, 1)
    )
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
