"""Peers meet before the first round: who reaches whom, and how fast the links are.

Theory of operation
-------------------
Nodes begin within seconds or minutes of each other, and one that has not begun looks like one that is out of
reach. So everybody sends everybody a greeting and waits until it was taken, at most for `patience_s`; but
whoever has sent a greeting has begun, and gets only seconds more to take ours (who found nobody there dials
again after two). Then everybody tells those whom it reaches whom it does not reach. Only where all have told
that they reach all are the links measured.

Links are measured a pair at a time, as far as that goes without a leader: in the order of a round-robin
tournament every agent is in one pair at a time, and a pair begins when both are free. The agent with the
lower id measures first, tells what it found, and then takes what the other one sends; what counts is the
slower direction and the longer latency, which are the same two numbers at both ends.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import ClassVar

from comdml_flwr.carriers.direct.links import BITS, measure_link
from comdml_flwr.carriers.transport.grpc import Transport
from comdml_flwr.core.errors import OverdueError, PeerGoneError, RunError
from comdml_flwr.core.mail import Mail
from comdml_flwr.core.messages import Envelope
from comdml_flwr.planning.types import Link

REACH_S, _OF_PATIENCE = 8.0, 0.25  # for a peer that has begun: the longer of both
PAIR_PATIENCE_S = 300.0  # for a peer that is still busy with others
_FLUSH_S = 5.0
LINGER_S = 0.3  # at the end, so that peers hear that their last envelope was taken
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class _Here(Mail):
    """The sender asks whether it reaches the receiver."""

    kind: ClassVar[str] = "here"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told(Mail):
    """Whom the sender cannot reach."""

    kind: ClassVar[str] = "told"
    missing: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Free(Mail):
    """The sender's link is free to be measured with the receiver."""

    kind: ClassVar[str] = "free"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found(Mail):
    """The link with the receiver, as the sender has measured it."""

    kind: ClassVar[str] = "found"
    bytes_per_s: float
    latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done(Mail):
    """All links of the sender are measured."""

    kind: ClassVar[str] = "done"


