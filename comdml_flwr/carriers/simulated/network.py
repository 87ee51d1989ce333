"""A network whose time is virtual: what is under way, what has arrived, and who is out of whose reach.

It behaves as the real transport does (carriers/transport/outgoing.py): mail to a peer out of reach waits.
When the peer has been out of reach for longer than the sender's patience, its mail is dropped, and it is gone
for the sender until it is watched again. Not modelled: bandwidth, and queues that are full.
"""

import heapq
import itertools
import random
from bisect import insort
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from comdml_flwr.carriers.simulated.history import Cut, History, Partition
from comdml_flwr.core.errors import PeerGoneError
from comdml_flwr.core.messages import Envelope


@dataclass(slots=True)
class _Reach:
    """What a sender knows of a peer."""

    since_s: float  # what was before that does not count
    is_watched: bool = False
    gone: str | None = None


@dataclass(slots=True)
class _End:
    """An agent's end of the network."""

    patience_s: float
    inbox: deque[Envelope] = field(default_factory=deque)
    rounds: tuple[float, float] = (0, inf)
    peers: dict[int, _Reach] = field(default_factory=dict)


class Network:
    """Moves envelopes in virtual time.

    Parameters
    ----------
    ids : Iterable[int]
        The agents.
    history : History
        Latencies, cuts and partitions.
    rng : random.Random
        Draws the latencies, and what of a dead agent's mail arrives.
    patience_s : float
        How long a peer may be out of reach at the beginning.
    """

    def __init__(self, ids: Iterable[int], history: History, rng: random.Random, patience_s: float) -> None:
        self.now_s = 0.0
        self._ids, self._rng, self._patience_s = tuple(ids), rng, patience_s
        self._latency_s = history.latency_s
        self._ends = {agent: _End(patience_s) for agent in self._ids}
        self._arrivals: list[tuple[float, int, tuple[int, int]]] = []  # a heap, with the link of each
        self._number = itertools.count()
        self._under_way: defaultdict[tuple[int, int], deque[Envelope]] = defaultdict(deque)  # by link
        self._latest_s: dict[tuple[int, int], float] = {}  # by link: when the last of its mail arrives
        self._cuts: dict[tuple[int, int], list[tuple[float, float]]] = {}  # from when to when, by link
        self._outages: dict[frozenset[int], list[tuple[float, float]]] = {}  # of either direction
        for fault in history.faults:
            if isinstance(fault, Cut):
                self._cut((fault.sender, fault.receiver), fault.start_s, fault.end_s)
            elif isinstance(fault, Partition):
                others = [agent for agent in self._ids if agent not in fault.agents]
                for link in itertools.product(fault.agents, others):
                    self._cut(link, fault.start_s, fault.end_s)
                    self._cut(link[::-1], fault.start_s, fault.end_s)

    def send(self, envelope: Envelope) -> None:
        """Put an envelope under way. Raises PeerGoneError where its receiver is gone."""
        link = envelope.sender, envelope.receiver
        reach = self._ends[link[0]].peers.setdefault(link[1], _Reach(self.now_s))
        if reason := self._why_gone(*link):
            raise PeerGoneError(link[1], reason)
        if not (reach.is_watched or self._under_way[link]):
            reach.since_s = self.now_s
        self._under_way[link].append(envelope)
        self._schedule(link, self.now_s)

    def take(self, agent: int) -> Envelope | None:
        """Return the next envelope that has arrived at an agent; None if there is none."""
        inbox = self._ends[agent].inbox
        return inbox.popleft() if inbox else None

    def has_mail(self, agent: int) -> bool:
        """Tell whether something has arrived at an agent."""
        return bool(self._ends[agent].inbox)

    def peers_of(self, agent: int) -> tuple[int, ...]:
        """Return those to whom an agent has sent something, or whom it watches, ascending."""
        return tuple(sorted(self._ends[agent].peers))

    def waits_for_arrival(self, sender: int, peer: int) -> bool:
        """Tell whether a sender has mail for a peer of which it has not heard that it has arrived."""
        return bool(self._under_way[sender, peer])

    def watch(self, agent: int, peers: Iterable[int]) -> None:
        """Let an agent know when these peers go; those that are gone are tried again."""
        for peer in peers:
            reach = self._ends[agent].peers.setdefault(peer, _Reach(self.now_s))
            if self._why_gone(agent, peer) or not reach.is_watched:
                self._ends[agent].peers[peer] = _Reach(self.now_s, is_watched=True)

    def set_patience(self, agent: int, patience_s: float) -> None:
        """Say how long peers may be out of an agent's reach, from now on."""
        self.gone(agent)  # with the patience so far
        self._ends[agent].patience_s = patience_s
        for reach in self._ends[agent].peers.values():
            reach.since_s = self.now_s

    def set_rounds(self, agent: int, first: int, last: int) -> None:
        """Refuse what comes for an agent and is of another round."""
        self._ends[agent].rounds = first, last

    def gone(self, agent: int) -> Mapping[int, str]:
        """Return why peers are gone for an agent."""
        reasons = {peer: self._why_gone(agent, peer) for peer in self.peers_of(agent)}
        return {peer: reason for peer, reason in reasons.items() if reason is not None}

    def next_arrival_s(self) -> float:
        """Return when something arrives next; inf when nothing is under way."""
        return self._arrivals[0][0] if self._arrivals else inf

    def advance(self, now_s: float) -> None:
        """Let time pass, and let arrive what does until then."""
        while self._arrivals and self._arrivals[0][0] <= now_s:
            self.now_s, _, link = heapq.heappop(self._arrivals)
            if (open_s := self._open_s(link)) > self.now_s:
                self._schedule(link, open_s)
            if open_s > self.now_s or self._why_gone(*link):
                continue
            envelope = self._under_way[link].popleft()
            first, last = self._ends[link[1]].rounds
            if first <= envelope.round <= last:
                self._ends[link[1]].inbox.append(envelope)
        self.now_s = now_s

    def leave(self, agent: int, back_after_s: float = inf) -> None:
        """Let an agent's process end now; after a while there is a new one, which knows nothing."""
        for link, envelopes in sorted(self._under_way.items()):
            if link[0] == agent:
                self._drop(link, self._rng.randint(0, len(envelopes)))
        self._ends[agent] = _End(self._patience_s)
        for other in self._ids:
            if other != agent:
                self._cut((agent, other), self.now_s, self.now_s + back_after_s)
                self._cut((other, agent), self.now_s, self.now_s + back_after_s)

    def _schedule(self, link: tuple[int, int], from_s: float) -> None:
        """Let one more envelope arrive some time from then on; they arrive in the order of sending."""
        arrives_s = max(self._latest_s.get(link, 0.0), from_s + self._rng.uniform(*self._latency_s))
        self._latest_s[link] = arrives_s
        heapq.heappush(self._arrivals, (arrives_s, next(self._number), link))

    def _drop(self, link: tuple[int, int], after: int) -> None:
        """Let nothing arrive over a link after so many of the envelopes that are under way."""
        envelopes = self._under_way[link]
        while len(envelopes) > after:
            envelopes.pop()
        too_many = {*sorted(arrival for arrival in self._arrivals if arrival[2] == link)[after:]}
        self._arrivals = [arrival for arrival in self._arrivals if arrival not in too_many]
        heapq.heapify(self._arrivals)

    def _cut(self, link: tuple[int, int], start_s: float, end_s: float) -> None:
        insort(self._cuts.setdefault(link, []), (start_s, end_s))
        insort(self._outages.setdefault(frozenset(link), []), (start_s, end_s))

    def _open_s(self, link: tuple[int, int]) -> float:
        """Return when something may arrive over a link that would arrive now."""
        open_s = self.now_s
        for start_s, end_s in self._cuts.get(link, ()):
            if start_s <= open_s < end_s:
                open_s = end_s
        return open_s

    def _why_gone(self, agent: int, peer: int) -> str | None:
        """Return why a peer is gone for an agent, which then drops the mail for it; None while it is not."""
        reach = self._ends[agent].peers.get(peer)
        if reach is None:
            return None
        outages = self._outages.get(frozenset((agent, peer)))
        if outages and reach.gone is None and (reach.is_watched or self._under_way[agent, peer]):
            silent_s = _longest_s(outages, reach.since_s, self.now_s)
            if silent_s > self._ends[agent].patience_s:
                reach.gone = f"nothing of it for {silent_s:.0f} s"
                self._drop((agent, peer), 0)
        return reach.gone


def _longest_s(outages: Sequence[tuple[float, float]], since_s: float, now_s: float) -> float:
    """Return for how long at a time there was an outage; outages, ascending, may overlap."""
    longest_s, start_s, end_s = 0.0, since_s, since_s
    for begins_s, ends_s in outages:
        if begins_s > end_s:
            start_s = begins_s
        end_s = max(end_s, ends_s)
        longest_s = max(longest_s, min(end_s, now_s) - max(start_s, since_s))
    return longest_s
