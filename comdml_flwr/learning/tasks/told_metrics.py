"""What a node tells of its task's metrics, for one who adds up sums and has no task.

A metric of ours is told by its task's name and number of outputs, and computed by whoever adds up. Of another
task only the node's own code knows how sums become metrics: which sums there are is told, and a node is asked
for the values (`AskedMetrics`).
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast, get_args

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.strict_json import to_json
from comdml_flwr.core.typed_json import Json, read_float, read_int, read_numbers, read_table, read_text
from comdml_flwr.learning.metrics import CLASSIFICATION_METRICS, Better, Metrics, Sums, counted
from comdml_flwr.learning.task import Task
from comdml_flwr.learning.tasks.language_model import LANGUAGE_MODEL_METRICS
from comdml_flwr.learning.tasks.multi_label import MULTI_LABEL_METRICS
from comdml_flwr.learning.tasks.regression import RegressionMetrics
from comdml_flwr.learning.tasks.segmentation import SegmentationMetrics

Scores: TypeAlias = dict[str, float | None]
"""Metrics by name, "loss" among them; None: not finite, or over no sample."""

_OURS: Mapping[str, Callable[[int], Metrics]] = {
    "classification": lambda num_outputs: CLASSIFICATION_METRICS,
    "regression": RegressionMetrics,
    "multi-label": lambda num_outputs: MULTI_LABEL_METRICS,
    "segmentation": SegmentationMetrics,
    "language-model": lambda num_outputs: LANGUAGE_MODEL_METRICS,
}
"""(number of outputs) -> metrics, by the task's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedMetrics:
    """The metrics of a task that others know: `ask` gives the values of sums."""

    primary: str
    better: Better
    most: float
    nothing: Mapping[str, float]
    ask: Callable[[Sums], Scores]

    def is_possible(self, sums: Sums) -> bool:
        """Tell whether what counts is a count; of the rest nothing is known here."""
        return all(counted(sums, name) is not None for name, x in self.nothing.items() if isinstance(x, int))

    def of(self, sums: Sums) -> Scores:
        """Return what is told of these sums."""
        return self.ask(sums)


def pack_metrics(task: Task) -> str:
    """Return what a node tells of its task's metrics, as JSON."""
    metrics, num_outputs = task.metrics, task.num_outputs
    for name, of_task in _OURS.items():
        if of_task(num_outputs) == metrics:
            return to_json({"task": name, "num_outputs": num_outputs})
    own: dict[str, Json] = {
        "metric": metrics.primary,
        "better": metrics.better,
        "most": metrics.most if math.isfinite(metrics.most) else None,
        "sums": dict(metrics.nothing),
    }
    return to_json(own)


def read_metrics(packed: str, ask: Callable[[Sums], Scores]) -> Metrics:
    """Return the metrics that a node tells.

    Parameters
    ----------
    packed : str
        As `pack_metrics` gives it.
    ask : Callable[[Sums], Scores]
        Asks a node for the values of sums, where the task is none of ours.

    Raises
    ------
    RunError
        It tells of no metrics.
    """
    try:
        told = read_table(json.loads(packed))
        if "task" in told:
            return _OURS[read_text(told["task"])](read_int(told["num_outputs"]))
        better = read_text(told["better"])
        if better not in get_args(Better):
            raise TypeError(f"{better!r} is no way to be better")
        return AskedMetrics(
            primary=read_text(told["metric"]),
            better=cast("Better", better),
            most=math.inf if told["most"] is None else read_float(told["most"]),
            nothing=cast("Mapping[str, float]", read_numbers(told["sums"])),
            ask=ask,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{packed[:80]!r} tells of no metrics: {error}") from None


def read_scores(packed: str, metric: str) -> Scores:
    """Return the values that a node tells, `metric` and the loss among them. Raises RunError otherwise."""
    try:
        told = read_table(json.loads(packed))
        scores = {name: None if value is None else read_float(value) for name, value in told.items()}
    except (TypeError, ValueError) as error:
        raise RunError(f"{packed[:80]!r} holds no values of metrics: {error}") from None
    if missing := {metric, "loss"} - scores.keys():
        raise RunError(f"{packed[:80]!r} holds no value of {sorted(missing)[0]}")
    return scores
