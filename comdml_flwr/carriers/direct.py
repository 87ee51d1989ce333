"""The direct carrier: one agent's end of rounds in which all mail goes from peer to peer.

Theory of operation
-------------------
Every agent walks through the phases of its rounds for itself; nobody tells it when the others are ready.
After a phase it says so to those who may wait for it, behind the mail of that phase. A peer's mail comes in
the order in which it was sent, so whatever comes before the sign "phase p of round r is done" is for phase
p + 1 at the latest, and an inbox is complete when the signs of all senders are there: the same inboxes, and
so the same bits, as on every other carrier.

A phase that says from whom it expects mail (`messages.waits_for`) waits for nobody else. So a slow agent
trains batch after batch while its helper trains its own and, as they arrive, its partner's; what a sender has
ahead is bounded by the transport's queues. Who sends nothing in a phase before such a one gives no sign then:
its next sign says that it has done that phase, too.

**Faults.** Agents crash and stay silent. Whoever finds that a peer cannot be reached, or waits for its sign
beyond the deadline (peers/deadlines.py), accuses it and tells all (peers/membership.py). Before the return
point of the program (the scatter) the others go on without it. After it they go back there, without those
who are gone: an *attempt* is known by who is missing, and what was sent in another attempt is dropped. The
sign of the last phase carries the digest of the agent's model. A round is **committed** when the last signs
of all members of one attempt are there and their digests agree; if they do not, the previous weights stay.

Whoever has committed tells so to a peer that begins another attempt; that peer takes the result if it had it,
and is left behind otherwise. Who is left behind, or given up, or comes late, asks to be let in; with the end
of the round the members hand it the model and who is gone, and it takes part in the next.

An agent that takes part in a round after an absence has the current model from a peer's last phase of the
round before, and waits for its signs; it asks for the model if the peer that had to send it is gone. If that
was the last round of a message, the mail is left for the next one.

Fault model: crash-stop, any number over a run, at most one new fault while a round is being committed. A
network that falls into two halves is beyond it: each half goes on by itself.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from torch import Tensor

from comdml_flwr.agent import Agent, run_steps
from comdml_flwr.errors import OverdueError, PeerGoneError, RunError
from comdml_flwr.messages import (
    Absence,
    Envelope,
    Inbox,
    Json,
    Outbox,
    Phase,
    Program,
    Report,
    Step,
    expected_senders,
    return_point,
)
from comdml_flwr.peers.deadlines import Deadlines
from comdml_flwr.peers.membership import Membership
from comdml_flwr.peers.post import CURRENT_MODEL, JOIN, WANT_MODEL, WELCOME, Post
from comdml_flwr.peers.streams import DONE, Segment, ids_in, pairs_in
from comdml_flwr.planning.clock import deal_out
from comdml_flwr.transport.transport import Transport

log = logging.getLogger(__name__)

LINGER_S = 0.5  # at the end, so that peers hear that their last mail has come
_ASK_AGAIN_S = 5.0  # to be let in


class _BeginAgainError(Exception):
    """Somebody else is gone: the averaging begins again."""


class _DecidedError(Exception):
    """A peer has committed the round."""


class _LeftBehindError(Exception):
    """The others go on without this agent."""


class DirectRounds:
    """Runs an agent's rounds, its mail going directly to its peers.

    Parameters
    ----------
    agent : Agent
        Whose rounds.
    program : Program
        One round.
    transport : Transport
        Started; its members are all agents of the run.
    deadlines : Deadlines
        How long to wait for a peer.
    seconds_per_batch : float
        How long this agent trains a batch, by its own stopwatch.
    left_over : Inbox
        Mail of earlier rounds that waits for the agent's next phase.
    absent : Iterable[int]
        Agents that do not have the current model; if this agent is one of them, it asks to be let in.
    """

    def __init__(
        self,
        agent: Agent,
        program: Program[Agent],
        transport: Transport,
        deadlines: Deadlines,
        *,
        seconds_per_batch: float,
        left_over: Inbox = (),
        absent: Iterable[int] = (),
    ) -> None:
        self._agent, self._program, self._transport = agent, program, transport
        self._deadlines, self._seconds_per_batch = deadlines, seconds_per_batch
        self._membership = Membership(absent)
        peers = [peer for peer in agent.setup.ids if peer != agent.id]
        self._post = Post(agent.id, peers, transport, self._membership, deadlines)
        self._return_point, self._last = return_point(program), len(program) - 1
        self._kept: list[Envelope] = list(left_over)
        self._signs: dict[int, Envelope] = {}  # of the last phase, of this attempt
        self._attempt: frozenset[int] | None = None  # who is missing in it; None before the return point
        self._results: dict[frozenset[int], tuple[dict[str, Tensor], Report]] = {}  # by attempt
        self._model = 0, agent.weights_P  # the last round that was committed here, and its model

    @property
    def gone(self) -> tuple[int, ...]:
        """Who is gone, as this agent knows it, ascending."""
        return tuple(sorted(self._membership.gone))

    def run(self, first: int, last: int) -> Iterator[tuple[int, Report]]:
        """Run the rounds from `first` to `last`; give each that ended here, with this agent's report.

        Raises
        ------
        RunError
            A phase failed here, or this agent was left behind and nobody is there to let it in.
        """
        self._transport.set_rounds(first, last)
        self._post.round = round_ = first
        self._model = first - 1, self._agent.weights_P
        latest = 0
        if self._agent.id in self._membership.gone:
            round_ = self._join()
        while round_ <= last:
            self._post.round = round_
            try:
                if self._agent.id in self._present(round_):
                    self._wait_if_newcomer(round_ - 1, first)
                    yield round_, self._round(round_)
                    latest = round_
                round_ += 1
            except _LeftBehindError:
                log.warning("agent %d is left behind in round %d", self._agent.id, round_)
                round_ = self._join()
        if latest == last:
            self._part(last)
        self._flush()
        with suppress(_LeftBehindError):
            self._wait_if_newcomer(last, first)
        time.sleep(LINGER_S)

    def left_over(self) -> Inbox:
        """Return the mail that waits for the agent's next phase."""
        return tuple(self._kept)

    def _present(self, round_: int) -> tuple[int, ...]:
        gone = self._membership.gone
        return tuple(agent for agent in self._agent.setup.present(round_) if agent not in gone)

    def _others(self) -> tuple[int, ...]:
        """Return the other members of the round that runs."""
        return tuple(agent for agent in self._present(self._post.round) if agent != self._agent.id)

    @property
    def _missing(self) -> frozenset[int]:
        return self._membership.gone if self._attempt is None else self._attempt

    def _round(self, round_: int) -> Report:
        """Run a round until it is committed; return this agent's report."""
        began, before = time.monotonic(), _models_of(self._agent)
        self._signs, self._attempt, self._results = {}, None, {}
        phase = attempt = 0
        while True:
            try:
                report = self._walk(round_, phase, attempt)
                break
            except _BeginAgainError:
                assert self._return_point is not None
                phase, attempt = self._return_point, attempt + 1
                self._kept, self._signs, self._attempt = [], {}, None
                _set_models(self._agent, before)
            except _DecidedError:
                report = self._take_decided(round_)
                break
        if not self._digests_agree():
            log.warning("round %d: the agents' models differ after averaging; it is not committed", round_)
            _set_models(self._agent, before)
            report = {**report, "not_committed": [self._agent.id]}
            report["weights_sha256"] = self._agent.weights_sha256()
        elapsed_s = time.monotonic() - began
        if attempt == 0:
            self._deadlines.round_took(elapsed_s)
        report = {**report, "elapsed_s": elapsed_s, "gone": sorted(self._missing)}
        self._commit(round_)
        return report

    def _walk(self, round_: int, first_phase: int, attempt: int) -> Report:
        """Run the phases from one on, and wait for the last signs of all; return the report."""
        report: Report = {}
        for phase in range(first_phase, self._last + 1):
            step = Step(round_, phase, attempt)
            inbox = self._inbox(step, self._program[phase])
            if phase == self._return_point:
                self._attempt = self._membership.gone
            missing = self._missing
            outbox, report = run_steps(self._agent, self._program, (step,), inbox, Absence(missing))
            self._tell(step, self._send(outbox), missing)
        if self._attempt is not None:
            self._results[self._attempt] = _models_of(self._agent), report
        self._collect(self._others(), Step(round_, self._last), self._deadlines.for_all_s)
        return report

    def _inbox(self, step: Step, phase: Phase[Agent]) -> Inbox:
        if step.phase == 0 or (step.attempt and step.phase == self._return_point):
            return ()
        expected, done = expected_senders(phase, self._agent), Step(step.round, step.phase - 1)
        if expected is None:  # they may wait for a partner themselves
            self._collect(self._others(), done, self._deadlines.for_all_s)
        else:
            self._collect(expected, done, self._deadlines.seconds)
        if step.phase == 1:
            self._deadlines.all_are_there()
            self._transport.set_patience(self._deadlines.patience_s)
        inbox, self._kept = tuple(sorted(self._kept, key=lambda mail: mail.sender)), []
        return inbox

    def _send(self, outbox: Outbox) -> set[int]:
        """Send mail; return to whom."""
        for envelope in outbox:
            if envelope.receiver == self._agent.id:
                self._kept.append(envelope)
            else:
                self._post.send(envelope)
        return {envelope.receiver for envelope in outbox}

    def _tell(self, step: Step, receivers: set[int], missing: frozenset[int]) -> None:
        """Say that a phase is done, behind its mail."""
        is_last = step.phase == self._last
        about: dict[str, Json] = {
            "phase": step.phase,
            "gone": sorted(missing),
            "accusations": self._membership.accusations,
        }
        if step.phase == 0:
            training_s = len(self._agent.batches()) * self._seconds_per_batch
            self._deadlines.hear(self._agent.id, training_s)
            about["training_s"] = training_s
        if is_last:
            about["joining"] = sorted(self._post.joining.items())
            receivers = {*self._others(), *self._agent.newcomers}
            if self._return_point is not None:
                about["digest"] = self._agent.weights_sha256()
        elif expected_senders(self._program[step.phase + 1], self._agent) is None:
            receivers = {*self._others()}
        for peer in sorted(receivers - {self._agent.id}):
            self._post.say(DONE, peer, about, is_needed=True)

    def _collect(self, senders: Iterable[int], step: Step, patience_s: float) -> None:
        """Wait until these peers have done a step or are gone, and keep what they sent up to then."""
        give_up, gone = time.monotonic() + patience_s, self._membership.gone
        self._check()
        for sender in sorted({*senders} - {self._agent.id}):
            while sender not in self._membership.gone and not self._keep_up_to(sender, step):
                if gone != self._membership.gone:  # for whom the sender may have waited, too
                    gone = self._membership.gone
                    give_up = max(give_up, time.monotonic() + self._deadlines.patience_s)
                if self._look():
                    continue
                self._post.watch([sender])
                reason = self._post.why_gone(sender)
                if reason is None and time.monotonic() > give_up:
                    reason = f"not done with phase {step.phase + 1} in {patience_s:.1f} s"
                if reason is not None:
                    self._post.accuse(sender, reason)
                    self._check()

    def _keep_up_to(self, sender: int, step: Step) -> bool:
        """Keep what a peer sent up to its sign that it did a step; tell whether it has done it."""
        streams = self._post.streams
        while segment := streams.first(sender):
            if segment.step.round < step.round or self._is_of_other_attempt(segment):
                streams.take(sender)
                continue
            if segment.step > step:  # of a later round: it has committed this one, and will say so
                return segment.step.round == step.round
            self._kept += streams.take(sender).mail
            if segment.step.phase == 0:
                self._deadlines.hear(sender, segment.sign.number("training_s"))
            if segment.step.phase == self._last:
                self._signs[sender] = segment.sign
            if segment.step == step:
                return True
        return False

    def _is_of_other_attempt(self, segment: Segment) -> bool:
        if self._attempt is None or self._return_point is None:
            return False
        is_averaging = segment.step.phase >= self._return_point and segment.step.round == self._post.round
        return is_averaging and segment.gone != self._attempt

    def _look(self) -> bool:
        """Take what comes next; tell whether something came."""
        came = self._post.look()
        self._give_models()
        self._check()
        return came

    def _check(self) -> None:
        """See whether the round goes on as it began."""
        if self._agent.id in self._membership.gone:
            raise _LeftBehindError
        if self._attempt is not None:
            if self._post.round in self._post.decided:
                raise _DecidedError
            if self._membership.gone != self._attempt:
                raise _BeginAgainError

    def _give_models(self) -> None:
        """Give the current model to those who ask for it, as soon as it is there."""
        round_, weights_P = self._model
        for peer, wanted in sorted(self._post.wanting.items()):
            if wanted <= round_:
                del self._post.wanting[peer]
                self._post.say(CURRENT_MODEL, peer, {}, {"weights": weights_P.numpy()})

    def _digests_agree(self) -> bool:
        told = {sign.about.get("digest") for sign in self._signs.values()}
        return self._attempt is None or told <= {self._agent.weights_sha256()}

    def _take_decided(self, round_: int) -> Report:
        """Take the result that a peer ended the round with, if this agent had it as well."""
        notice = self._post.decided[round_]
        self._attempt, self._signs = frozenset(ids_in(notice, "gone")), {notice.sender: notice}
        if self._attempt not in self._results:
            raise _LeftBehindError
        models, report = self._results[self._attempt]
        _set_models(self._agent, models)
        return report

    def _commit(self, round_: int) -> None:
        """Let those in who asked for it, and remember what to tell those who are late."""
        missing = self._missing
        said = [pair for sign in self._signs.values() for pair in pairs_in(sign, "joining")]
        joining = {p: n for p, n in sorted([*said, *self._post.joining.items()]) if p in missing}
        self._model = round_, self._agent.weights_P
        about: dict[str, Json] = {"gone": sorted(missing), "joining": sorted(joining.items())}
        if self._return_point is not None:
            about["digest"] = self._agent.weights_sha256()  # of the previous weights if they stayed
        self._post.tell_committed(round_, about)
        self._deadlines.forget(missing)
        self._post.let_in(joining)
        self._attempt = None
        self._membership.admit(joining, since=round_ + 1)
        holders = [agent for agent in self._agent.setup.present(round_) if agent not in missing]
        for peer in deal_out(holders, sorted(joining))[self._agent.id]:
            self._say_welcome(peer, round_ + 1)

    def _say_welcome(self, peer: int, next_round: int) -> None:
        about: dict[str, Json] = {
            "next": next_round,
            "gone": self.gone,
            "admissions": self._membership.admissions,
        }
        self._post.say(WELCOME, peer, about, {"weights": self._model[1].numpy()})

    def _join(self) -> int:
        """Ask to be let in until somebody says welcome; return the round to go on with."""
        self._post.welcome, self._kept, self._attempt = None, [], None
        for peer in self._post.peers:
            self._post.streams.drop(peer)
        self._post.watch(self._post.peers, anew=True)
        ask_again, request = time.monotonic(), time.monotonic_ns()
        while self._post.welcome is None:
            if time.monotonic() >= ask_again:
                ask_again += _ASK_AGAIN_S
                for peer in self._post.peers:
                    self._post.say(JOIN, peer, {"request": request})
            self._post.look()
            if all(self._post.why_gone(peer) for peer in self._post.peers):
                raise RunError(f"agent {self._agent.id} was left behind, and nobody is there to let it in")
        welcome, self._post.welcome = self._post.welcome, None
        self._agent.keep("weights", welcome.floats("weights"))
        self._membership.take_over(ids_in(welcome, "gone"), pairs_in(welcome, "admissions"))
        next_round = welcome.integer("next")
        self._model = next_round - 1, self._agent.weights_P
        return next_round

    def _wait_if_newcomer(self, round_: int, first: int) -> None:
        """Wait for the model of a round in which this agent was absent, if it takes part in the next."""
        is_newcomer = self._agent.id in self._agent.setup.newcomers(round_) if round_ >= first else False
        if not is_newcomer or self._model[0] >= round_:
            return
        final = self._final_segments(Step(round_, self._last))
        self._kept = [mail for segment in final for mail in segment.mail if mail.kind == "model"]
        if not self._kept and self._return_point is not None:  # else there is no model that all share
            weights = self._asked_for(round_, [segment.sign.sender for segment in final])
            self._agent.keep("weights", weights.floats("weights"))

    def _final_segments(self, step: Step) -> list[Segment]:
        """Return the last segments of those who ended a round together."""
        found: dict[int, Segment] = {}
        streams = self._post.streams
        while True:
            for peer in self._post.peers:
                while (segment := streams.first(peer)) and segment.step <= step:
                    streams.take(peer)
                    if segment.step == step:
                        found[peer] = segment
            gone = max((segment.gone for segment in found.values()), key=len, default=frozenset())
            together = [s for _, s in sorted(found.items()) if s.gone == gone]
            there = {segment.sign.sender for segment in together}
            late = [p for p in self._agent.setup.present(step.round) if p not in gone and p not in there]
            self._post.watch(late)
            if all(self._post.why_gone(peer) for peer in late):
                return together
            self._look()

    def _asked_for(self, round_: int, holders: Iterable[int]) -> Envelope:
        """Return the model of a round from one of those who have it."""
        for holder in holders:
            self._post.say(WANT_MODEL, holder, {"wanted": round_})
            give_up = time.monotonic() + self._deadlines.seconds
            while holder not in self._post.models and time.monotonic() < give_up:
                if not self._look() and self._post.why_gone(holder):
                    break
            if holder in self._post.models:
                return self._post.models.pop(holder)
        raise RunError(f"agent {self._agent.id}: nobody is left who has the model of round {round_}")

    def _part(self, round_: int) -> None:
        """Leave when all who took part have committed the last round too, and those who asked are let in."""
        others = self._others()
        for peer in others:
            self._post.say_committed(round_, peer)
        self._post.watch(others)
        give_up = time.monotonic() + self._deadlines.seconds
        while time.monotonic() < give_up:
            for peer, request in sorted(self._post.joining.items()):
                self._post.let_in({peer: request})
                self._say_welcome(peer, round_ + 1)
            late = [peer for peer in others if self._post.latest_commit.get(peer, 0) < round_]
            if all(self._post.why_gone(peer) for peer in late):
                return
            self._post.look()
            self._give_models()

    def _flush(self) -> None:
        """Have what was sent; who cannot be reached any more has left before, with all that it waits for."""
        try:
            self._transport.flush(self._deadlines.seconds)
        except (PeerGoneError, OverdueError) as error:
            log.info("%s", error)


def _models_of(agent: Agent) -> dict[str, Tensor]:
    """Return what a round changes when it ends: the model and the auxiliary heads."""
    return {
        name: tensor
        for name, tensor in agent.tensors.items()
        if name == "weights" or name.startswith("aux-head/")
    }


def _set_models(agent: Agent, models: Mapping[str, Tensor]) -> None:
    for name in _models_of(agent):
        del agent.tensors[name]
    agent.tensors |= models
