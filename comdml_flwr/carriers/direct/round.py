"""One round of an agent, its mail going from peer to peer: from the first phase until it is committed.

The round is a state machine. It goes forward phase by phase; it goes back to the program's return point when
another agent is found to be gone after it, which begins another attempt; and it ends when the last marks of
all members of one attempt are there, or when a peer says that the round was decided. driver.py has the theory
of operation.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from torch import Tensor

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.reading import distrusted_by, lacking
from comdml_flwr.carriers.direct.collector import BeginAgainError, Collector, DecidedError, LeftBehindError
from comdml_flwr.carriers.direct.counts import false_sums, metric_of
from comdml_flwr.carriers.direct.deadlines import Deadlines
from comdml_flwr.carriers.direct.membership import Membership
from comdml_flwr.carriers.direct.peers import PeerLinks
from comdml_flwr.carriers.direct.protocol import Mark
from comdml_flwr.carriers.direct.quorum import NoQuorumError, has_quorum
from comdml_flwr.carriers.direct.run_end import reaches_target
from comdml_flwr.carriers.direct.same_model import SameModel
from comdml_flwr.carriers.direct.streams import with_mark
from comdml_flwr.core.errors import PeerFaultError
from comdml_flwr.core.messages import Inbox, Outbox, Report
from comdml_flwr.core.program import Absence, Phase, Program, Step
from comdml_flwr.core.typed_json import Json
from comdml_flwr.learning.metrics import read_sums

log = logging.getLogger(__name__)

RunSteps: TypeAlias = Callable[
    [Agent, Program[Agent], tuple[Step, ...], Inbox, Absence], tuple[Outbox, Report]
]
Result: TypeAlias = tuple[dict[str, Tensor], Report]
"""The tensors and the report of an attempt that was walked to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundEnd:
    """What an agent knows when a round is committed.

    Parameters
    ----------
    report : Report
        This agent's report.
    score : float, optional
        The task's primary metric, where all members have reported it and their models are equal.
    ends_run : bool
        Whether the round has reached the run's target.
    missing : frozenset[int]
        Who was gone in the attempt that was committed.
    joining : Mapping[int, int]
        Those of the missing who ask to be admitted, as all members know it, with their requests' numbers.
    """

    report: Report
    score: float | None
    ends_run: bool
    missing: frozenset[int]
    joining: Mapping[int, int]


