"""Who is gone, as the members of a run agree on it without a leader.

Whoever waits in vain for a peer accuses it, and tells all. An accusation (round, accuser, accused) is never
taken back, so that sets of accusations can be merged in any order; who is gone is a function of the set:

    in ascending order of (round, accuser, accused): who is accused by one that is not gone itself is gone

So two agents between which a link is broken, who accuse each other, do not both go: the one with the higher
id does. An agent that was gone and is admitted again is in from a round on; accusations of earlier rounds no
longer count.
"""

from collections.abc import Iterable
from typing import TypeAlias

Accusation: TypeAlias = tuple[int, int, int]
"""(round, accuser, accused)."""


class Membership:
    """Who is gone.

    Parameters
    ----------
    absent : Iterable[int]
        Those who are gone from the beginning.

    Examples
    --------
    >>> members = Membership()
    >>> members.merge([(1, 2, 3), (1, 3, 2)])
    >>> sorted(members.gone), members.accusations
    ([3], ((1, 2, 3), (1, 3, 2)))
    >>> members.admit([3], since=2)
    >>> sorted(members.gone)
    []
    """

    def __init__(self, absent: Iterable[int] = ()) -> None:
        self._absent = frozenset(absent)
        self._accusations: set[Accusation] = set()
        self._in_since: dict[int, int] = {}
        self.gone = self._absent

    @property
    def accusations(self) -> tuple[Accusation, ...]:
        """All accusations that count, ascending."""
        return tuple(sorted(filter(self._counts, self._accusations)))

    @property
    def admissions(self) -> tuple[tuple[int, int], ...]:
        """(agent, round) of all who were admitted again, with the round since which they are in."""
        return tuple(sorted(self._in_since.items()))

    def merge(self, accusations: Iterable[Accusation]) -> None:
        """Add accusations; those that are known change nothing."""
        more = {*accusations} - self._accusations
        if more:
            self._accusations |= more
            self._find_gone()

    def settle(self, missing: Iterable[int]) -> None:
        """Hold those to be gone who were missing in a round that is committed.

        All who committed it know the same, and no accusation that comes late can turn it round.
        """
        self._absent |= frozenset(missing)
        self._find_gone()

    def admit(self, agents: Iterable[int], *, since: int) -> None:
        """Let agents in again, from round `since` on."""
        again = dict.fromkeys(agents, since)
        self._in_since |= again
        self._absent -= again.keys()
        self._find_gone()

    def take_over(self, absent: Iterable[int], admissions: Iterable[tuple[int, int]]) -> None:
        """Take up what a member tells one that is admitted."""
        self._absent, self._in_since = frozenset(absent), dict(admissions)
        self._accusations.clear()
        self._find_gone()

    def _counts(self, accusation: Accusation) -> bool:
        round_, _, accused = accusation
        return round_ >= self._in_since.get(accused, 0)

    def _find_gone(self) -> None:
        gone = set(self._absent)
        for _, accuser, accused in self.accusations:
            if accuser not in gone:
                gone.add(accused)
        self.gone = frozenset(gone)
