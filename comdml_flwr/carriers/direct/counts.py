"""What members tell of the test samples that they judged, with the last mark of a round.

So each of them knows the round's metric when it is committed, as who adds up their reports does later.
"""

from collections.abc import Iterable, Mapping

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.typed_json import Json
from comdml_flwr.learning.metrics import Metrics, add_sums, read_sums


def metric_of(told: Iterable[Mapping[str, Json]], metrics: Metrics) -> float | None:
    """Return the primary metric that sums add up to; None where somebody's are missing or cannot be.

    Examples
    --------
    >>> from comdml_flwr.learning.metrics import CLASSIFICATION_METRICS
    >>> told = [{"correct": right, "loss_sum": 1.0, "num_evaluated": num} for right, num in ((3, 4), (0, 1))]
    >>> metric_of(told, CLASSIFICATION_METRICS)
    0.6
    """
    try:
        parts = [read_sums(sums, metrics) for sums in told]
    except RunError:
        return None
    if not all(map(metrics.is_possible, parts)):
        return None
    return metrics.of(add_sums(parts, metrics))[metrics.primary]
