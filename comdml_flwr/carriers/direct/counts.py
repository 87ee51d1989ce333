"""What members tell of the test samples that they judged, with the last mark of a round.

So each of them knows the round's accuracy when it is committed, as who adds up their reports does later.
"""

from collections.abc import Iterable, Mapping

from comdml_flwr.core.messages import Json

COUNTED = ("correct", "num_evaluated")  # as in a report


def counts_in(report: Mapping[str, Json]) -> dict[str, Json]:
    """Return what is told of a report."""
    return {name: report.get(name) for name in COUNTED}


def accuracy_of(told: Iterable[Mapping[str, Json]]) -> float | None:
    """Return the accuracy that counts add up to; None where somebody's are none.

    Examples
    --------
    >>> accuracy_of([{"correct": 3, "num_evaluated": 4}, {"correct": 0, "num_evaluated": 1}])
    0.6
    """
    right = judged = 0
    for counts in told:
        correct, num_evaluated = (counts.get(name) for name in COUNTED)
        if not isinstance(correct, int) or not isinstance(num_evaluated, int):
            return None
        if not 0 <= correct <= num_evaluated:
            return None
        right, judged = right + correct, judged + num_evaluated
    return right / judged if judged else None