@dataclass(slots=True, kw_only=True)
class RoundRunner:
    """Runs one agent's rounds, one at a time.

    Parameters
    ----------
    agent, program : Agent, Program
        Whose rounds; the program as this carrier cuts it.
    run_steps : Callable
        How a step is run.
    links, membership, collector, deadlines
        The agent's end of the peers' protocol.
    seconds_per_batch : float
        How long this agent trains a batch, which it tells its peers.
    num_reductions : int
        How often the learning rate was reduced before these rounds.
    """

    agent: Agent
    program: Program[Agent]
    run_steps: RunSteps
    links: PeerLinks
    membership: Membership
    collector: Collector
    deadlines: Deadlines
    seconds_per_batch: float
    num_reductions: int = 0
    _results: dict[frozenset[int], tuple[dict[str, Tensor], Report]] = field(
        init=False, default_factory=dict
    )  # by attempt
    _told_joining: dict[int, int] = field(
        init=False, default_factory=dict
    )  # with the last mark: all know them
    _ends_run: bool = field(init=False, default=False)
    _all_here_s: float = field(init=False, default=0.0)

    def run(self, round_: int) -> RoundEnd:
        """Run a round until it is committed.

        Raises
        ------
        LeftBehindError
            The others go on without this agent.
        NoQuorumError
            Too few are there for the round to count.
        """
        began_s, gone = self.links.clock.now_s(), self.membership.gone
        self._all_here_s = began_s
        self.collector.begin_round()
        self._results, self.links.decisions.results = {}, {}
        same_model = SameModel(
            agent=self.agent,
            links=self.links,
            membership=self.membership,
            collector=self.collector,
            deadlines=self.deadlines,
        )
        phase = attempt = 0
        is_one = True
        while True:
            try:
                report = self._walk(round_, phase, attempt)
                is_one = self.collector.attempt is None or same_model.settle(round_)
                break
            except BeginAgainError:
                assert self.program.return_point is not None
                phase, attempt = self.program.return_point, attempt + 1
                self.collector.begin_again()
            except DecidedError:
                report, is_one = self._take_decided(round_, same_model)
                self._ends_run = self.links.ended_after == round_
                break
        score = self._score(report)
        if not is_one:
            score = None
            log.warning("round %d: the agents' models differ after averaging; it is not committed", round_)
            self.agent.tensors.roll_back()
            report = {**report, "not_committed": [self.agent.id]}
        if not is_one or same_model.has_taken:
            report = {**report, "weights_sha256": self.agent.weights_sha256()}
        ended_s = self.links.clock.now_s()
        if attempt == 0 and self.membership.gone == gone:
            self.deadlines.round_took(ended_s - self._all_here_s)
        self.agent.tensors.commit()
        missing = self.collector.missing
        said = [pair for mark in self.collector.marks.values() for pair in mark.joining or ()]
        distrusted, self.links.distrusted = {*distrusted_by(self.agent), *self.links.distrusted}, set()
        if distrusted:
            report = {**report, "distrusted": sorted(distrusted)}
        return RoundEnd(
            report={**report, "elapsed_s": ended_s - began_s, "gone": sorted(missing)},
            score=score,
            ends_run=self._ends_run,
            missing=missing,
            joining={p: n for p, n in sorted([*said, *self._told_joining.items()]) if p in missing},
        )

    def _walk(self, round_: int, first_phase: int, attempt: int) -> Report:
        """Run the phases from one on, and wait for the last marks of all; return the report."""
        report: Report = {}
        for phase in range(first_phase, self.program.last + 1):
            step = Step(round_, phase, attempt, self.num_reductions)
            inbox = self._inbox(step, self.program.phases[phase])
            if phase == self.program.return_point:
                self.collector.begin_attempt()
                self._check_quorum(round_)
            missing = self.collector.missing
            outbox, report = self.run_steps(self.agent, self.program, (step,), inbox, Absence(missing))
            self._accuse_owners(round_)
            if phase == self.program.last:  # who asks to be let in is named in the last mark
                self.collector.look_at_all()
            mark = self._mark(step, missing)
            if self._is_only_for_receivers(step):
                self._send(with_mark(outbox, mark))
            else:
                self._send(outbox)
                self._tell(step, mark)
        if self.collector.attempt is not None:
            self._results[self.collector.attempt] = self.agent.tensors.snapshot(), report
            self.links.decisions.results[round_, self.collector.attempt] = self._digest()
        self._collect_of_all(Step(round_, self.program.last))
        self.collector.look_at_all()
        told = self._told_sums(report)
        self._ends_run = reaches_target(self.agent.setup, told)
        setup = self.agent.setup
        for peer, wrong in false_sums(told, setup.task.metrics, setup.known_tests).items():
            log.warning("round %d: the sums of agent %d are left out: %s", round_, peer, wrong)
            self.links.distrusted.add(peer)
        return report

    def _told_sums(self, report: Report) -> dict[int, Mapping[str, Json]]:
        """Return the sums of the members' evaluations, as far as their last marks are there."""
        marks = self.collector.marks.items()
        told = {peer: mark.sums or {} for peer, mark in marks if peer not in self.collector.missing}
        return {self.agent.id: report, **told}

    def _check_quorum(self, round_: int) -> None:
        """See whether those who begin an attempt are enough for the round to count."""
        setup = self.agent.setup
        count = {*setup.present(round_)} - self.membership.absent
        there = count - self.collector.missing
        if there != count and not has_quorum(there, count, len(setup.ids), setup.config.min_agents):
            few = f"only agents {sorted(there)} of {sorted(count)} are there"
            raise NoQuorumError(f"{few}, too few for a round to count (min-agents)")

    def _accuse_owners(self, round_: int) -> None:
        """Accuse those whose averages have not come; if others do, too, the averaging begins again."""
        owners = lacking(self.agent)
        for owner in owners:
            self.links.distrust(PeerFaultError(owner, f"round {round_}: no average has come that can be one"))
        if owners:
            self.collector.check()

    def _inbox(self, step: Step, phase: Phase[Agent]) -> Inbox:
        if step.phase == 0 or (step.attempt and step.phase == self.program.return_point):
            return ()
        done = Step(step.round, step.phase - 1)
        if phase.expects is None:  # they may wait for a partner themselves
            self._collect_of_all(done)
        else:
            self.collector.collect(phase.expects(self.agent), done, self.deadlines.seconds)
        if step.phase == 1:
            if not self.deadlines.has_begun:  # the first wait was for processes to start
                self._all_here_s = self.links.clock.now_s()
            self.links.keep_to_deadlines()
        return self.collector.take()

    def _others(self) -> tuple[int, ...]:
        """Return the other members of the round."""
        apart = {*self.membership.gone, self.agent.id}
        return tuple(agent for agent in self.agent.setup.present(self.links.round) if agent not in apart)

    def _collect_of_all(self, step: Step) -> None:
        """Wait until all the others have done a step."""
        self.collector.collect(self._others(), step, self.deadlines.for_all_s)
        if step.phase > 0:  # whoever is beyond the introduction has met all
            self.deadlines.have_all_met()

    def _send(self, outbox: Outbox) -> None:
        for envelope in outbox:
            if envelope.receiver == self.agent.id:
                self.collector.kept.append(envelope)
            else:
                self.links.send(envelope)

    def _is_only_for_receivers(self, step: Step) -> bool:
        """Tell whether nobody but the receivers of its mail must hear that a phase is done."""
        return step.phase < self.program.last and self.program.phases[step.phase + 1].expects is not None

    def _mark(self, step: Step, missing: frozenset[int]) -> Mark:
        """Return what is said when a phase is done."""
        mark = Mark(phase=step.phase, gone=tuple(sorted(missing)), accusations=self.links.accusations)
        if step.phase == 0:
            training_s = len(self.agent.batches()) * self.seconds_per_batch
            self.deadlines.hear(self.agent.id, training_s)
            mark = replace(mark, training_s=training_s)
        if step.phase == self.program.last:
            self._told_joining = dict(self.links.joining)
            mark = replace(
                mark,
                sums=read_sums(self.agent.report, self.agent.setup.task.metrics),
                joining=tuple(sorted(self._told_joining.items())),
                admissions=self.membership.admissions,
                digest=self._digest(),
                round_s=self._round_s(),
            )
        return mark

    def _round_s(self) -> float | None:
        """Return how long rounds without a fault take: the last ones, or else this one so far."""
        if self.deadlines.round_s is None and self.membership.gone == self.membership.absent:
            return self.links.clock.now_s() - self._all_here_s
        return self.deadlines.round_s

    def _tell(self, step: Step, mark: Mark) -> None:
        """Say to all members that a phase is done, behind its mail, and then to who takes part next.

        (Who was absent takes a last mark for the end of the round, so all members are to get it, too.)
        """
        others = self._others()
        newcomers = self.agent.newcomers if step.phase == self.program.last else ()
        for peer in (*others, *(peer for peer in newcomers if peer not in others)):
            self.links.say(peer, mark, is_needed=True)

    def _score(self, report: Report) -> float | None:
        """Return the round's metric, where the last marks of all others are there."""
        if not self.collector.marks.keys() >= {*self._others()}:
            return None
        setup = self.agent.setup
        return metric_of(self._told_sums(report), setup.task.metrics, setup.known_tests)

    def _digest(self) -> str | None:
        """Return the digest of what agents share, where their models agree."""
        return None if self.program.return_point is None else self.agent.shared_sha256()

    def _take_decided(self, round_: int, same_model: SameModel) -> tuple[Report, bool]:
        """Take the result that a peer ended the round with, if this agent had it as well.

        Returns
        -------
        tuple[Report, bool]
            The report, and whether the round counts: otherwise the previous weights stay.
        """
        decided_by = self.links.decision(round_)
        assert decided_by is not None
        sender, commit = decided_by
        decided = frozenset(commit.gone)
        last = Mark(
            phase=self.program.last,
            gone=commit.gone,
            accusations=(),
            joining=commit.joining,
            digest=commit.digest,
        )
        self.collector.attempt, self.collector.marks = decided, {sender: last}
        self._told_joining = {}  # the notice names all
        if decided not in self._results:
            raise LeftBehindError
        snapshot, report = self._results[decided]
        self.agent.tensors.restore(snapshot)
        self.agent.end_round()
        if commit.digest == self._digest():
            return report, True
        self.agent.tensors.roll_back()
        if commit.digest == self._digest():
            return report, False
        same_model.take(round_, commit.digest, sorted(self.links.decisions.tellers(round_)))
        return report, True
