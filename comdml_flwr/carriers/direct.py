"""The direct carrier: one agent's end of rounds in which all mail goes from peer to peer.

Theory of operation ------------------- Every agent walks through the phases of its rounds for itself; nobody
tells it when the others are ready. After each phase it tells its peers so, behind the mail that it sent in
that phase. A peer's mail comes in the order in which it was sent, so whatever comes before the sign "phase p
of round r is done" is for phase p + 1 at the latest, and an inbox is complete when the signs of all senders
are there: the same inboxes, and so the same bits, as on every other carrier.

A phase that says from whom it expects mail (`messages.waits_for`) waits for nobody else. So a slow agent
trains batch after batch while its helper trains its own and, as they arrive, its partner's; what a sender has
ahead is bounded by the transport's queues.

An agent that takes part in a round after an absence has the current model from a peer's last phase of the
round before, and waits for its sign. If that was the last round of a message, the mail is left for the next
one.

A peer that is gone ends the rounds with an error that names it; faults are not mended here.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress

from comdml_flwr.agent import Agent, run_steps
from comdml_flwr.errors import OverdueError, PeerGoneError
from comdml_flwr.messages import Envelope, Inbox, Outbox, Phase, Program, Report, Step, expected_senders
from comdml_flwr.transport.transport import Transport

DONE = "phase done"
PATIENCE_S = 600.0  # for a peer that is alive; one that is gone is known within seconds
LINGER_S = 0.5  # at the end, so that peers hear that their last mail has come
_LOOK_S = 0.5  # how often it is looked whether those who are waited for are still there


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
    left_over : Inbox
        Mail of earlier rounds that waits for the agent's next phase.
    """

    def __init__(
        self, agent: Agent, program: Program[Agent], transport: Transport, left_over: Inbox = ()
    ) -> None:
        self._agent, self._program, self._transport = agent, program, transport
        self._peers = [peer for peer in agent.setup.ids if peer != agent.id]
        self._come: dict[int, deque[Envelope]] = {peer: deque() for peer in self._peers}
        self._kept: list[Envelope] = list(left_over)
        self._watched: set[int] = set()

    def run(self, first: int, last: int) -> Iterator[tuple[int, Report]]:
        """Run the rounds from `first` to `last`; give each that the agent took part in, with its report.

        Raises
        ------
        RunError
            A phase failed, or a peer is gone or does not answer; the line names who.
        """
        self._transport.set_rounds(first, last)
        latest = 0
        for round_ in range(first, last + 1):
            present = self._agent.setup.present(round_)
            if self._agent.id in present:
                if round_ > first:
                    self._wait_if_newcomer(round_ - 1)
                yield round_, self._round(round_, present)
                latest = round_
        if latest:
            self._part(latest)
        self._wait_if_newcomer(last)
        time.sleep(LINGER_S)

    def left_over(self) -> Inbox:
        """Return the mail that waits for the agent's next phase."""
        return tuple(self._kept)

    def _round(self, round_: int, present: tuple[int, ...]) -> Report:
        began = time.monotonic()
        report: Report = {}
        for number, phase in enumerate(self._program):
            inbox = self._inbox(Step(round_, number), phase, present)
            outbox, report = run_steps(self._agent, self._program, (Step(round_, number),), inbox)
            self._send(outbox)
            self._tell(Step(round_, number), present)
        return {**report, "elapsed_s": time.monotonic() - began}

    def _inbox(self, step: Step, phase: Phase[Agent], present: tuple[int, ...]) -> Inbox:
        if step.phase == 0:  # side by side with the last phase of the round before: its mail is for the next
            return ()
        expected = expected_senders(phase, self._agent)
        senders = present if expected is None else expected
        self._collect(senders, Step(step.round, step.phase - 1))
        inbox, self._kept = tuple(sorted(self._kept, key=lambda mail: mail.sender)), []
        return inbox

    def _wait_if_newcomer(self, round_: int) -> None:
        """Wait for the model of a round in which this agent was absent, if it takes part in the next."""
        setup = self._agent.setup
        if self._agent.id in setup.newcomers(round_):
            self._collect(setup.present(round_), Step(round_, len(self._program) - 1))

    def _part(self, latest: int) -> None:
        """Leave the latest round when all who took part have done it, and have what was sent to them.

        Who has done it and cannot be reached any more has left before us, with all that it waits for.
        """
        self._collect(self._agent.setup.present(latest), Step(latest, len(self._program) - 1))
        with suppress(PeerGoneError):
            self._transport.flush(PATIENCE_S)

    def _send(self, outbox: Outbox) -> None:
        for envelope in outbox:
            if envelope.receiver == self._agent.id:
                self._kept.append(envelope)
            else:
                self._transport.send(envelope, PATIENCE_S)

    def _tell(self, step: Step, present: tuple[int, ...]) -> None:
        """Tell the peers that a phase is done, behind its mail."""
        is_last = step.phase == len(self._program) - 1
        others = {*present, *(self._agent.setup.newcomers(step.round) if is_last else ())}
        for peer in sorted(others - {self._agent.id}):
            sign = Envelope(
                sender=self._agent.id,
                receiver=peer,
                round=step.round,
                kind=DONE,
                about={"phase": step.phase},
            )
            self._transport.send(sign, PATIENCE_S)

    def _collect(self, senders: Iterable[int], step: Step) -> None:
        """Wait until these peers have done a step, and keep what they sent up to then."""
        give_up = time.monotonic() + PATIENCE_S
        for sender in sorted({*senders} - {self._agent.id}):
            while not self._keep_up_to(sender, step):
                self._receive(sender, step, give_up)

    def _keep_up_to(self, sender: int, step: Step) -> bool:
        """Keep what a peer sent up to its sign that it did a step; tell whether the sign is there."""
        come = self._come[sender]
        while come:
            envelope = come.popleft()
            if envelope.kind != DONE:
                self._kept.append(envelope)
            elif Step(envelope.round, envelope.integer("phase")) >= step:
                return True
        return False

    def _receive(self, sender: int, step: Step, give_up: float) -> None:
        envelope = self._transport.receive(_LOOK_S)
        if envelope is not None:
            self._come[envelope.sender].append(envelope)
            return
        if sender not in self._watched:  # from now on it is known within seconds if it goes
            self._watched.add(sender)
            self._transport.watch([sender])
        if sender in self._transport.gone:
            raise PeerGoneError(sender, self._transport.gone[sender])
        if time.monotonic() > give_up:
            raise OverdueError(
                f"agent {sender} did not end phase {step.phase + 1} of round {step.round} in {PATIENCE_S:g} s"
            )
