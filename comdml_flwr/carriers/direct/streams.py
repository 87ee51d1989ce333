"""What came from each peer, in the order in which it was sent, cut where the peer ended a phase.

After each phase a peer sends a mark, behind the mail of that phase or on the last envelope of it. The mail up
to a mark is a segment.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from comdml_flwr.carriers.direct.membership import Accusation
from comdml_flwr.core.errors import RunError
from comdml_flwr.core.messages import Envelope, Inbox, Json, Outbox
from comdml_flwr.core.program import Step

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
    return tuple(_whole(envelope, name, value) for value in _list(envelope, name))


def accusations_in(envelope: Envelope) -> tuple[Accusation, ...]:
    """Return the accusations that an envelope holds."""
    found = []
    for row in _list(envelope, "accusations"):
        if not isinstance(row, list | tuple) or len(row) != 3:
            raise RunError(f"{envelope.kind} from agent {envelope.sender}: {row!r} is no accusation")
        round_, accuser, accused = (_whole(envelope, "accusations", value) for value in row)
        found.append((round_, accuser, accused))
    return tuple(found)


def pairs_in(envelope: Envelope, name: str) -> tuple[tuple[int, int], ...]:
    """Return a list of pairs of whole numbers that an envelope holds."""
    found = []
    for row in _list(envelope, name):
        if not isinstance(row, list | tuple) or len(row) != 2:
            raise RunError(f"{envelope.kind} from agent {envelope.sender}: {row!r} is no pair")
        one, other = (_whole(envelope, name, value) for value in row)
        found.append((one, other))
    return tuple(found)


def _list(envelope: Envelope, name: str) -> tuple[Json, ...]:
    values = envelope.about.get(name, ())
    if not isinstance(values, list | tuple):
        raise RunError(f"{envelope.kind} from agent {envelope.sender}: {name} is no list")
    return tuple(values)


def _whole(envelope: Envelope, name: str, value: Json) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise RunError(
            f"{envelope.kind} from agent {envelope.sender}: {name} holds {value!r}, no whole number"
        )
    return value
