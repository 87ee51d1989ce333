"""For whom the peers wait, and for how long, as they say themselves: one may wait for one that waits.

Peers wait in chains: for a helper, which waits for the introduction of one that hangs. The last in such a
chain is to be given up first, and by the one next to it; so each agent further away waits longer, by the time
that a peer may be out of reach. Only deadlines of the peers' own are told, never what follows from those of
others: a circle of peers that wait for each other ends.
"""

from math import inf
from typing import NamedTuple


class _Said(NamedTuple):
    """That a peer waits: for whom, when it gives up by its own deadline, and in which round it said so."""

    awaited: int
    until_s: float
    round_: int


class Waits:
    """What peers have said of their waiting.

    Examples
    --------
    >>> waits = Waits()
    >>> waits.tell(3, awaited=1, until_s=12.0)
    >>> waits.tell(2, awaited=3, until_s=8.0)
    >>> waits.end_s(2, patience_s=2.0)
    16.0
    >>> waits.first_end_s(3, without=1), waits.first_end_s(3, without=2)
    (8.0, inf)
    """

    def __init__(self) -> None:
        self._said: dict[int, _Said] = {}  # by peer, what it said last

    def tell(self, peer: int, *, awaited: int, until_s: float, round_: int = 0) -> None:
        """Note for whom a peer says that it waits, and when it gives up by its own deadline."""
        self._said[peer] = _Said(awaited, until_s, round_)

    def begin_round(self, round_: int) -> None:
        """Forget what was said before the round before: who waited then has gone on, or says nothing."""
        self._said = {peer: said for peer, said in self._said.items() if said.round_ >= round_ - 1}

    def said_in(self, peer: int) -> int:
        """Return in which round a peer said last that it waits; 0: in none that counts."""
        return self._said[peer].round_ if peer in self._said else 0

    def waits_for(self, peer: int, awaited: int) -> bool:
        """Tell whether a peer said last that it waits for an agent."""
        return peer in self._said and self._said[peer].awaited == awaited

    def first_end_s(self, awaited: int, without: int) -> float:
        """Return when the first gives up of those who say that they wait for an agent; inf if none does.

        Parameters
        ----------
        awaited : int
            For whom they wait.
        without : int
            A peer that has no say, as that agent waits for it.
        """
        tellers = [peer for peer in self._said if peer != without and self.waits_for(peer, awaited)]
        return min((self._said[peer].until_s for peer in tellers), default=inf)

    def end_s(self, peer: int, patience_s: float) -> float:
        """Return until when a peer without a fault may be waiting; 0 where it has said nothing."""
        end_s, chain = 0.0, [peer]
        while said := self._said.get(chain[-1]):
            end_s = max(end_s, said.until_s + len(chain) * patience_s)
            if said.awaited in chain:
                break
            chain.append(said.awaited)
        return end_s
