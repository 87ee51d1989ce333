"""Who hands the model to an agent that is let in again: one, and where that one does not, the next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Granted:
    """A peer's request to be let in that was granted.

    Parameters
    ----------
    request : int
        Its number.
    holders : Sequence[int]
        Who can hand it the model; the first one was to.
    """

    request: int
    holders: Sequence[int]
    _num_asked: int = field(init=False, default=0)

    def asked_again(self) -> int | None:
        """Return who answers now that it asks again, as those before have handed it nothing."""
        self._num_asked += 1
        return self.holders[self._num_asked % len(self.holders)] if self.holders else None


def granted(requests: Mapping[int, int], holders: Sequence[int]) -> dict[int, Granted]:
    """Return these requests as granted, by peer; as `assign_round_robin` has it, each by another holder.

    Examples
    --------
    >>> two = granted({7: 31, 8: 32}, [0, 1, 4])
    >>> two[7].asked_again(), two[7].asked_again(), two[8].asked_again()
    (1, 4, 4)
    """
    found = {}
    for place, peer in enumerate(sorted(requests)):
        first = place % len(holders) if holders else 0
        found[peer] = Granted(requests[peer], [*holders[first:], *holders[:first]])
    return found
