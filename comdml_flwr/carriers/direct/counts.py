"""What members tell of the test samples that they judged, with the last mark of a round.

So each of them knows the round's metric when it is committed, as who adds up their reports does later.
"""

from collections.abc import Iterable, Mapping

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.typed_json import Json
from comdml_flwr.learning.metrics import Metrics, add_sums, read_sums


def sums_in(report: Mapping[str, Json], metrics: Metrics) -> dict[str, float]:
    """Return what is told of a report: its sums, without those that are none."""
    told = {name: report.get(name) for name in metrics.nothing}
    return {name: value for name, value in told.items() if isinstance(value, int | float)}


def metric_of(told: Iterable[Mapping[str, Json]], metrics: Metrics) -> float | None:
    """Return the primary metric that sums add up to; None where somebody's cannot be.

    Examples
    --------
    >>> from comdml_flwr.learning.metrics import CLASSIFICATION_METRICS
    >>> told = [{"correct": 3, "num_evaluated": 4}, {"correct": 0, "num_evaluated": 1}]
    >>> metric_of(told, CLASSIFICATION_METRICS)
    0.6
    """
    try:
        parts = [read_sums({**dict.fromkeys(metrics.nothing), **sums}, metrics) for sums in told]
    except RunError:
        return None
    if not all(map(metrics.is_possible, parts)):
        return None
    return metrics.of(add_sums(parts, metrics))[metrics.primary]
