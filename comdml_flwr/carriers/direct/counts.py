"""What members tell of the test samples that they judged, with the last mark of a round.

So each of them knows the round's metric when it is committed, as who adds up their reports does later. Sums
that no evaluation gives are left out of it, by all alike: everybody gets the same marks.
"""

from collections.abc import Mapping

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.typed_json import Json
from comdml_flwr.learning.metrics import KnownTests, Metrics, Sums, add_sums, read_sums


def metric_of(told: Mapping[int, Mapping[str, Json]], metrics: Metrics, tests: KnownTests) -> float | None:
    """Return the primary metric that sums, by agent, add up to; None where none can be.

    Examples
    --------
    >>> from comdml_flwr.learning.metrics import CLASSIFICATION_METRICS
    >>> pairs = enumerate([(3, 4), (0, 1), (9, 7)])
    >>> told = {a: {"correct": right, "loss_sum": 1.0, "num_evaluated": num} for a, (right, num) in pairs}
    >>> metric_of(told, CLASSIFICATION_METRICS, KnownTests(ids=(0, 1, 2), own={}, num_shared=12))
    0.6
    """
    found = _read(told, metrics, tests)
    parts = [sums for _, sums in sorted(found.items()) if not isinstance(sums, str)]
    return metrics.of(add_sums(parts, metrics))[metrics.primary]


def false_sums(told: Mapping[int, Mapping[str, Json]], metrics: Metrics, tests: KnownTests) -> dict[int, str]:
    """Return who tells sums that cannot be, and what is wrong with them."""
    return {agent: sums for agent, sums in _read(told, metrics, tests).items() if isinstance(sums, str)}


def _read(
    told: Mapping[int, Mapping[str, Json]], metrics: Metrics, tests: KnownTests
) -> dict[int, Sums | str]:
    """Return each agent's sums, or what is wrong with them."""
    most, found = tests.most(told), dict[int, Sums | str]()
    for agent, packed in told.items():
        try:
            sums = read_sums(packed, metrics)
        except RunError as error:
            found[agent] = str(error)
        else:
            found[agent] = tests.wrong_sums(sums, metrics, most[agent]) or sums
    return found
