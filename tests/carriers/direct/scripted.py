"""One agent whose peers send what a script has: without a network, on a clock that moves as it waits."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from comdml_flwr.carriers.direct.collector import Collector
from comdml_flwr.carriers.direct.deadlines import Deadlines
from comdml_flwr.carriers.direct.membership import Membership
from comdml_flwr.carriers.direct.peers import PeerLinks
from comdml_flwr.carriers.direct.protocol import Mark
from comdml_flwr.core.mail import Mail
from comdml_flwr.core.messages import Envelope
from comdml_flwr.core.typed_json import Json

OWN, PEERS = 0, (1, 2, 3)
ROUND, LAST, RETURN_POINT = 5, 4, 2
START_S = 6.0  # patience: a third of it
LONGEST_S = 1000.0  # that any wait here may take


class HandClock:
    """Stands still but for what waits."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def now_s(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.time_s += seconds


@dataclass(frozen=True)
class At:
    """An envelope that comes at a time and not at once."""

    time_s: float
    envelope: Envelope


@dataclass(frozen=True)
class Gone:
    """A peer cannot be reached any more."""

    peer: int
    reason: str = "connection refused"


Event: TypeAlias = Envelope | At | Gone


@dataclass
class ScriptedTransport:
    """Gives what the script has next, and keeps what it is sent."""

    clock: HandClock
    script: list[Event]
    sent: list[Envelope] = field(default_factory=list)
    gone: dict[int, str] = field(default_factory=dict)
    watched: list[int] = field(default_factory=list)

    def send(self, envelope: Envelope, timeout_s: float) -> None:
        self.sent.append(envelope)

    def receive(self, timeout_s: float) -> Envelope | None:
        if not self.script:
            assert self.clock.now_s() < LONGEST_S, "waits for what never comes"
            self.clock.sleep(timeout_s)
            return None
        event = self.script[0]
        if isinstance(event, At) and event.time_s > self.clock.now_s():
            self.clock.sleep(timeout_s)
            return None
        self.script.pop(0)
        if isinstance(event, Gone):
            self.gone[event.peer] = event.reason
            return None
        return event.envelope if isinstance(event, At) else event

    def flush(self, timeout_s: float, peers: Iterable[int] | None = None) -> None:
        """All has arrived."""

    def watch(self, peers: Iterable[int]) -> None:
        self.watched += peers

    def set_patience(self, patience_s: float) -> None:
        """The script says when a peer is gone."""

    def set_rounds(self, first: int, last: int) -> None:
        """The script has envelopes of these rounds only."""


class Agent:
    """What the protocol knows of a run, at agent 0 in round 5."""

    def __init__(
        self,
        script: Iterable[Event],
        absent: Iterable[int] = (),
        *,
        return_point: int | None = RETURN_POINT,
        drawn: Callable[[int], tuple[int, ...]] | None = None,
    ) -> None:
        self.clock = HandClock()
        self.transport = ScriptedTransport(self.clock, list(script))
        self.membership, self.deadlines = Membership(absent, drawn), Deadlines(START_S, 0.0)
        self.links = PeerLinks(OWN, PEERS, self.transport, self.membership, self.deadlines, self.clock)
        self.links.round = ROUND
        self.collector = Collector(
            self.links, self.membership, self.deadlines, return_point=return_point, last=LAST
        )

    def sent(self, kind: str) -> list[tuple[int, dict[str, Json]]]:
        """Return what was sent of a kind: to whom, and what about."""
        return [(mail.receiver, dict(mail.about)) for mail in self.transport.sent if mail.kind == kind]


def mail(sender: int, kind: str, round_: int = ROUND, **about: Json) -> Envelope:
    """Return an envelope for agent 0."""
    return Envelope(sender=sender, receiver=OWN, round=round_, kind=kind, about=about)


def mark(
    sender: int,
    phase: int,
    round_: int = ROUND,
    *,
    kind: str = Mark.kind,
    gone: Sequence[int] = (),
    accusations: tuple[tuple[int, int, int], ...] = (),
    joining: tuple[tuple[int, int], ...] | None = None,
    admissions: tuple[tuple[int, int], ...] | None = None,
    digest: str | None = None,
) -> Envelope:
    """Return an envelope with a mark: a peer has done a phase."""
    said, _ = Mark(
        phase=phase,
        gone=tuple(gone),
        accusations=accusations,
        training_s=0.1,
        joining=joining,
        admissions=admissions,
        digest=digest,
    ).pack()
    return Envelope(sender=sender, receiver=OWN, round=round_, kind=kind, mark=said)


def told(sender: int, said: Mail, round_: int = ROUND) -> Envelope:
    """Return what a peer says that is no mail of a phase."""
    about, arrays = said.pack()
    return Envelope(sender=sender, receiver=OWN, round=round_, kind=said.kind, about=about, arrays=arrays)
