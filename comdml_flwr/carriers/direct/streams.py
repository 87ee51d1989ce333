"""What came from each peer, in the order in which it was sent, cut where the peer ended a phase.

After each phase a peer sends a mark, behind the mail of that phase or on the last envelope of it. The mail up
to a mark is a segment.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from comdml_flwr.carriers.direct.protocol import Mark
from comdml_flwr.core.errors import PeerFaultError
from comdml_flwr.core.messages import Envelope, Inbox, Outbox
from comdml_flwr.core.program import Step


@dataclass(frozen=True, slots=True)
class Segment:
    """What a peer sent in one phase.

    Parameters
    ----------
    step : Step
        Round and phase.
    gone : frozenset[int]
        Without whom the peer ran that phase.
    mail : tuple[Envelope, ...]
        In the order in which it was sent.
    sender : int
        The peer.
    mark : Mark
        That the phase is done, and what the peer says with it.
    """

    step: Step
    gone: frozenset[int]
    mail: Inbox
    sender: int
    mark: Mark


class Streams:
    """Segments of all peers.

    Parameters
    ----------
    peers : Iterable[int]
        Agent ids.
    """

    def __init__(self, peers: Iterable[int]) -> None:
        self._open: dict[int, list[Envelope]] = {peer: [] for peer in peers}
        self._segments: dict[int, deque[Segment]] = {peer: deque() for peer in self._open}
        self._latest: dict[int, tuple[Step, frozenset[int]]] = {}  # by peer: its last mark, taken or not

    def put(self, envelope: Envelope, mark: Mark | None) -> None:
        """Add what came from a peer, and the mark that it carries (`mark_of`), if any.

        Raises
        ------
        PeerFaultError
            The peer says twice in one attempt that it has done a phase, or goes back in it.
        """
        sender, mail = envelope.sender, self._open[envelope.sender]
        if envelope.kind != Mark.kind:
            mail.append(envelope)
        if mark is None:
            return
        step, gone = Step(envelope.round, mark.phase), frozenset(mark.gone)
        before, without = self._latest.get(sender, (Step(0, 0), gone))
        if before.round == step.round and without == gone and before.phase >= step.phase:
            where = f"mark on {envelope.where}"
            raise PeerFaultError(
                sender, f"{where}: it has done phase {before.phase + 1}, not {step.phase + 1}"
            )
        self._latest[sender] = step, gone
        of_round = tuple(one for one in mail if one.round == envelope.round)  # not of a process that died
        self._segments[sender].append(Segment(step, gone, of_round, sender, mark))
        mail.clear()

    def first(self, peer: int) -> Segment | None:
        """Return a peer's first segment that has not been taken; None if none is complete."""
        return self._segments[peer][0] if self._segments[peer] else None

    def last(self, peer: int) -> Segment | None:
        """Return a peer's last segment that has not been taken; None if none is complete."""
        return self._segments[peer][-1] if self._segments[peer] else None

    def latest(self, peer: int) -> tuple[Step, frozenset[int]] | None:
        """Return what a peer said last that it has done, and without whom; None while it has said nothing."""
        return self._latest.get(peer)

    def begins_again(self, peer: int) -> None:
        """Expect a peer to do phases again: its process has lost what it had."""
        self._latest.pop(peer, None)

    def take(self, peer: int) -> Segment:
        """Take a peer's first segment."""
        return self._segments[peer].popleft()

    def drop(self, peer: int) -> None:
        """Drop all that came from a peer."""
        self._latest.pop(peer, None)
        self._open[peer].clear()
        self._segments[peer].clear()


def with_mark(outbox: Outbox, mark: Mark) -> Outbox:
    """Put a mark on the last envelope for each receiver: a message for each batch, not two."""
    last, (said, _) = {envelope.receiver: envelope for envelope in outbox}.values(), mark.pack()
    return tuple(
        replace(envelope, mark=said) if any(envelope is one for one in last) else envelope
        for envelope in outbox
    )
