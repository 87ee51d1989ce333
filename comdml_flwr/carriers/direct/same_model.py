"""Whether the members of an attempt hold the same model, and what is done where they do not.

The last mark of each member has the digest of its model. Where more than half of them agree, the round is
committed as that: a member whose memory erred, or to which a shard's owner sent something else, asks one of
those for their model and goes on with it. Two that differ, or more, may have been sent different averages by
the owner of a shard. So all tell all the digests of the shards that they got: an owner from which two or more
got something else than the rest is given up, and the averaging begins again without it. If there is no such
owner, but no majority either, the one that the most disputes are about is. Where nothing finds an end, the
round is not committed. (Of two members none can tell who is right.)
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.state import sha256_of
from comdml_flwr.carriers.direct.collector import Collector, LeftBehindError
from comdml_flwr.carriers.direct.deadlines import Deadlines
from comdml_flwr.carriers.direct.membership import Membership
from comdml_flwr.carriers.direct.peers import PeerLinks
from comdml_flwr.carriers.direct.protocol import ModelRequest, ShardDigests
from comdml_flwr.core.errors import PeerFaultError
from comdml_flwr.core.majority import majority
from comdml_flwr.core.sharding import shard_bounds

log = logging.getLogger(__name__)

_FEWEST = 3  # members among whom a majority can be right


def equivocators(told: Mapping[int, Mapping[int, str]]) -> frozenset[int]:
    """Return the owners from which two members or more got something else than the rest.

    Parameters
    ----------
    told : Mapping[int, Mapping[int, str]]
        By member, the digest of what it got from each owner; of its own shard an owner has no say.

    Examples
    --------
    >>> sorted(equivocators({0: {3: "a"}, 1: {3: "b"}, 2: {3: "c"}, 3: {3: "a"}}))
    [3]
    """
    found = set()
    for owner, got in _got_by_owner(told).items():
        alike = max(Counter(got.values()).values(), default=0)
        if len(got) - alike > 1:
            found.add(owner)
    return frozenset(found)


def most_disputed(told: Mapping[int, Mapping[int, str]]) -> frozenset[int]:
    """Return the agent in the most disputes over what an owner sent, an owner before a member; or nobody.

    Where one member alone got something else than the rest, either the owner or that member says what is not
    true.

    Parameters
    ----------
    told : Mapping[int, Mapping[int, str]]
        As for `equivocators`.

    Examples
    --------
    >>> told = {1: {0: "a", 2: "c"}, 2: {0: "a", 2: "c"}, 4: {0: "b", 2: "c"}, 0: {0: "a", 2: "c"}}
    >>> sorted(most_disputed(told))
    [0]
    >>> told[4][2] = "x"
    >>> sorted(most_disputed(told))
    [4]
    """
    disputes: Counter[int] = Counter()
    for owner, got in _got_by_owner(told).items():
        if len({*got.values()}) > 1:
            disputes[owner] += 1
            count = Counter(got.values())
            alone = [member for member, digest in got.items() if count[digest] == 1]
            disputes.update(alone if len(alone) == 1 else ())
    most = max(disputes.values(), default=0)
    suspects = [agent for agent, number in disputes.items() if number == most]
    return frozenset(suspects[:1]) if most else frozenset()


def _got_by_owner(told: Mapping[int, Mapping[int, str]]) -> dict[int, dict[int, str]]:
    """Return by owner, ascending, what the other members say that they got from it."""
    owners = sorted({owner for shards in told.values() for owner in shards})
    return {
        owner: {
            member: shards[owner] for member, shards in told.items() if member != owner and owner in shards
        }
        for owner in owners
    }


@dataclass(slots=True, kw_only=True)
class SameModel:
    """Sees to it that the members of a round commit one model.

    Parameters
    ----------
    agent, links, membership, collector, deadlines
        Of one agent.
    """

    agent: Agent
    links: PeerLinks
    membership: Membership
    collector: Collector
    deadlines: Deadlines
    has_taken: bool = field(init=False, default=False)  # the model that others agree on

    def settle(self, round_: int) -> bool:
        """Compare the digests of the last marks; tell whether the round can be committed.

        Raises
        ------
        BeginAgainError, DecidedError, LeftBehindError
            The round does not go on as it began.
        """
        marks, missing = self.collector.marks.items(), self.collector.missing
        told = {peer: mark.digest for peer, mark in marks if peer not in missing}
        told[self.agent.id] = self.agent.shared_sha256()
        common, odd = majority(told)
        if not odd:
            return True
        if len(told) < _FEWEST:
            return False
        if len(odd) > 1:
            shards = self._exchange(round_, [*told])
            guilty = equivocators(shards) or (frozenset() if common else most_disputed(shards))
            guilty -= {self.agent.id}
            if 2 * len(guilty) >= len(told):  # who would be left?
                return False
            for owner in sorted(guilty):
                reason = f"average from agent {owner}, round {round_}: it sent others something else"
                self.links.distrust(PeerFaultError(owner, reason))
            give_up = self.links.clock.now_s() + self.deadlines.seconds
            while guilty and self.links.clock.now_s() < give_up:
                self.collector.look()  # the others find so, too, and the averaging begins again
        if common is None:
            return False
        for peer in sorted(odd - {self.agent.id}):
            log.warning("round %d: agent %d holds another model than the others", round_, peer)
            self.links.distrusted.add(peer)
        if self.agent.id in odd:
            self.take(round_, common, sorted(told.keys() - odd))
        return True

    def take(self, round_: int, digest: str | None, holders: Iterable[int]) -> None:
        """Take the model of a round with this digest from one of those who have it.

        Raises
        ------
        LeftBehindError
            None of them gives it.
        """
        links, agent = self.links, self.agent
        log.warning("agent %d, round %d: takes the model that the others agree on", agent.id, round_)
        for holder in holders:
            links.models.pop(holder, None)
            links.say(holder, ModelRequest(round=round_))
            give_up = links.clock.now_s() + self.deadlines.seconds
            while holder not in links.models and links.clock.now_s() < give_up and not links.why_gone(holder):
                links.look()
                if agent.id in self.membership.gone:
                    raise LeftBehindError
            where, model = links.models.pop(holder, ("", None))
            if model is None or agent.tensors.wrong_shared(model.tensors):
                continue
            agent.tensors.take_over(model.tensors, where)
            if agent.shared_sha256() == digest:
                agent.end_round()
                self.has_taken = True
                return
        raise LeftBehindError

    def _exchange(self, round_: int, members: Iterable[int]) -> dict[int, Mapping[int, str]]:
        """Tell all the digests of the shards that this agent got; return those of all who tell theirs."""
        gone, own = tuple(sorted(self.collector.missing)), self._shard_digests()
        others = [member for member in members if member != self.agent.id]
        for peer in others:
            self.links.say(peer, ShardDigests(gone=gone, owners=tuple(own), digests=tuple(own.values())))
        told: dict[int, Mapping[int, str]] = {self.agent.id: own}
        give_up = self.links.clock.now_s() + self.deadlines.seconds
        while len(told) <= len(others) and self.links.clock.now_s() < give_up:
            self.collector.look()
            for peer in others:
                number, shards = self.links.shards.get(peer, (0, None))
                if shards is not None and (number, shards.gone) == (round_, gone):
                    told[peer] = dict(zip(shards.owners, shards.digests, strict=True))
        return told

    def _shard_digests(self) -> dict[int, str]:
        members = self.agent.members
        weights_P = self.agent.weights_P
        bounds = zip(members, shard_bounds(len(weights_P), len(members)), strict=True)
        return {owner: sha256_of([weights_P[start:stop]]) for owner, (start, stop) in bounds}
