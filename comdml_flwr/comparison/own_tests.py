"""How far the metric spreads over agents that have test data of their own: a row of dots for each method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from comdml_flwr.comparison.chart import Cell, Chart, Layout, short
from comdml_flwr.comparison.contents import Case, Method
from comdml_flwr.comparison.palette import LIGHT, Style
from comdml_flwr.learning.metrics import rank

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW_IN, _AROUND_IN = 0.32, 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tested:
    """An agent of a seed, after the last round."""

    seed: int
    agent: int
    num_samples: int
    score: float


def chart(case: Case, styles: Mapping[str, Style]) -> Chart | None:
    """Return the figure of a case; None if no agent has test data of its own."""
    tested = {method.label: _tested(method) for method in case.methods}
    if not any(tested.values()):
        return None
    column = case.methods[0].numbers.metric
    return Chart(
        name="own-tests",
        title=f"Test {case.metric} of single agents",
        about=(
            "After the last round, on each agent's own test data: a dot is an agent in a seed, the line goes"
            " from the worst to the best, and the bar across it is the median."
        ),
        source=f"runs/{case.name}/*/seed-*/rounds.jsonl",
        columns=("method", "seed", "agent", "num_test_samples", column),
        rows=[row for label, found in tested.items() for row in _rows(label, found)],
        height_in=lambda layout: _AROUND_IN + _ROW_IN * len(case.methods),
        draw=partial(_draw, case.metric, tested, styles),
        notes=[(label, _say(case, found)) for label, found in tested.items() if found],
    )


def _tested(method: Method) -> list[_Tested]:
    return [
        _Tested(
            seed=run.seed,
            agent=agent,
            num_samples=int(told.sums.get("num_evaluated") or 0),
            score=told.score,
        )
        for run in method.runs
        for agent, told in sorted(run.last_evaluated.own_tests.items())
        if told.score is not None
    ]


def _rows(label: str, found: Sequence[_Tested]) -> list[tuple[Cell, ...]]:
    return [(label, one.seed, one.agent, one.num_samples, one.score) for one in found]


def _say(case: Case, found: Sequence[_Tested]) -> str:
    """Say who is best and worst, and what the median is."""
    best, worst = (pick(found, key=lambda one: rank(one.score, case.better)) for pick in (max, min))
    middle = median(one.score for one in found)
    has_seeds = len({one.seed for one in found}) > 1

    def named(one: _Tested) -> str:
        seed = f", seed {one.seed}" if has_seeds else ""
        return f"{one.score:.3f} (agent {one.agent}{seed})"

    return f"best {named(best)}, median {middle:.3f}, worst {named(worst)}"


def _draw(
    metric: str,
    tested: Mapping[str, Sequence[_Tested]],
    styles: Mapping[str, Style],
    figure: "Figure",
    layout: Layout,
) -> None:
    axes = figure.subplots()
    for row, (label, found) in enumerate(tested.items()):
        scores = [one.score for one in found]
        if not scores:
            continue
        style = styles[label]
        axes.plot([min(scores), max(scores)], [row, row], color=style.colour, linewidth=1.2)
        axes.plot(scores, [row] * len(scores), "o", color=style.colour, alpha=0.55, markersize=4.5)
        axes.plot([median(scores)], [row], "|", color=LIGHT["ink"], markersize=13, markeredgewidth=1.6)
    axes.set_ylim(len(tested) - 0.5, -0.5)
    axes.set_yticks(range(len(tested)), [short(label) for label in tested])
    axes.tick_params(axis="y", labelcolor=LIGHT["ink"])
    axes.grid(visible=False, axis="y")
    axes.locator_params("x", nbins=8 if layout.is_wide else 4)
    axes.set(xlabel=f"test {metric}")
