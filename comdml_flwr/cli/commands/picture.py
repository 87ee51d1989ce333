"""The picture of a fleet with its pairs, as SVG or PNG; matplotlib is the `plots` extra.

Colour and size of an agent show its speed, colour and width of a link its bandwidth (logarithmic scales).
"""

import io
from collections.abc import Sequence
from math import degrees, pi, sin
from pathlib import Path
from typing import TYPE_CHECKING

from comdml_flwr.cli.commands.scene import Scene, some
from comdml_flwr.comparison.ring import Place
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.files import write_file
from comdml_flwr.core.units import human_bandwidth, human_s

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from comdml_flwr.planning.types import Plan, Profile

MOST_AGENTS = 120  # with more, neither ids nor labels can be read

_SIDE_IN, _WIDTH_IN, _HEIGHT_IN = 6.8, 9.6, 7.6
_PAIR, _LAST, _TEXT, _PALE = "#ee7733", "#cc3311", "#333333", "#777777"


def check_size(file: Path, num_agents: int) -> None:
    """Raise InputError for more agents than a picture can show, before any work is done."""
    if num_agents > MOST_AGENTS:
        rule = f"can show {MOST_AGENTS} agents, not {num_agents}; --json gives the whole plan"
        raise InputError("--picture", str(file), rule)


def draw_picture(plan: "Plan", profiles: "Sequence[Profile]", file: Path) -> None:
    """Draw a plan into a file; the same plan gives the same bytes.

    Raises
    ------
    InputError
        If the file cannot be written; then nothing is.
    """
    import matplotlib
    from matplotlib.figure import Figure

    kind, drawn = file.suffix.lower()[1:], io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a matplotlibrc of the user's would give other bytes
        matplotlib.rcParams["svg.hashsalt"] = "comdml"
        figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), dpi=150, facecolor="white")
        _draw(figure, Scene.of(plan, profiles, side_points=72 * _SIDE_IN))
        figure.savefig(drawn, format=kind, metadata={"Date": None} if kind == "svg" else None)
    _write(file, drawn.getvalue())


def _write(file: Path, content: bytes) -> None:
    try:
        file.parent.stat()  # one that is not there is a typing error
        write_file(file, content)
    except OSError as error:
        raise InputError("--picture", str(file), error.strerror or "cannot be written") from error


def _draw(figure: "Figure", scene: Scene) -> None:
    axes = figure.add_axes((0.0, 0.0, _SIDE_IN / _WIDTH_IN, _SIDE_IN / _HEIGHT_IN))
    axes.set(xlim=(-scene.reach, scene.reach), ylim=(-scene.reach, scene.reach), aspect="equal")
    axes.axis("off")
    _draw_links(axes, scene)
    _draw_pairs(axes, scene)
    _draw_agents(axes, scene)
    _draw_labels(axes, scene)
    _draw_title(figure, scene.plan)
    _draw_legends(figure, scene)


def _draw_title(figure: "Figure", plan: "Plan") -> None:
    num_agents = len(plan.solo) + len({agent for pair in plan.pairs for agent in (pair.slow, pair.fast)})
    counts = ((num_agents, "agent"), (len(plan.pairs), "pair"))
    fleet = ", ".join(f"{number} {what}{'' if number == 1 else 's'}" for number, what in counts)
    times = f"{human_s(plan.makespan_s)} instead of {human_s(plan.solo_makespan_s)}"
    below = (
        f"{plan.solo_makespan_s / plan.makespan_s:.2f} times as fast as without offload;"
        f" solver {plan.solver}, time model {plan.time_model}"
    )
    title = f"{fleet}: training takes {times} (modelled)"
    figure.text(0.03, 0.95, title, fontsize=14.5, weight="bold", color=_TEXT)
    figure.text(0.03, 0.918, below, fontsize=10.5, color=_PALE)


def _draw_links(axes: "Axes", scene: Scene) -> None:
    from matplotlib.collections import LineCollection

    links = sorted(scene.links.items(), key=lambda link: (link[1], link[0]))  # fast ones on top
    axes.add_collection(
        LineCollection(
            [[scene.xy(agent) for agent in pair] for pair, _ in links],
            colors=[scene.link_colour(rate) for _, rate in links],
            linewidths=[scene.link_width(rate) for _, rate in links],
            zorder=1,
        )
    )


