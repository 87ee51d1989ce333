"""Rounds in lock step: all agents run a phase, then all run the next.

The last phase of a round sends no mail that the next round's first phase needs, so the two share an exchange:
a program of n phases costs n - 1 exchanges a round. Before a checkpoint it has one of its own, so that all
agents are between two rounds; that changes nothing else.

An agent that does not reply to an exchange is gone. The others are told with the next one, and if the round
has passed its return point, they go back there. One that is there again gets the model at the end of the
round that runs and takes part in the next.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from comdml_flwr.core.display import Display
from comdml_flwr.core.errors import RunError
from comdml_flwr.core.majority import majority
from comdml_flwr.core.messages import Report
from comdml_flwr.core.program import NOBODY, Absence, Carrier, Program, Step
from comdml_flwr.core.sharding import assign_round_robin
from comdml_flwr.planning.participation import check_left, newcomers_after
from comdml_flwr.planning.types import SERVER

if TYPE_CHECKING:  # it loads torch, which a dry run of a table of cuts has no use for
    from comdml_flwr.agents.agent import Agent


class LockStep:
    """Walks all agents of a run through its rounds.

    Parameters
    ----------
    carrier : Carrier
        Runs the phases and moves the mail.
    program : Program
        One round.
    agents : Sequence[int]
        All of the run.
    present : Callable[[int], tuple[int, ...]]
        Who is drawn for a round.
    num_rounds : int
        Of the run.
    display : Display
        Shows each exchange.
    """

    def __init__(
        self,
        carrier: Carrier,
        program: "Program[Agent]",
        agents: Sequence[int],
        present: Callable[[int], tuple[int, ...]],
        num_rounds: int,
        display: Display,
    ) -> None:
        self._carrier, self._program, self._agents = carrier, program, agents
        self._drawn = present
        self._num_rounds, self._display = num_rounds, display
        self._server = (SERVER,) if program.has_server else ()
        self._absence = self._told = NOBODY  # as it is, and as the agents know it
        self._gone_at_end: frozenset[int] = frozenset()
        self._num_reductions = 0  # before the round that runs

    @property
    def gone(self) -> frozenset[int]:
        """Who was missing in the round that ended last."""
        return self._gone_at_end

    @property
    def gone_next(self) -> frozenset[int]:
        """Who is missing after that round: those who do not have its model, having failed."""
        return self._absence.gone

    def run(
        self,
        first: int = 1,
        gone: Iterable[int] = (),
        ends_apart: Callable[[int], bool] = lambda round_: False,
        num_reductions: Callable[[], int] = lambda: 0,
    ) -> Iterator[tuple[int, Mapping[int, Report]]]:
        """Run the rounds from one on; give each with its reports when it has ended.

        Parameters
        ----------
        first : int
            The round to begin with.
        gone : Iterable[int]
            Who is missing from the beginning.
        ends_apart : Callable[[int], bool]
            Whether a round is to end before the next one begins.
        num_reductions : Callable[[], int]
            How often the learning rate was reduced, asked before each round.

        Raises
        ------
        RunError
            Nobody who takes part in a round is left, or at its beginning fewer than two agents of several.
        """
        riding: dict[int, tuple[Step, ...]] = {}
        self._absence = Absence(frozenset(gone))
        for round_ in range(first, self._num_rounds + 1):
            self._num_reductions = num_reductions()
            reports = self._exchange(self._step(round_, 0), riding)
            if riding:
                yield self._ended(round_ - 1, riding, reports)
            check_left(round_, self._agents, self._absence.in_round(round_), self._carrier.why_gone)
            self._to_last(round_)
            last = self._step(round_, self._program.last)
            riding = dict.fromkeys(self._members(round_), (last,))
            self._look_who_is_back(round_)
            if round_ == self._num_rounds or ends_apart(round_):
                reports = self._exchange(None, riding)
                yield self._ended(round_, riding, reports)
                riding = {}

    def _step(self, round_: int, phase: int, attempt: int = 0) -> Step:
        return Step(round_, phase, attempt, self._num_reductions)

    def _members(self, round_: int) -> tuple[int, ...]:
        members = self._absence.without(self._drawn(round_), round_)
        if not members:
            raise RunError(f"round {round_}: nobody who takes part is left")
        return (*self._server, *members)

    def _to_last(self, round_: int) -> None:
        """Run the phases between the first and the last; go back when somebody is gone."""
        phase, attempt, return_point = 1, 0, self._program.return_point
        while phase < self._program.last:
            missing = self._absence
            self._exchange(self._step(round_, phase, attempt))
            if self._absence != missing and return_point is not None and phase >= return_point:
                phase, attempt = return_point, attempt + 1
            else:
                phase += 1

    def _exchange(
        self, step: Step | None, riding: Mapping[int, tuple[Step, ...]] | None = None
    ) -> dict[int, Report]:
        """Let the members of a step's round run it, and the others what rides with it; note who is gone."""
        steps = dict(riding or {})
        if step is not None:
            for agent in self._members(step.round):
                steps[agent] = (*steps.get(agent, ()), step)
        first, *_ = next(iter(steps.values()))
        shown = step or first
        self._display.exchange_begins(shown.round, self._program.names[shown.phase], len(steps))
        told = self._told = self._absence
        reports = self._carrier.exchange({agent: steps[agent] for agent in sorted(steps)}, told)
        lost = steps.keys() - reports.keys()
        if lost:
            self._absence = replace(told, gone=told.gone | lost, returning=told.returning - lost)
        return reports

    def _look_who_is_back(self, round_: int) -> None:
        """Ask who is there again, before the last phase of a round: they get the model in it."""
        if self._absence.gone and round_ < self._num_rounds:
            returning = self._carrier.returned(self._absence.gone)
            self._absence = Absence(self._absence.gone, returning, back_in=round_ + 1)

    def _ended(
        self, round_: int, ran: Mapping[int, tuple[Step, ...]], reports: Mapping[int, Report]
    ) -> tuple[int, Mapping[int, Report]]:
        """Return a round with its reports; who should have got the model from one who is gone has none.

        So has one whose model is not that of more than half of the others: it is to take theirs.
        """
        ended = {agent: reports[agent] for agent in ran if agent in reports}
        odd = self._odd(ended)
        self._gone_at_end = self._absence.in_round(round_) | odd
        behind = self._left_behind(round_, [agent for agent in ran if agent not in reports])
        self._absence = Absence(self._absence.in_round(round_ + 1) | behind | odd)
        return round_, {agent: report for agent, report in ended.items() if agent not in odd}

    def _odd(self, reports: Mapping[int, Report]) -> frozenset[int]:
        """Return whose model differs from that of most; nobody where none is that of more than half."""
        told = {
            agent: str(report["weights_sha256"])
            for agent, report in reports.items()
            if "weights_sha256" in report
        }
        if not self._program.models_agree or self._server or not told:
            return frozenset()
        common, odd = majority(told)
        return frozenset() if common is None else odd

    def _left_behind(self, round_: int, lost: Sequence[int]) -> frozenset[int]:
        if not lost or self._server:
            return frozenset()
        told = self._told
        newcomers = newcomers_after(
            round_, self._num_rounds, lambda number: told.without(self._drawn(number), number)
        )
        dealt = assign_round_robin(told.without(self._drawn(round_), round_), newcomers)
        return frozenset(agent for holder in lost for agent in dealt[holder])
