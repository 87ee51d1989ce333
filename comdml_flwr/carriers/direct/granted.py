"""Who hands the model to an agent that is let in again: one, and where that one does not, the next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from comdml_flwr.core.sharding import assign_round_robin


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
    """Return these requests as granted, by peer; the first holder of each is that of `assign_round_robin`.

    Examples
    --------
    >>> two = granted({7: 31, 8: 32}, [0, 1, 4])
    >>> two[7].asked_again(), two[7].asked_again(), two[8].asked_again()
    (1, 4, 4)
    """
    found = {peer: Granted(request, ()) for peer, request in requests.items()}
    for place, peers in enumerate(assign_round_robin(holders, sorted(requests)).values()):
        for peer in peers:
            found[peer].holders = [*holders[place:], *holders[:place]]
    return found