OF_MEETINGS = frozenset(mail.kind for mail in (_Here, _Told, _Free, _Found, _Done)) | {BITS}
"""All kinds of mail of a meeting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """What an agent found out.

    Parameters
    ----------
    missing : Mapping[int, str]
        Why peers are out of its reach.
    links : Mapping[int, Link]
        To the others, measured; empty unless all reach all.
    """

    missing: Mapping[int, str] = field(default_factory=dict)
    links: Mapping[int, Link] = field(default_factory=dict)


def meet_peers(transport: Transport, ids: Sequence[int], linked: Sequence[int], patience_s: float) -> Met:
    """Find out which peers are reached and, if all reach all, measure the links.

    Parameters
    ----------
    transport : Transport
        Started; its limits are patient for at least `patience_s`.
    ids : Sequence[int]
        All agents that meet, the own one included.
    linked : Sequence[int]
        With whom the link is measured; whoever is named names us, too.
    patience_s : float
        How long a peer may take to begin.
    """
    peers, reach_s = sorted({*ids} - {transport.own}), max(REACH_S, _OF_PATIENCE * patience_s)
    meeting = _Meeting(transport, peers, reach_s)
    deadline = time.monotonic() + patience_s
    missing = meeting.reach(deadline)
    if not meeting.all_reach_all(deadline):
        return Met(missing=missing)
    links: dict[int, Link] = {}
    for peer in opponents(sorted(ids), transport.own):
        if peer in linked:
            try:
                links[peer] = meeting.measure(peer)
            except (PeerGoneError, OverdueError):
                continue
    meeting.part()
    return Met(links=links)


def opponents(ids: Sequence[int], own: int) -> Iterator[int]:
    """Give the other agents in the order of a round-robin tournament (the circle method).

    In each of its turns the pairs have no agent in common; where the number is odd, one agent rests.

    Examples
    --------
    >>> [list(opponents([0, 1, 2, 3], own)) for own in range(4)]
    [[3, 2, 1], [2, 3, 0], [1, 0, 3], [0, 1, 2]]
    """
    places: list[int | None] = [*ids, *([None] if len(ids) % 2 else [])]
    for _ in range(len(places) - 1):
        for one, other in zip(places, reversed(places), strict=True):
            if one == own and other is not None:
                yield other
        places = [places[0], places[-1], *places[1:-1]]


class _Meeting:
    def __init__(self, transport: Transport, peers: Sequence[int], reach_s: float) -> None:
        self._transport, self._peers, self._reach_s = transport, peers, reach_s
        self._heard_s: dict[int, float] = {}
        self._come: dict[tuple[int, str], Envelope] = {}
        self._missing: dict[int, str] = {}

    def reach(self, deadline: float) -> Mapping[int, str]:
        """Send everybody a greeting; return who has not taken it, and why."""
        self._transport.watch(self._peers)
        for peer in self._peers:
            self._send(peer, _Here())
        waiting = set(self._peers)
        while waiting:
            self._look(_LOOK_S)
            for peer in sorted(waiting):
                if self._has_taken(peer):
                    waiting.remove(peer)
                elif self._is_too_late(peer, deadline):
                    waiting.remove(peer)
                    self._missing[peer] = self._why(peer)
        return self._missing

    def all_reach_all(self, deadline: float) -> bool:
        """Tell the others whom we do not reach; tell whether nobody misses anybody."""
        for peer in self._peers:
            self._send(peer, _Told(missing=tuple(sorted(self._missing))))
        for peer in self._peers:
            self._wait(peer, _Told.kind, max(deadline, time.monotonic() + self._reach_s))
        told = [self._come.get((peer, _Told.kind)) for peer in self._peers]
        if not self._missing and all(envelope and not _Told.unpack(envelope).missing for envelope in told):
            return True
        with suppress(PeerGoneError, OverdueError):
            self._transport.flush(_FLUSH_S, [peer for peer in self._peers if peer not in self._missing])
        return False

    def measure(self, peer: int) -> Link:
        """Measure the link with a peer in both directions; the same at both ends."""
        give_up = time.monotonic() + PAIR_PATIENCE_S
        self._send(peer, _Free())
        self._need(peer, _Free.kind, give_up)
        if self._transport.own < peer:
            there = self._measure_and_tell(peer)
        back = _Found.unpack(self._need(peer, _Found.kind, give_up))
        if self._transport.own > peer:
            there = self._measure_and_tell(peer)
        return Link(
            bytes_per_s=min(there.bytes_per_s, back.bytes_per_s),
            latency_s=max(there.latency_s, back.latency_s),
        )

    def part(self) -> None:
        """Leave when all have measured, and have what was sent to them."""
        for peer in self._peers:
            self._send(peer, _Done())
        for peer in self._peers:
            self._wait(peer, _Done.kind, time.monotonic() + PAIR_PATIENCE_S)
        time.sleep(LINGER_S)

    def _measure_and_tell(self, peer: int) -> Link:
        link = measure_link(self._transport, peer)
        self._send(peer, _Found(bytes_per_s=link.bytes_per_s, latency_s=link.latency_s))
        return link

    def _need(self, peer: int, kind: str, give_up: float) -> Envelope:
        if not self._wait(peer, kind, give_up):
            raise OverdueError(f"agent {peer} did not say {kind!r} in time")
        return self._come[peer, kind]

    def _wait(self, peer: int, kind: str, give_up: float) -> bool:
        """Wait for an envelope of a peer; tell whether it came in time, before the peer went."""
        while (peer, kind) not in self._come:
            if time.monotonic() > give_up or self._is_lost(peer):
                return False
            self._look(_LOOK_S)
        return True

    def _is_lost(self, peer: int) -> bool:
        """Tell whether a peer that was reached has not been for a while."""
        since_s, _ = self._transport.troubles.get(peer, (inf, ""))
        return peer not in self._missing and time.monotonic() - since_s > self._reach_s

    def _look(self, timeout_s: float) -> None:
        """Take what has come, envelopes that only measure the way included."""
        while (envelope := self._transport.receive(timeout_s)) is not None:
            self._heard_s.setdefault(envelope.sender, time.monotonic())
            if envelope.kind != BITS:
                self._come[envelope.sender, envelope.kind] = envelope
            timeout_s = 0.0

    def _has_taken(self, peer: int) -> bool:
        try:
            self._transport.flush(0.0, [peer])
        except RunError:
            return False
        return True

    def _is_too_late(self, peer: int, deadline: float) -> bool:
        now = time.monotonic()
        has_had_its_time = now - self._heard_s.get(peer, now) > self._reach_s
        return has_had_its_time or now > deadline or peer in self._transport.gone

    def _why(self, peer: int) -> str:
        _, reason = self._transport.troubles.get(peer, (0.0, "no answer"))
        return (
            reason.rpartition(": ")[2] if "last error" in reason else reason
        )  # gRPC tells where it was, too

    def _send(self, peer: int, mail: Mail) -> None:
        about, _ = mail.pack()
        envelope = Envelope(sender=self._transport.own, receiver=peer, round=0, kind=mail.kind, about=about)
        with suppress(PeerGoneError):  # which shows when one waits for the peer
            self._transport.send(envelope)
