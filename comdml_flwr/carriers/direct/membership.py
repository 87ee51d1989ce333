"""Who is gone, as the members of a run agree on it without a leader.

Whoever waits in vain for a peer accuses it, and tells all. An accusation (round, accuser, accused) is never
taken back and comes from its accuser alone, so that sets of accusations can be merged in any order; who is
gone is a function of the set:

    in ascending order of (round, accuser, accused): whoever two accuse that are not gone themselves is gone

That somebody is dead is found by all who wait for it, each for itself. But one that lies can put nobody out:
a second has to bear it out, unless nobody else takes part who could. An agent's own word is enough for itself
where it cannot go on without the peer. Whoever takes a peer for gone says so as well, so that all hear of it,
though an accuser dies in the middle of it. Of two halves that accuse each other, the one with the lowest id
stays.

An agent that was gone and is admitted again is in from a round on; accusations of earlier rounds, against it
and by it, no longer count.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from typing import TypeAlias

Accusation: TypeAlias = tuple[int, int, int]
"""(round, accuser, accused)."""


class Membership:
    """Who is gone.

    Parameters
    ----------
    absent : Iterable[int]
        Those who are gone from the beginning.
    drawn : Callable[[int], tuple[int, ...]], optional
        Who takes part in a round, if nobody fails; without it, one accuser is enough.

    Examples
    --------
    >>> members = Membership(drawn=lambda round_: (0, 1, 2, 3))
    >>> members.merge([(1, 2, 3), (1, 3, 2)])
    >>> sorted(members.gone)
    []
    >>> members.merge([(1, 0, 3)])
    >>> sorted(members.gone), members.accusers(3)
    ([3], {0, 2})
    >>> members.admit([3], since=2)
    >>> sorted(members.gone)
    []
    """

    def __init__(
        self, absent: Iterable[int] = (), drawn: Callable[[int], tuple[int, ...]] | None = None
    ) -> None:
        self._absent, self._drawn = frozenset(absent), drawn
        self._accusations: set[Accusation] = set()
        self._in_since: dict[int, int] = {}
        self._own: set[Accusation] = set()  # that count for this agent without a second accuser
        self.gone = self._absent

    @property
    def absent(self) -> frozenset[int]:
        """Who was gone when the last round was committed, and has not been admitted since."""
        return self._absent

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

    def accusers(self, accused: int, *, since: int = 0) -> set[int]:
        """Return who accuses an agent, from a round on."""
        return {
            accuser for round_, accuser, other in self.accusations if other == accused and round_ >= since
        }

    def accused_by(self, accuser: int) -> set[int]:
        """Return whom an agent accuses."""
        return {other for _, one, other in self.accusations if one == accuser}

    def in_since(self, agent: int) -> int:
        """Return with which round an agent was let in again; 0: it never was."""
        return self._in_since.get(agent, 0)

    def turn(self, agent: int) -> tuple[int, int]:
        """Return what decides between two of whom only one can stay: the one with the greater value goes.

        That is who was let in again longer ago, or never, and else the one with the higher id. So of two that
        cannot hear each other, or say so, each goes in turn; and all members find the same.
        """
        return -self.in_since(agent), agent

    def insist(self, accusation: Accusation) -> None:
        """Add an accusation of this agent's own, which counts for itself."""
        self._own.add(accusation)
        self._accusations.add(accusation)
        self._find_gone()

    def settle(self, missing: Iterable[int]) -> None:
        """Hold those to be gone who were missing in a round that is committed.

        All who committed it know the same, and no accusation that comes late can turn it round. Whom this
        agent alone had given up, and the others had not, is one that it can go on without: from now on a
        second has to bear it out, as for the others.
        """
        self._absent |= frozenset(missing)
        self._own = {accusation for accusation in self._own if accusation[2] in self._absent}
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
        self._own.clear()
        self._find_gone()

    def _counts(self, accusation: Accusation) -> bool:
        round_, *both = accusation
        return all(round_ >= self.in_since(agent) for agent in both)

    def _find_gone(self) -> None:
        gone = set(self._absent)
        accusers: defaultdict[int, set[int]] = defaultdict(set)
        for accusation in self.accusations:
            round_, accuser, accused = accusation
            if accuser not in gone:
                accusers[accused].add(accuser)
                if len(accusers[accused]) >= self._needed(round_, accused, gone) or accusation in self._own:
                    gone.add(accused)
        self.gone = frozenset(gone)

    def _needed(self, round_: int, accused: int, gone: Collection[int]) -> int:
        """Return how many must accuse an agent: two, where two could."""
        if self._drawn is None:
            return 1
        could = [agent for agent in self._drawn(round_) if agent != accused and agent not in gone]
        return min(2, max(1, len(could)))