def _draw_pairs(axes: "Axes", scene: Scene) -> None:
    from matplotlib.patches import FancyArrowPatch

    scale = min(1.0, 4 * scene.gap)
    for pair in scene.plan.pairs:
        for colour, width, head, order in (("white", 5.5, 1.0, 2.0), (_PAIR, 2.6, 18.0, 2.1)):
            arrow = FancyArrowPatch(
                scene.xy(pair.slow),
                scene.xy(pair.fast),
                arrowstyle="-|>",
                mutation_scale=head * scale,
                shrinkA=scene.agent_size(pair.slow) / 2,
                shrinkB=scene.agent_size(pair.fast) / 2,
                linewidth=width * scale,
                color=colour,
                zorder=order,
            )
            axes.add_patch(arrow)


def _draw_agents(axes: "Axes", scene: Scene) -> None:
    for agent in scene.speeds:
        colour = scene.agent_colour(agent)
        dot = _dot(scene.agent_size(agent), colour, _LAST if agent in scene.last else "white")
        dot.set_data(*([value] for value in scene.xy(agent)))
        axes.add_line(dot)
        axes.text(
            *scene.xy(agent),
            str(agent),
            color="white" if sum(colour[:3]) < 1.6 else _TEXT,
            fontsize=scene.id_size,
            weight="bold",
            ha="center",
            va="center_baseline",
            zorder=4,
        )


def _draw_labels(axes: "Axes", scene: Scene) -> None:
    labels = {agent: ("alone", human_s(scene.solo_s[agent])) for agent in scene.plan.solo}
    labels |= {pair.slow: (f"cut {pair.cut}", human_s(pair.finish_s)) for pair in scene.plan.pairs}
    for agent, words in labels.items():
        place = Place(
            angle=scene.where[agent].angle,
            radius=1 + (scene.agent_size(agent) / 2 + 6) / scene.points,
        )
        turned, across, along = _alignment(place, scene.is_crowded)
        axes.text(
            *(place.x, place.y),
            (", " if scene.is_crowded else "\n").join(words),
            rotation=turned,
            rotation_mode="anchor",
            ha=across,
            va=along,
            fontsize=scene.label_size,
            color=_LAST if agent in scene.last else _TEXT,
            weight="bold" if agent in scene.last else "normal",
        )


def _alignment(place: Place, is_crowded: bool) -> tuple[float, str, str]:
    """Return rotation, horizontal and vertical alignment that lead a label away from the ring."""
    right = sin(place.angle)
    if is_crowded:
        is_right = place.angle < pi
        turned = (90 if is_right else 270) - degrees(place.angle)
        return turned, "left" if is_right else "right", "center"
    if abs(right) < 0.2:
        return 0.0, "center", "bottom" if place.y > 0 else "top"
    return 0.0, "left" if right > 0 else "right", "center"


def _draw_legends(figure: "Figure", scene: Scene) -> None:
    from matplotlib.lines import Line2D

    speeds, rates = some(scene.speeds.values()), some(scene.links.values())
    dots = {f"{v:.3g} batches/s": _dot(scene.legend_size(v), scene.colour_of(v)) for v in speeds}
    lines = {
        human_bandwidth(v): Line2D([], [], color=scene.link_colour(v)[:3], linewidth=scene.link_width(v))
        for v in rates
    }
    signs = {
        "offloads to its helper": Line2D(
            [], [], color=_PAIR, linewidth=2.6, marker=">", markersize=8, markevery=(1, 2)
        ),
        "ends last": _dot(14, (1.0, 1.0, 1.0, 1.0), _LAST),
    }
    top = 0.86
    for title, rows in (("agents: speed", dots), ("links: bandwidth", lines), ("the plan", signs)):
        if rows:
            _draw_legend(figure, title, rows, top)
            top -= 0.075 + 0.033 * len(rows)


def _draw_legend(figure: "Figure", title: str, rows: "dict[str, Line2D]", top: float) -> None:
    legend = figure.legend(
        list(rows.values()),
        list(rows),
        title=title,
        loc="upper left",
        bbox_to_anchor=(0.73, top),
        frameon=False,
        alignment="left",
        labelspacing=0.75,
        fontsize=10,
        handlelength=2.4,
        labelcolor=_TEXT,
        title_fontproperties={"weight": "bold", "size": 10.5},
    )
    legend.get_title().set_color(_TEXT)


def _dot(size: float, colour: tuple[float, float, float, float], edge: str = "white") -> "Line2D":
    from matplotlib.lines import Line2D

    return Line2D(
        [],
        [],
        linestyle="none",
        marker="o",
        markersize=size,
        markerfacecolor=colour,
        markeredgecolor=edge,
        markeredgewidth=1.2 if edge == "white" else 2.0,
        zorder=3,
    )
