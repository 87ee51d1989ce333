"""As what peers say that rounds are committed, and when that is believed.

Whoever has committed a round says so to a peer that is late with it, which then takes the result or is left
behind. One that lies must not end a round for the others. So its word alone counts where this agent has the
very result that it names, to the digest, and where nobody else is there who could tell; otherwise two must
say the same. (With `target-metric` a notice may also end the run, which no result shows: then it takes two.)
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import TypeAlias

from comdml_flwr.carriers.direct.protocol import Commit

Result: TypeAlias = tuple[frozenset[int], str | None]
"""Who is missing in an attempt, and the digest of its model."""


class Decisions:
    """The notices of peers, by round.

    Examples
    --------
    >>> decisions = Decisions()
    >>> for teller in (1, 2):
    ...     decisions.hear(teller, Commit(round=3, gone=(0,), joining=(), digest="ab"))
    ...     print(decisions.of(3, [1, 2, 4]))
    None
    (1, Commit(round=3, gone=(0,), joining=(), digest='ab', ends_run=None))
    """

    def __init__(self) -> None:
        self._told: dict[int, dict[int, Commit]] = {}
        self.results: dict[tuple[int, frozenset[int]], str | None] = {}  # own digests, by round and attempt
        self.may_end_early = False  # whether a notice may say that the run ends

    def hear(self, teller: int, commit: Commit) -> None:
        """Note what a peer says; what it said first of a round counts."""
        self._told.setdefault(commit.round, {}).setdefault(teller, commit)

    @property
    def may_have_ended(self) -> tuple[int, ...]:
        """Rounds of which somebody says that the run has ended with them."""
        if not self.may_end_early:
            return ()
        return tuple(n for n, told in self._told.items() if any(commit.ends_run for commit in told.values()))

    def tellers(self, round_: int) -> Collection[int]:
        """Return who has said that a round is committed."""
        return self._told.get(round_, {}).keys()

    def who_told(self, round_: int, digest: str | None) -> tuple[int, ...]:
        """Return who has said that a round is committed with this digest; nobody for None."""
        told = sorted(self._told.get(round_, {}).items())
        return tuple(teller for teller, commit in told if digest is not None and commit.digest == digest)

    def most_told(self, round_: int, held: Mapping[int, Result]) -> tuple[int, Commit] | None:
        """Return what most say, for who has waited in vain for more; None while nobody says anything.

        Parameters
        ----------
        round_ : int
            Which one.
        held : Mapping[int, tuple]
            By peer, who was missing in the attempt that it ended, and its model's digest: this bears out what
            another one says.
        """
        told = self._told.get(round_, {})
        alike = Counter(map(_result, told.values()))
        alike.update(result for peer, result in held.items() if peer not in told and result in alike)
        return max(told.items(), key=lambda one: (alike[_result(one[1])], -one[0]), default=None)

    def of(self, round_: int, could_tell: Iterable[int]) -> tuple[int, Commit] | None:
        """Return as what a round is committed, and who said so; None as long as that is not to be believed.

        Parameters
        ----------
        round_ : int
            Which one.
        could_tell : Iterable[int]
            The peers that took part in it and are there.
        """
        told, others = self._told.get(round_, {}), {*could_tell}
        alike: defaultdict[Result, list[int]] = defaultdict(list)
        for teller, commit in sorted(told.items()):
            alike[_result(commit)].append(teller)
        for (gone, digest), tellers in alike.items():
            has_it = not self.may_end_early and self.results.get((round_, gone), "") == digest
            if has_it or len(tellers) > 1 or others <= {*tellers}:
                return tellers[0], told[tellers[0]]
        return None


def _result(commit: Commit) -> Result:
    """Return what a notice says that a round is committed as."""
    return frozenset(commit.gone), commit.digest
