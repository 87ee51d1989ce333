"""How well a round's model does for single agents: on the test data of those who have some of their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from comdml_flwr.core.messages import Report
from comdml_flwr.core.typed_json import Json, read_as, read_float
from comdml_flwr.learning.metrics import OWN_SCORE, Better, Metrics, rank, read_sums
from comdml_flwr.planning.types import SERVER

SUMS = "sums"


def own_tests_of(reports: Mapping[int, Report], metrics: Metrics) -> dict[str, Mapping[str, Json]]:
    """Return what a round's record tells of each agent that has evaluated test data of its own.

    Parameters
    ----------
    reports : Mapping[int, Report]
        Of all who took part in a round; with the `own_score` of those who tested on data of their own.
    metrics : Metrics
        Of the agents' task.

    Returns
    -------
    dict[str, Mapping]
        By id, ascending: the metric that counts under its name, and the sums that it comes from.
    """
    found: dict[str, Mapping[str, Json]] = {}
    for agent, report in sorted(reports.items()):
        if agent != SERVER and OWN_SCORE in report:
            score = report[OWN_SCORE]
            told = None if score is None else read_as(read_float, score, f"{OWN_SCORE} in a report")
            found[str(agent)] = {metrics.primary: told, SUMS: read_sums(report, metrics)}
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How far the metric of single agents spreads.

    Parameters
    ----------
    by_agent : tuple[tuple[int, float], ...]
        Agents and their metric, best first; those whose metric was not finite are left out.
    """

    by_agent: tuple[tuple[int, float], ...]

    @property
    def best(self) -> float:
        """The metric of the agent for which the model does best."""
        return self.by_agent[0][1]

    @property
    def median(self) -> float:
        """The median of the agents."""
        return median(score for _, score in self.by_agent)

    @property
    def worst(self) -> float:
        """The metric of the agent for which it does worst."""
        return self.by_agent[-1][1]

    def as_json(self) -> dict[str, Json]:
        """Return what `summary.json` tells."""
        return {
            "num_agents": len(self.by_agent),
            "best": self.best,
            "median": self.median,
            "worst": self.worst,
        }


def spread_of(own_tests: Mapping[str, Mapping[str, Json]], metric: str, better: Better) -> Spread | None:
    """Return the spread over a round's agents; None where none has a finite metric of its own.

    Examples
    --------
    >>> spread_of({"0": {"accuracy": 0.5}, "1": {"accuracy": 0.75}}, "accuracy", "higher").by_agent
    ((1, 0.75), (0, 0.5))
    """
    scores = {int(agent): told.get(metric) for agent, told in own_tests.items()}
    known = {agent: float(score) for agent, score in scores.items() if isinstance(score, int | float)}
    if not known:
        return None
    best_first = sorted(known, key=lambda agent: (-rank(known[agent], better), agent))
    return Spread(by_agent=tuple((agent, known[agent]) for agent in best_first))
