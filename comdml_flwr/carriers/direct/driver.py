"""The direct carrier: one agent's end of rounds in which all mail goes from peer to peer.

Theory of operation
-------------------
Every agent walks through the phases of its rounds for itself; nobody tells it when the others are ready.
After a phase it says so to those who may wait for it, behind the mail of that phase. A peer's mail comes in
the order in which it was sent, so whatever comes before the mark "phase p of round r is done" is for phase
p + 1 at the latest, and an inbox is complete when the marks of all senders are there: the same inboxes, and
so the same bits, as on every other carrier.

A phase that says from whom it expects mail (`Phase.expects`) waits for nobody else. So a slow agent
trains batch after batch while its helper trains its own and, as they arrive, its partner's; what a sender has
ahead is bounded by the transport's queues. Who sends nothing in a phase before such a one gives no mark then:
its next mark says that it has done that phase, too.

**Faults.** Agents crash and stay silent. Whoever finds that a peer cannot be reached, or waits for its mark
beyond the deadline (carriers/direct/deadlines.py), accuses it and tells all (carriers/direct/membership.py).
Before the return point of the program (the scatter) the others go on without it. After it they go back there,
without those who are gone: an *attempt* is known by who is missing, and what was sent in another attempt is
dropped. The mark of the last phase carries the digest of the agent's model. A round is **committed** when the
last marks of all members of one attempt are there and their digests agree; if they do not, the previous
weights stay.

Whoever has committed tells so to a peer that begins another attempt; that peer takes the result if it had it,
and is left behind otherwise. Who is left behind, or given up, or comes late, asks to be let in; with the end
of the round the members hand it the model and who is gone, and it takes part in the next.

With `target-metric` the message ends after the first round that reaches it (carriers/direct/run_end.py).

**Messages.** Who failed in one message is waited for in the next as everybody is who is invited, and begins
by asking one of the others for the model. So it takes part again however short the rounds are. An agent that
all others have left waits for one that asks to be let in, as long as for a start, and then gives up the run.

An agent that takes part in a round after an absence has the current model from a peer's last phase of the
round before, and waits for its marks; it asks for the model if the peer that had to send it is gone. Where
one is lost before its last mark came, it asks the others as what they commit the round. If that was the last
round of a message, the mail is left for the next one.

Fault model: crash-stop, any number over a run, at most one new fault while a round is being committed. Where
a network falls into parts, at most one of them ends rounds (carriers/direct/quorum.py); the others ask to be
let in until it heals.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.steps import run_steps
from comdml_flwr.carriers.direct.agreed_model import AgreedModel
from comdml_flwr.carriers.direct.collector import Collector, LeftBehindError
from comdml_flwr.carriers.direct.deadlines import Deadlines
from comdml_flwr.carriers.direct.leaving import leave, stay
from comdml_flwr.carriers.direct.membership import Membership
from comdml_flwr.carriers.direct.newcomers import last_segments, take_over_from
from comdml_flwr.carriers.direct.peers import PeerLinks
from comdml_flwr.carriers.direct.ports import REAL_CLOCK, PeerTransport, WallClock
from comdml_flwr.carriers.direct.protocol import Commit
from comdml_flwr.carriers.direct.quorum import NoQuorumError
from comdml_flwr.carriers.direct.rejoining import request_admission, wait_if_alone
from comdml_flwr.carriers.direct.round import RoundEnd, RoundRunner, RunSteps
from comdml_flwr.carriers.direct.run_end import RunEndedError, reaches_target
from comdml_flwr.core.errors import OverdueError, PeerGoneError
from comdml_flwr.core.messages import Inbox, Report
from comdml_flwr.core.program import Program, Step
from comdml_flwr.core.sharding import assign_round_robin

log = logging.getLogger(__name__)

LINGER_S = 0.5  # at the end, so that peers hear that their last mail has come


class DirectRounds:
    """Runs an agent's rounds, its mail going directly to its peers.

    Parameters
    ----------
    agent : Agent
        Whose rounds.
    program : Program
        One round.
    transport : PeerTransport
        Started; its members are all agents of the run.
    deadlines : Deadlines
        How long to wait for a peer.
    seconds_per_batch : float
        How long this agent trains a batch, by its own stopwatch.
    left_over : Inbox
        Mail of earlier rounds that waits for the agent's next phase.
    absent : Iterable[int]
        Agents that are gone; if this agent is one of them, it asks to be let in.
    lacking : Iterable[int]
        Agents that take part, but do not have the current model: they ask for it before the first round.
    num_reductions : int
        How often the learning rate was reduced before, as the metric did not get better.
    clock : WallClock
        By which it waits.
    run_steps : Callable
        How its steps are run; a simulation lets time pass with them.
    """

    def __init__(
        self,
        agent: Agent,
        program: Program[Agent],
        transport: PeerTransport,
        deadlines: Deadlines,
        *,
        seconds_per_batch: float,
        left_over: Inbox = (),
        absent: Iterable[int] = (),
        lacking: Iterable[int] = (),
        num_reductions: int = 0,
        clock: WallClock = REAL_CLOCK,
        run_steps: RunSteps = run_steps,
    ) -> None:
        self._lacking = frozenset(lacking)
        self._agent, self._transport = agent, transport
        program = program.cut_into(agent.setup.most_batches)
        self._clock, self._deadlines, self._seconds_per_batch = clock, deadlines, seconds_per_batch
        self._membership = Membership(absent, agent.setup.present)
        peers = [peer for peer in agent.setup.ids if peer != agent.id]
        self._links = PeerLinks(agent.id, peers, transport, self._membership, deadlines, clock)
        self._links.bounds.last_phase = program.last
        self._links.decisions.may_end_early = agent.setup.config.target_metric > 0
        self._links.drawn = agent.setup.present
        self._return_point, self._last = program.return_point, program.last
        self._collector = Collector(
            self._links,
            self._membership,
            deadlines,
            return_point=self._return_point,
            last=self._last,
            left_over=left_over,
        )
        self._runner = RoundRunner(
            agent=agent,
            program=program,
            run_steps=run_steps,
            links=self._links,
            membership=self._membership,
            collector=self._collector,
            deadlines=deadlines,
            seconds_per_batch=seconds_per_batch,
            num_reductions=num_reductions,
        )
        self._agreed = AgreedModel(
            agent=agent, links=self._links, deadlines=deadlines, models_agree=program.return_point is not None
        )
        self._model_of = 0  # the last round whose model this agent has
        self.score: float | None = None  # of the round that ended last; None: not known, or not committed
        self._ends_run = False  # the round that ended last has reached the run's target
        self._end = 0  # the last round of the message

    @property
    def gone(self) -> tuple[int, ...]:
        """Who is gone, as this agent knows it, ascending."""
        return tuple(sorted(self._membership.gone))

    def run(self, first: int, last: int) -> Iterator[tuple[int, Report]]:
        """Run the rounds from `first` to `last`; give each that ended here, with this agent's report.

        Raises
        ------
        RunError
            A phase failed here; this agent was left behind and nobody is there to let it in; or all others
            are gone.
        """
        self._transport.set_rounds(first, last)
        self._end = self._links.bounds.last_round = last
        self._links.round = round_ = first
        if self._agent.id not in self._lacking:
            self._offer_model(first - 1)
            self._tell_digest(first - 1)
        latest = 0
        if self._agent.id in self._membership.gone:
            round_ = self._join()
        while round_ <= last and not self._ends_run:
            self._links.round = round_
            try:
                self._catch_up(first)
                if self._agent.setup.config.min_agents != 1:
                    wait_if_alone(self._links, self._membership, self._deadlines, self._agent.setup.ids)
                if self._agent.id in self._present(round_):
                    self._wait_if_newcomer(round_ - 1, first)
                    if self._ends_run:
                        break  # with the round before, which this agent took no part in
                    self._collector.check()  # it may have been given up meanwhile
                    yield round_, self._round(round_)
                    latest = round_
                round_ += 1
            except LeftBehindError:
                log.warning("agent %d is left behind in round %d", self._agent.id, round_)
                round_ = self._join()
            except NoQuorumError as few:
                log.warning("agent %d, round %d: %s; it waits to be let in", self._agent.id, round_, few)
                round_ = self._join(self._deadlines.start_s, f"round {round_}: {few}")
            except RunEndedError:
                break
        if latest == round_ - 1:
            others = {*self._agent.setup.present(latest)} - {self._agent.id}
            next_round = self._round_after(latest)
            leave(self._links, self._membership, self._deadlines, latest, others, next_round)
        elif latest and self._agent.id not in self._agent.setup.newcomers(last):
            drawn = self._agent.setup.present
            own_last = max(n for n in range(first, last + 1) if self._agent.id in drawn(n))
            later = sorted({peer for n in range(own_last + 1, last + 1) for peer in drawn(n)})
            stay(self._links, later, last, self._longest_s(last - own_last))
        self._flush()
        if not self._ends_run:
            with suppress(LeftBehindError, RunEndedError):
                self._wait_if_newcomer(last, first)
        self._clock.sleep(LINGER_S)

    def left_over(self) -> Inbox:
        """Return the mail that waits for the agent's next phase."""
        return tuple(self._collector.kept)

    def _present(self, round_: int) -> tuple[int, ...]:
        gone = self._membership.gone
        return tuple(agent for agent in self._agent.setup.present(round_) if agent not in gone)

    def _catch_up(self, first: int) -> None:
        """Get the model of the round before the first one, if this agent is to take part and lacks it."""
        if self._agent.id not in self._lacking:
            return
        setup, self._lacking = self._agent.setup, self._lacking - {self._agent.id}
        without = self._lacking | self._membership.gone | {self._agent.id}
        holders = [agent for agent in setup.present(first - 1) if agent not in without] if first > 1 else []
        if holders and self._agent.id in setup.present(first):
            turn = self._agent.id % len(holders)  # not all ask the same one
            ask = [*holders[turn:], *holders[:turn]]
            self._agreed.take(first - 1, self._agreed.digest_of(first - 1), holders=ask)
            self._has_model(first - 1)

    def _has_model(self, round_: int) -> None:
        self._agent.model_of = round_
        self._offer_model(round_)

    def _offer_model(self, round_: int) -> None:
        """Give the model of a round to those who ask; it may still wait for this agent's next phase."""
        self._model_of = round_
        self._links.has_model(round_, self._agent.tensors.shared_arrays())

    def _tell_digest(self, round_: int) -> None:
        """Tell the digest of a round of the message before to those who ask, if this agent has ended it."""
        took_part = round_ > 0 and self._agent.id in self._agent.setup.present(round_)
        if took_part and self._agent.model_of == round_ and self._return_point is not None:
            digest = self._agent.shared_sha256()
            self._links.tell_committed(Commit(round=round_, gone=(), joining=(), digest=digest))

    def _round(self, round_: int) -> Report:
        """Run a round until it is committed; return this agent's report."""
        ended = self._runner.run(round_)
        self.score, self._ends_run = ended.score, ended.ends_run
        self._commit(round_, ended)
        return ended.report

    def _commit(self, round_: int, ended: RoundEnd) -> None:
        """Let those in who asked for it, and remember what to tell those who are late."""
        missing, joining = ended.missing, ended.joining
        self._has_model(round_)
        commit = Commit(
            round=round_,
            gone=tuple(sorted(missing)),
            joining=tuple(sorted(joining.items())),
            digest=None if self._return_point is None else self._agent.shared_sha256(),
            ends_run=self._ends_run or None,
        )
        self._links.tell_committed(commit)
        self._deadlines.round_ended(missing)
        holders = [agent for agent in self._agent.setup.present(round_) if agent not in missing]
        self._links.note_admitted(joining, holders)
        self._collector.attempt = None
        self._membership.settle(missing)
        self._membership.admit(joining, since=round_ + 1)
        for peer in assign_round_robin(holders, sorted(joining))[self._agent.id]:
            self._links.say_admitted(peer, self._round_after(round_))

    def _longest_s(self, num_rounds: int) -> float:
        """Return how long rounds can take at most that this agent is absent in, in seconds."""
        own_s = self._agent.setup.most_batches * self._seconds_per_batch
        return self._deadlines.for_rounds_s(num_rounds, own_s)

    def _round_after(self, round_: int) -> int:
        """Return the round with which one that is let in at the end of a round goes on."""
        return (self._end if self._ends_run else round_) + 1

    def _join(self, patience_s: float = 0.0, why: str = "") -> int:
        """Ask for admission until a peer grants it; return the round to go on with."""
        self._collector.begin_again()
        self._agent.tensors.roll_back()  # the round that it was left behind in has no result here
        by, where, admission = request_admission(
            self._links, self._membership, patience_s, why, longest_s=self._longest_s(2)
        )
        self._deadlines.hear_of_rounds([admission.round_s])
        round_ = admission.next_round - 1
        may_end = round_ == self._end and self._links.decisions.may_end_early  # with an earlier round's model
        digest = None if may_end else self._agreed.digest_of(round_)
        self._agreed.take(round_, digest, [(by, where, admission.tensors)])
        self._has_model(round_)
        return admission.next_round

    def _wait_if_newcomer(self, round_: int, first: int) -> None:
        """Wait for the model of a round in which this agent was absent, if it takes part in the next."""
        setup = self._agent.setup
        if round_ < first or self._model_of >= round_ or self._agent.id not in setup.newcomers(round_):
            return
        step, drawn = Step(round_, self._last), setup.present(round_)
        self._links.takes_part = False
        try:
            last, commit = last_segments(
                self._links,
                self._collector,
                self._membership,
                step,
                drawn,
                self._deadlines,
                self._longest_s(round_ + 1 - self._model_of),
            )
        finally:
            self._links.takes_part = True
        self._deadlines.hear_of_rounds(segment.mark.round_s for segment in last)
        digest = take_over_from(last, commit, self._links, self._membership, round_ + 1)
        told = {segment.sender: segment.mark.sums or {} for segment in last}
        if commit:  # else all who ended it have told their sums
            self._ends_run = self._links.ended_after == round_
        else:
            self._ends_run = reaches_target(self._agent.setup, told)
        kept = tuple(mail for segment in last for mail in segment.mail if mail.kind == "model")
        self._collector.kept = [*(self._agreed.true_ones(kept, digest) if digest else kept)]
        if not self._collector.kept and self._return_point is not None:  # else no model is the same for all
            holders = [segment.sender for segment in last]
            self._agreed.take(round_, digest, holders=holders)
            self._has_model(round_)

    def _flush(self) -> None:
        """Have what was sent; who cannot be reached any more has left before, with all that it waits for."""
        try:
            self._transport.flush(self._deadlines.seconds)
        except (PeerGoneError, OverdueError) as error:
            log.info("%s", error)
