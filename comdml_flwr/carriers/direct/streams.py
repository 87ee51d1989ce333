"""What came from each peer, in the order in which it was sent, cut where the peer ended a phase.

After each phase a peer sends a mark, behind the mail of that phase or on the last envelope of it. The mail up
to a mark is a segment.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from comdml_flwr.carriers.direct.membership import Accusation
from comdml_flwr.core.messages import Envelope, Inbox, Outbox
from comdml_flwr.core.program import Step
from comdml_flwr.core.typed_json import Json, read_ints, read_pairs, read_triples

DONE = "phase done"
"""The kind of an envelope that is but a mark, and under which name a mark says which phase."""


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
    mark : Envelope
        That the phase is done, and what the peer says with it.
    """

    step: Step
    gone: frozenset[int]
    mail: Inbox
    mark: Envelope


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

    def put(self, envelope: Envelope) -> None:
        """Add what came from a peer."""
        mail = self._open[envelope.sender]
        if envelope.kind != DONE:
            mail.append(envelope)
        if DONE not in envelope.about:
            return
        step = Step(envelope.round, envelope.integer(DONE))
        gone = frozenset(ids_in(envelope, "gone"))
        of_round = tuple(one for one in mail if one.round == envelope.round)  # not of a process that died
        self._segments[envelope.sender].append(Segment(step, gone, of_round, envelope))
        mail.clear()

    def first(self, peer: int) -> Segment | None:
        """Return a peer's first segment that has not been taken; None if none is complete."""
        return self._segments[peer][0] if self._segments[peer] else None

    def take(self, peer: int) -> Segment:
        """Take a peer's first segment."""
        return self._segments[peer].popleft()

    def drop(self, peer: int) -> None:
        """Drop all that came from a peer."""
        self._open[peer].clear()
        self._segments[peer].clear()


def with_mark(outbox: Outbox, mark: Mapping[str, Json]) -> Outbox:
    """Put a mark on the last envelope for each receiver: a message for each batch, not two."""
    last = {envelope.receiver: envelope for envelope in outbox}.values()
    return tuple(
        replace(envelope, about={**envelope.about, **mark})
        if any(envelope is one for one in last)
        else envelope
        for envelope in outbox
    )


def ids_in(envelope: Envelope, name: str) -> tuple[int, ...]:
    """Return a list of agent ids that an envelope holds; empty if it holds none of that name."""
    return envelope.read(name, read_ints) if name in envelope.about else ()


def accusations_in(envelope: Envelope) -> tuple[Accusation, ...]:
    """Return the accusations that an envelope holds."""
    return envelope.read("accusations", read_triples) if "accusations" in envelope.about else ()


def pairs_in(envelope: Envelope, name: str) -> tuple[tuple[int, int], ...]:
    """Return a list of pairs of whole numbers that an envelope holds."""
    return envelope.read(name, read_pairs) if name in envelope.about else ()
