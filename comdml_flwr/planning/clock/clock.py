"""The virtual clock: when an agent would be where in its round, by the cost model.

Theory of operation
-------------------
Every agent keeps a clock of its own, and every envelope carries the time at which it arrives, so no one needs
to see the whole fleet (a Lamport clock with durations). The arithmetic is max-plus:

* work:      now      = now + batches * share / batches_per_s
* sending:   leaves   = max(now, uplink is free);  uplink is free = leaves + bytes / bandwidth
             arrives  = uplink is free + latency
* receiving: now      = max(now, arrives)          "the later of I am free and my mail is here"

For a pair with constant batches this gives the three-stage flow shop of `costs.py` ("pipeline"): batch n
leaves the slow agent at n s, is over the link at s + c + (n - 1) max(s, c), and the helper, which does its
own batches first (any order that never idles ends at the same time), is done with the last one at max(T_j +
N f, s + c + N f, s + c + (N - 1) max(s, c) + f).

A server's links carry mail side by side, each like an uplink of its own; so its clock has a lane for each
agent.

A round starts at 0 for all who take part. Not modelled: the receiver's downlink when several send to it
at once, envelope headers, averaging arithmetic, evaluation, and the planner's own time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from comdml_flwr.core.typed_json import Json, read_float, read_int, read_list, read_row, read_text
from comdml_flwr.planning.types import SERVER, Link, Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What an agent did for a while.

    Parameters
    ----------
    what : str
        "compute", "send" (which keeps the uplink busy, not the processor) or "wait".
    start_s, end_s : float
        Virtual seconds since the round began.
    peer : int or None
        Whom it sent to, or whose layers it trained; of a server also: for whom it waited.
    """

    what: str
    start_s: float
    end_s: float
    peer: int | None = None


@dataclass(slots=True, kw_only=True)
class Clock:
    """Virtual time of one agent in one round.

    Parameters
    ----------
    agent : int
        Its id; mail to itself takes no time.
    batches_per_s : float
        Training speed on the whole model.
    links : Mapping[int, Link]
        Direct links by the other's id; absent or 0 bytes/s: mail goes through the relay.
    relay : Link
        What stands in where there is no direct link.
    now_s, uplink_free_s : float
        Virtual seconds since the round began.
    spans : list[Span] or None
        What it did so far, by the order in which it began; None: nobody keeps it.
    """

    agent: int
    batches_per_s: float
    links: Mapping[int, Link]
    relay: Link
    now_s: float = 0.0
    uplink_free_s: float = 0.0
    spans: list[Span] | None = None

    def work(self, num_batches: float, peer: int | None = None) -> None:
        """Advance by the time of `num_batches` batches of the whole model; a share of a batch is a fraction.

        `peer` is the agent whose layers are trained, if they are another agent's.
        """
        start_s, self.now_s = self.now_s, self.now_s + num_batches / self.batches_per_s
        self._note("compute", start_s, self.now_s, peer)

    def wait(self, arrives_s: float) -> None:
        """Do nothing before this mail is here."""
        start_s, self.now_s = self.now_s, max(self.now_s, arrives_s)
        self._note("wait", start_s, self.now_s)

    def send(self, receiver: int, num_bytes: float) -> float:
        """Put mail on the uplink, behind what is on it already, and return when it arrives."""
        if receiver == self.agent:
            return self.now_s
        link = link_or_relay(self.links, receiver, self.relay)
        start_s = max(self.now_s, self.uplink_free_s)
        self.uplink_free_s = start_s + num_bytes / link.bytes_per_s
        self._note("send", start_s, self.uplink_free_s, receiver)
        return self.uplink_free_s + link.latency_s

    def timeline(self) -> tuple[Span, ...]:
        """Return what it did, in order; empty if nobody keeps it."""
        return in_order(self.spans or ())

    def _note(self, what: str, start_s: float, end_s: float, peer: int | None = None) -> None:
        if self.spans is None or start_s == end_s:
            return
        kind = what, peer
        last = next((n for n in range(len(self.spans) - 1, -1, -1) if self._kind(n) == kind), None)
        if last is not None and self.spans[last].end_s == start_s:
            self.spans[last] = replace(self.spans[last], end_s=end_s)
        else:
            self.spans.append(Span(what=what, start_s=start_s, end_s=end_s, peer=peer))

    def _kind(self, place: int) -> tuple[str, int | None]:
        assert self.spans is not None
        return self.spans[place].what, self.spans[place].peer


@dataclass(slots=True, kw_only=True)
class ServerClock(Clock):
    """Virtual time of a server: one clock for what it does for all, and a lane for each agent.

    Parameters
    ----------
    lanes : dict[int, Clock]
        By agent: what the server does for this agent alone, side by side with the others, and its uplink.
    """

    lanes: dict[int, Clock] = field(default_factory=dict)

    def lane(self, agent: int) -> Clock:
        """Return the lane of an agent."""
        if agent not in self.lanes:
            self.lanes[agent] = Clock(
                agent=self.agent,
                batches_per_s=self.batches_per_s,
                links=self.links,
                relay=self.relay,
                spans=None if self.spans is None else [],
            )
        return self.lanes[agent]

    def send(self, receiver: int, num_bytes: float) -> float:
        """Put mail on the agent's own link: other agents' mail is not in its way."""
        if receiver == self.agent:
            return self.now_s
        lane = self.lane(receiver)
        lane.now_s = max(lane.now_s, self.now_s)
        return lane.send(receiver, num_bytes)

    def timeline(self) -> tuple[Span, ...]:
        """Return what it did in all lanes, in order."""
        in_lanes = [
            replace(span, peer=agent) for agent, lane in self.lanes.items() for span in lane.spans or ()
        ]
        return in_order([*(self.spans or ()), *in_lanes])


def in_order(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Sort spans by start; at one start by what it is and by the receiver."""
    return tuple(sorted(spans, key=lambda span: (span.start_s, span.what, span.peer or 0)))


def read_spans(rows: Json) -> list[Span]:
    """Return spans from JSON: lists of what, start, end and peer. Raises TypeError where it is no such."""
    spans = []
    for row in read_list(rows):
        what, start_s, end_s, peer = read_row(row, 4)
        spans.append(
            Span(
                what=read_text(what),
                start_s=read_float(start_s),
                end_s=read_float(end_s),
                peer=None if peer is None else read_int(peer),
            )
        )
    return spans


def new_clock(profile: Profile, relay: Link, *, keeps_spans: bool = False) -> Clock:
    """Return the clock of an agent, or of the server, at 0."""
    kind = ServerClock if profile.agent == SERVER else Clock
    return kind(
        agent=profile.agent,
        batches_per_s=profile.batches_per_s,
        links=profile.links,
        relay=relay,
        spans=[] if keeps_spans else None,
    )


def link_or_relay(links: Mapping[int, Link], receiver: int, relay: Link) -> Link:
    """Return the direct link to an agent; where there is none, or one of 0 bytes/s, the relay."""
    link = links.get(receiver, relay)
    return link if link.bytes_per_s else relay
