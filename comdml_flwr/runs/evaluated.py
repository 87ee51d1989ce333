"""After which rounds a model was evaluated: in some, nobody who took part has a test sample.

The metric of such a round is not known; what is known of the model is what the last other round said.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar


class _Round(Protocol):
    @property
    def num_evaluated(self) -> int | None:
        """How many test samples were evaluated; None: it is not known."""


RoundT = TypeVar("RoundT", bound=_Round)


def last_evaluated(rounds: Sequence[RoundT]) -> RoundT:
    """Return the last round in which a test sample was evaluated; the last one where there is none."""
    return next((one for one in reversed(rounds) if one.num_evaluated != 0), rounds[-1])


def known_after(scores: Iterable[tuple[bool, float | None]]) -> list[float | None]:
    """Return a metric as it is known after each round, from (whether it was evaluated, metric) of each.

    Examples
    --------
    >>> known_after([(False, None), (True, 0.5), (False, None), (True, 0.75)])
    [None, 0.5, 0.5, 0.75]
    """
    known: list[float | None] = [None]
    for is_evaluated, score in scores:
        known.append(score if is_evaluated else known[-1])
    return known[1:]
