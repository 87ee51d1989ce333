"""How well a model does: sums over test samples, which add up over agents, and the metrics that they give.

An agent tells sums and no mean, so that shares of different sizes add up to the metric of the whole. Nothing
here needs torch: whoever adds up has no model.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

from comdml_flwr.core.errors import InputError, RunError, short_repr
from comdml_flwr.core.typed_json import Json, read_as, read_float, read_int

Sums: TypeAlias = Mapping[str, float | None]
"""Sums over test samples by name; None: not finite."""
Better: TypeAlias = Literal["higher", "lower"]
"""Which of two values of a metric is the better one."""
OWN_SCORE = "own_score"
"""In a report: the metric that counts, on an agent's own test data. It alone may know how sums give it."""


class Metrics(Protocol):
    """What a task measures of a model."""

    @property
    def primary(self) -> str:
        """Name of the metric that targets and the choice of the best model use."""

    @property
    def better(self) -> Better:
        """Which value of the primary metric is the better one."""

    @property
    def most(self) -> float:
        """The largest value that the primary metric can have; infinity where there is none."""

    @property
    def nothing(self) -> Mapping[str, float]:
        """The sums over no sample: their names; whole numbers where they count, which are always finite."""

    def is_possible(self, sums: Sums) -> bool:
        """Tell whether an evaluation can give these sums."""

    def of(self, sums: Sums) -> dict[str, float | None]:
        """Return the metrics by name, "loss" among them; None: not finite, or over no sample."""


class ClassificationMetrics:
    """Accuracy and mean loss.

    Examples
    --------
    >>> CLASSIFICATION_METRICS.of({"correct": 3, "loss_sum": 2.0, "num_evaluated": 4})
    {'accuracy': 0.75, 'loss': 0.5}
    """

    primary = "accuracy"
    better: Better = "higher"
    most = 1.0
    nothing: Mapping[str, float] = MappingProxyType({"correct": 0, "loss_sum": 0.0, "num_evaluated": 0})

    def is_possible(self, sums: Sums) -> bool:
        """Tell whether no more samples are right than there are, and no loss is negative."""
        correct, num_evaluated = (counted(sums, name) for name in ("correct", "num_evaluated"))
        if correct is None or num_evaluated is None or correct > num_evaluated:
            return False
        return (sums["loss_sum"] or 0) >= 0

    def of(self, sums: Sums) -> dict[str, float | None]:
        """Return accuracy and mean loss; None where a sum is not finite, or over no sample."""
        correct, loss_sum, num_evaluated = (sums[name] for name in ("correct", "loss_sum", "num_evaluated"))
        if not num_evaluated or correct is None:
            return {"accuracy": None, "loss": None}
        loss = None if loss_sum is None else loss_sum / num_evaluated
        return {"accuracy": correct / num_evaluated, "loss": loss}


CLASSIFICATION_METRICS = ClassificationMetrics()


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTests:
    """What all know of the test samples of all agents, by which sums are judged that one of them tells.

    Parameters
    ----------
    ids : tuple[int, ...]
        All agents.
    own : Mapping[int, int]
        How many test samples each agent has that has some of its own.
    num_shared : int
        How many the others share out.
    most_counts : float
        How much a sample adds to a count at most: 1 for a label, else as many labels, pixels or tokens as it
        has; infinity where that is not known.
    """

    ids: tuple[int, ...]
    own: Mapping[int, int]
    num_shared: int
    most_counts: float = inf

    def most(self, agents: Iterable[int]) -> dict[int, int]:
        """Return how many samples each of those can have evaluated who took part in a round."""
        taking_part = tuple(agents)
        num_sharing = sum(agent not in self.own for agent in taking_part)
        share = -(-self.num_shared // max(1, num_sharing))
        return {agent: self.own.get(agent, share) for agent in taking_part}

    def wrong_sums(self, sums: Sums, metrics: Metrics, most: int) -> str:
        """Tell what is wrong with the sums of one who can have evaluated so many samples."""
        num, nothing = counted(sums, "num_evaluated"), metrics.nothing
        if not metrics.is_possible(sums) or (num or 0) > most:
            return f"no evaluation of {most} test samples gives {short_repr(dict(sums))}"
        if num == 0 and dict(sums) != dict(nothing):
            return f"sums over no sample are {short_repr(dict(sums))}"
        counts = {name: sums[name] or 0 for name, zero in nothing.items() if isinstance(zero, int)}
        too_many = [name for name, count in counts.items() if num and count > num * self.most_counts]
        return f"{too_many[0]} is {short_repr(counts[too_many[0]])}, of {num} samples" if too_many else ""


def reaches(score: float | None, target: float, better: Better) -> bool:
    """Tell whether a metric is as good as a target; 0: there is no target.

    Examples
    --------
    >>> reaches(0.9, 0.8, "higher"), reaches(35.0, 40.0, "lower"), reaches(0.9, 0.0, "higher")
    (True, True, False)
    """
    if score is None or target <= 0:
        return False
    return score >= target if better == "higher" else score <= target


def counted(sums: Sums, name: str) -> int | None:
    """Return a sum that counts; None where it cannot be one."""
    value = sums.get(name)
    return value if isinstance(value, int) and value >= 0 else None


def rank(score: float, better: Better) -> float:
    """Return a number that is the larger, the better a metric is."""
    return score if better == "higher" else -score


def check_target(target: float, metrics: Metrics, what: str = "target-metric") -> None:
    """Refuse a target that no model can reach; `what` is its name."""
    if metrics.better == "higher" and target > metrics.most:
        rule = f"must be at most {metrics.most:g}, which is the best {metrics.primary} that there is"
        raise InputError(what, target, rule)


def read_sums(told: Mapping[str, Json], metrics: Metrics) -> dict[str, float | None]:
    """Return the sums that an agent tells.

    Raises
    ------
    RunError
        One of them is no number; a sum that is no count may be None. Or they are those of another task.
    """
    if missing := [name for name in metrics.nothing if name not in told]:
        raise RunError(f"a report has no {missing[0]}: whoever adds up must know the agents' task")
    sums: dict[str, float | None] = {}
    for name, zero in metrics.nothing.items():
        value, what = told.get(name), f"{name} in a report"
        if isinstance(zero, int):
            sums[name] = read_as(read_int, value, what)
        else:
            sums[name] = None if value is None else read_as(read_float, value, what)
    return sums


def add_sums(parts: Iterable[Sums], metrics: Metrics) -> dict[str, float | None]:
    """Add up sums in this order; a sum that is None anywhere is None."""
    whole: dict[str, float | None] = dict(metrics.nothing)
    for part in parts:
        for name, value in part.items():
            before = whole[name]
            whole[name] = None if before is None or value is None else before + value
    return whole
