"""An agent's links: what it sends to its peers and what comes from them, apart by what it is for.

Mail of phases goes into the streams; what peers say about each other and about rounds is filed here, for
whoever runs the rounds to look at. A peer that cannot be reached, or says what makes no sense, is accused.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from comdml_flwr.carriers.direct.checks import Bounds
from comdml_flwr.carriers.direct.deadlines import Deadlines
from comdml_flwr.carriers.direct.decisions import Decisions
from comdml_flwr.carriers.direct.granted import Granted, granted
from comdml_flwr.carriers.direct.membership import Accusation, Membership
from comdml_flwr.carriers.direct.ports import REAL_CLOCK, PeerTransport, WallClock
from comdml_flwr.carriers.direct.protocol import (
    Admission,
    Commit,
    CommitRequest,
    CurrentModel,
    Gone,
    JoinRequest,
    Mark,
    ModelRequest,
    ShardDigests,
    Waiting,
    mark_of,
)
from comdml_flwr.carriers.direct.streams import Streams
from comdml_flwr.carriers.direct.waits import Waits
from comdml_flwr.core.errors import OverdueError, PeerFaultError, PeerGoneError
from comdml_flwr.core.mail import Mail, MailT
from comdml_flwr.core.messages import Array, Envelope

log = logging.getLogger(__name__)

LOOK_S = 0.5  # how often it is looked whether those who are waited for are still there


class PeerLinks:
    """What one agent sends to its peers, and what came from them.

    Parameters
    ----------
    own : int
        Its id.
    peers : Iterable[int]
        All others.
    transport : PeerTransport
        Started.
    membership : Membership
        Who is gone, as this agent knows it; accusations that come are merged into it.
    deadlines : Deadlines
        How long a peer may take nothing.
    clock : WallClock
        By which this agent waits.
    """

    def __init__(
        self,
        own: int,
        peers: Iterable[int],
        transport: PeerTransport,
        membership: Membership,
        deadlines: Deadlines,
        clock: WallClock = REAL_CLOCK,
    ) -> None:
        self.own, self.peers, self.clock = own, tuple(peers), clock
        self.bounds = Bounds(own=own, ids=frozenset({own, *self.peers}))
        self.distrusted: set[int] = set()  # who has said what cannot be, in the round that runs
        self.streams = Streams(self.peers)
        self.round = 0
        self.joining: dict[int, int] = {}  # peer -> number of its request to be let in
        self._granted: dict[int, Granted] = {}  # by peer: its last request that was granted
        self.admitted: tuple[int, str, Admission] | None = None  # by whom, and in which envelope it came
        self._wanting: dict[int, int] = {}  # peer -> the round whose model it asks for
        self._model: tuple[int, Mapping[str, Array]] | None = None  # of the last round that ended here
        self.models: dict[int, tuple[str, CurrentModel]] = {}  # by peer; in which envelope it came
        self.decisions = Decisions()
        self.drawn: Callable[[int], Collection[int]] = lambda round_: (own, *self.peers)
        self.shards: dict[int, tuple[int, ShardDigests]] = {}  # by peer, with the round: what it told last
        self.latest_commit: dict[int, int] = {}  # by peer
        self.accused_s: dict[int, float] = {}  # when this agent heard that somebody accuses a peer
        self.asked_s: dict[int, float] = {}  # when peers asked to be admitted, the last time
        self.takes_part = True  # in the round; else others say who is gone
        self.waits = Waits()
        self.ended_after: int | None = None  # the round with which the run has ended, as peers say
        self._committed: dict[int, Commit] = {}  # by round: what this agent tells of it
        self._want_commit: set[tuple[int, int]] = set()  # (round, peer) that asks as what it is committed
        self._attempts: dict[int, tuple[int, tuple[int, ...]]] = {}  # by peer: round and who is missing in it
        self._transport, self._membership, self._deadlines = transport, membership, deadlines
        self._watched: set[int] = set()

    def send(self, envelope: Envelope, *, is_needed: bool = True) -> None:
        """Send mail to a peer that is not gone; one that cannot get what is needed is accused."""
        peer = envelope.receiver
        if is_needed and peer in self._membership.gone:
            return
        try:
            self._transport.send(envelope, self._deadlines.seconds)
        except (PeerGoneError, OverdueError) as error:
            if is_needed and peer in self.drawn(self.round):
                self.accuse(peer, str(error))
            elif is_needed:  # for the next round: this one goes on without it
                self.charge(peer, str(error))

    def say(self, peer: int, mail: Mail, *, is_needed: bool = False) -> None:
        """Send something that no phase sends."""
        about, arrays = mail.pack()
        mark = about if isinstance(mail, Mark) else None
        envelope = Envelope(
            sender=self.own,
            receiver=peer,
            round=self.round,
            kind=mail.kind,
            about={} if mark else about,
            arrays=arrays,
            mark=mark,
        )
        self.send(envelope, is_needed=is_needed)

    @property
    def accusations(self) -> tuple[Accusation, ...]:
        """The accusations that this agent has made, as far as they count."""
        return tuple(one for one in self._membership.accusations if one[1] == self.own)

    def accuse(self, peer: int, reason: str) -> None:
        """Give a peer up without which this agent cannot go on, and tell all."""
        if peer in self._membership.gone:
            return
        log.warning("agent %d, round %d: gives up agent %d: %s", self.own, self.round, peer, reason)
        self._membership.insist((self.round, self.own, peer))
        self._tell_accusations(peer)

    def charge(self, peer: int, reason: str, round_: int | None = None) -> None:
        """Tell all that a peer should be given up, in the round that runs, if another one says so, too."""
        charge = self.round if round_ is None else round_, self.own, peer
        if peer in self._membership.gone or charge in self.accusations:
            return
        log.warning("agent %d, round %d: accuses agent %d: %s", self.own, self.round, peer, reason)
        self._membership.merge([charge])
        self._tell_accusations(peer)

    def _tell_accusations(self, accused: int) -> None:
        for other in self.peers:  # also the accused, who may be slow and not dead
            if other == accused or other not in self._membership.gone:
                self.say(other, Gone(accusations=self.accusations))

    def say_waiting(self, awaited: int, for_s: float) -> None:
        """Tell all that this agent waits for a peer, and how much longer before it gives up."""
        for peer in self.peers:
            if peer not in self._membership.gone:
                self.say(peer, Waiting(awaited=awaited, for_s=for_s))

    def note_admitted(self, requests: Mapping[int, int], holders: Sequence[int] = ()) -> None:
        """Note that these requests of peers to be let in are granted, by those of `holders` in turn."""
        self._granted |= granted(requests, holders)
        for peer in requests:
            self.joining.pop(peer, None)
            self.accused_s.pop(peer, None)

    def tell_committed(self, commit: Commit) -> None:
        """Note what a round was committed as; who is late with that round is told, and who has asked."""
        self._committed[commit.round] = commit
        for peer, (round_, _) in sorted(self._attempts.items()):
            if round_ == commit.round:
                self._answer_late(peer)
        for asked in sorted(self._want_commit):
            self._answer_commit_request(*asked)

    def say_committed(self, round_: int, peer: int) -> None:
        """Tell a peer that this agent has committed a round."""
        self.say(peer, self._committed[round_])

    def has_model(self, round_: int, shared: Mapping[str, Array]) -> None:
        """Note the current model, as `State.shared_arrays` gives it, and give it to those who have asked."""
        self._model = round_, shared
        for peer, wanted in sorted(self._wanting.items()):
            if wanted <= round_:
                del self._wanting[peer]
                self._give_model(peer)

    def say_admitted(self, peer: int, next_round: int) -> None:
        """Let a peer in from a round on: tell it who is gone, and give it the current model."""
        assert self._model is not None
        admission = Admission(
            next_round=next_round,
            gone=tuple(sorted(self._membership.gone)),
            admissions=self._membership.admissions,
            tensors=self._model[1],
            round_s=self._deadlines.round_s,
        )
        self.say(peer, admission)

    def could_tell(self, round_: int) -> list[int]:
        """Return who took part in a round, can be reached, and does not ask to be let in."""
        cannot = {self.own, *self.joining}
        return [peer for peer in self.drawn(round_) if peer not in cannot and self.why_gone(peer) is None]

    def decision(self, round_: int) -> tuple[int, Commit] | None:
        """Return as what a round is committed, and who said so; None as long as that is not believed."""
        if not self.decisions.tellers(round_):
            return None
        gone = self._membership.gone
        decided = self.decisions.of(round_, [peer for peer in self.could_tell(round_) if peer not in gone])
        if decided and decided[1].ends_run and self.decisions.may_end_early:
            self.ended_after = round_
        return decided

    def keep_to_deadlines(self) -> None:
        """Wait for a peer as long as the deadlines say once all have met, and let the transport do so."""
        self._deadlines.has_met_all()
        self._transport.set_patience(self._deadlines.patience_s)

    def watch(self, peers: Iterable[int], *, again: bool = False) -> None:
        """See to it that it is known within seconds if one of these peers goes."""
        fresh = {*peers} if again else {*peers} - self._watched
        self._watched |= fresh
        self._transport.watch(sorted(fresh))

    def why_gone(self, peer: int) -> str | None:
        """Return why a peer cannot be reached; None while it can."""
        return self._transport.gone.get(peer)

    def look(self, timeout_s: float = LOOK_S) -> bool:
        """Wait for the next envelope and file it; tell whether there was one."""
        envelope = self._transport.receive(timeout_s)
        if envelope is not None:
            try:
                self._file(envelope)
            except PeerFaultError as fault:  # of a round to come an absent agent accuses nobody
                is_in = self.takes_part and self.own in self.drawn(self.round)
                self.distrust(fault, None if is_in else min(self.round, envelope.round))
        for round_ in self.decisions.may_have_ended:
            self.decision(round_)
        return envelope is not None

    def distrust(self, fault: PeerFaultError, round_: int | None = None) -> None:
        """Accuse a peer of having said what cannot be, or what is not for it to say."""
        self.distrusted.add(fault.agent)
        self.charge(fault.agent, str(fault), round_)

    def _read(self, envelope: Envelope, kind: type[MailT]) -> MailT:
        """Return what an envelope of this kind holds. Raises PeerFaultError where that cannot be."""
        mail = kind.unpack(envelope)
        self._check(envelope, mail)
        return mail

    def _check(self, envelope: Envelope, mail: Mail) -> None:
        if wrong := self.bounds.wrong(envelope.sender, mail):
            raise PeerFaultError(envelope.sender, f"{envelope.where}: {wrong}")

    def _file(self, envelope: Envelope) -> None:
        gone, sender, mark = self._membership.gone, envelope.sender, mark_of(envelope)
        if mark is not None:
            self._check(envelope, mark)
        told = self._read(envelope, Gone) if envelope.kind == Gone.kind else mark
        if told is not None:
            self._membership.merge(told.accusations)
            for _, _, accused in told.accusations:
                self.accused_s.setdefault(accused, self.clock.now_s())
        for peer in sorted(self._membership.gone - gone - {self.own}):  # perhaps some have not heard of it
            since = max(round_ for round_, _, accused in self._membership.accusations if accused == peer)
            self._membership.insist((since, self.own, peer))
            self._tell_accusations(peer)
        if envelope.kind == Gone.kind:
            return
        if envelope.kind == JoinRequest.kind:
            self._admission_requested(sender, self._read(envelope, JoinRequest).request)
        elif envelope.kind == Waiting.kind:
            waiting = self._read(envelope, Waiting)
            for_s = min(waiting.for_s, self._deadlines.longest_s)
            until_s = self.clock.now_s() + for_s
            self.waits.tell(sender, awaited=waiting.awaited, until_s=until_s, round_=envelope.round)
        elif envelope.kind == Admission.kind:
            self.admitted = sender, envelope.where, self._read(envelope, Admission)
        elif envelope.kind == Commit.kind:
            commit = self._read(envelope, Commit)
            self.decisions.hear(sender, commit)
            self.latest_commit[sender] = max(commit.round, self.latest_commit.get(sender, 0))
        elif envelope.kind == CommitRequest.kind:
            self._answer_commit_request(self._read(envelope, CommitRequest).round, sender)
        elif envelope.kind == ModelRequest.kind:
            self._asked_for_model(sender, self._read(envelope, ModelRequest).round)
        elif envelope.kind == ShardDigests.kind:
            self.shards[sender] = envelope.round, self._read(envelope, ShardDigests)
            if envelope.round in self._committed:
                self.say_committed(envelope.round, sender)
        elif envelope.kind == CurrentModel.kind:
            self.models[sender] = envelope.where, self._read(envelope, CurrentModel)
        else:  # also of one that is gone: an agent that is absent may not know that it was let in again
            self.streams.put(envelope, mark)
            if mark is not None:
                self._attempts[sender] = envelope.round, mark.gone
                self._answer_late(sender)

    def _admission_requested(self, peer: int, request: int) -> None:
        """Note the request; a peer that nobody missed yet has lost what it had, so it is gone first."""
        self.asked_s[peer] = self.clock.now_s()
        if peer not in self._membership.gone and self.takes_part and self.own in self.drawn(self.round):
            if (last := self._granted.get(peer)) and last.request == request:
                if last.asked_again() == self.own and self._model is not None:
                    self.say_admitted(peer, self._model[0] + 1)
                return
            if self._has_just_come_in(peer):
                return  # nobody has handed it the model yet
            self.charge(peer, "it asks to be let in")
        self.watch([peer], again=True)
        if self.joining.get(peer) != request:
            self.streams.begins_again(peer)
        self.joining[peer] = request

    def _has_just_come_in(self, peer: int) -> bool:
        """Tell whether a peer is let in with the round that runs, and has done nothing in it."""
        since = self._membership.in_since(peer)
        return since == self.round and self._attempts.get(peer, (0, ()))[0] < self.round

    def _answer_commit_request(self, round_: int, peer: int) -> None:
        """Tell a peer as what a round is committed, as soon as it is."""
        if round_ in self._committed:
            self._want_commit.discard((round_, peer))
            self.say_committed(round_, peer)
        else:
            self._want_commit.add((round_, peer))

    def _asked_for_model(self, peer: int, wanted: int) -> None:
        if self._model is not None and wanted <= self._model[0]:
            self._give_model(peer)
        else:
            self._wanting[peer] = wanted

    def _give_model(self, peer: int) -> None:
        assert self._model is not None
        self.say(peer, CurrentModel(tensors=self._model[1]))

    def _answer_late(self, peer: int) -> None:
        """Tell one who begins a committed round's averaging again what it was committed as."""
        round_, missing = self._attempts[peer]
        if round_ in self._committed and missing != self._committed[round_].gone:
            self.say_committed(round_, peer)
