"""For whom the peers wait, and for how long, as they say themselves: one may wait for one that waits.

Peers wait in chains: for a helper, which waits for the introduction of one that hangs. The last in such a
chain is to be given up first, and by the one next to it; so each agent further away waits longer, by the time
that a peer may be out of reach. Only deadlines of the peers' own are told, never what follows from those of
others: a circle of peers that wait for each other ends.
"""


class Waits:
    """What peers have said of their waiting.

    Examples
    --------
    >>> waits = Waits()
    >>> waits.tell(3, awaited=1, until_s=12.0)
    >>> waits.tell(2, awaited=3, until_s=8.0)
    >>> waits.end_s(2, patience_s=2.0)
    16.0
    """

    def __init__(self) -> None:
        self._told: dict[int, tuple[int, float]] = {}

    def tell(self, peer: int, *, awaited: int, until_s: float) -> None:
        """Note for whom a peer says that it waits, and when it gives up by its own deadline."""
        self._told[peer] = awaited, until_s

    def end_s(self, peer: int, patience_s: float) -> float:
        """Return until when a peer without a fault may be waiting; 0 where it has said nothing."""
        end_s, chain = 0.0, [peer]
        while (awaiting := chain[-1]) in self._told:
            awaited, until_s = self._told[awaiting]
            end_s = max(end_s, until_s + len(chain) * patience_s)
            if awaited in chain:
                break
            chain.append(awaited)
        return end_s
