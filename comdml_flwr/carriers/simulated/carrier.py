"""A run of the direct carrier in virtual time: the same protocol, and one agent at a time."""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TypeAlias

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.steps import run_steps
from comdml_flwr.carriers.direct.deadlines import Deadlines
from comdml_flwr.carriers.direct.driver import DirectRounds
from comdml_flwr.carriers.direct.round import RunSteps
from comdml_flwr.carriers.simulated.history import History
from comdml_flwr.carriers.simulated.network import Network
from comdml_flwr.carriers.simulated.ports import SimulatedClock, SimulatedTransport
from comdml_flwr.carriers.simulated.turns import CrashError, Turns
from comdml_flwr.core.messages import Envelope, Inbox, Outbox, Report
from comdml_flwr.core.program import Absence, Program, Step

START_S = 20.0  # how long agents may take to start
TRANSFER_S = 0.1  # what they forecast for the mail of a round
LIMIT_S = 20_000.0  # a run that is not over by then will never be

Lie: TypeAlias = Callable[[Envelope], Iterable[Envelope]]
"""What an agent sends in place of an envelope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """How an agent's rounds went.

    Parameters
    ----------
    reports : Mapping[int, Report]
        By round, of those that ended here.
    gone : tuple[int, ...]
        Who was gone at the end, as this agent knew it.
    left_over : Inbox
        Mail for its next round.
    has_crashed : bool
        Whether its process died and did not come back.
    error : Exception, optional
        What ended its rounds early.
    """

    reports: Mapping[int, Report]
    gone: tuple[int, ...] = ()
    left_over: Inbox = ()
    has_crashed: bool = False
    error: Exception | None = None


class SimulatedCarrier:
    """Runs all agents of a run peer to peer over a simulated network.

    Parameters
    ----------
    agents : Iterable[Agent]
        All agents of the run.
    program : Program
        One round.
    run_steps : Callable
        How an agent's steps are run. Raising CrashError there, an agent dies.
    lies : Mapping[int, Callable]
        By agent, what it sends in place of each envelope to a peer, those of the protocol included.
    """

    def __init__(
        self,
        agents: Iterable[Agent],
        program: Program[Agent],
        *,
        run_steps: RunSteps = run_steps,
        lies: Mapping[int, Lie] | None = None,
    ) -> None:
        self._lies = lies or {}
        self.agents = {agent.id: agent for agent in agents}
        self._network: Network | None = None  # of the rounds that run, or ran last
        self._program, self._run_steps = program, run_steps
        self._left_over: dict[int, Inbox] = {}
        self._lacking: frozenset[int] = frozenset()

    @property
    def now_s(self) -> float:
        """How long the rounds that run have taken, or those that ran last took, in virtual seconds."""
        return self._network.now_s if self._network else 0.0

    def run(self, first: int, last: int, history: History, num_reductions: int = 0) -> dict[int, Part]:
        """Run the rounds from `first` to `last`, as nodes do that get a message of the ServerApp.

        Who failed in the rounds before takes part again, and asks for the model first. `num_reductions` says
        how often the learning rate was reduced before.

        Returns
        -------
        dict[int, Part]
            By agent, ascending.

        Raises
        ------
        NoEndError
            Some agent's rounds do not end.
        """
        world = _World(self.agents, first, history, num_reductions)
        self._network = world.network
        parts: dict[int, Part] = {}

        def run_agent(agent: int) -> None:
            lacking, absent = self._lacking, frozenset[int]()
            while agent not in parts:
                rounds = self._rounds_of(agent, world, lacking, absent)
                try:
                    parts[agent] = _run(rounds, first, last)
                    world.network.leave(agent)
                except CrashError as crash:
                    back_after_s = crash.back_after_s
                    world.network.leave(agent, back_after_s)
                    self.agents[agent] = Agent(agent, self.agents[agent].setup)
                    self._left_over.pop(agent, None)
                    if back_after_s == inf:
                        parts[agent] = Part(reports={}, has_crashed=True)
                    else:
                        world.turns.sleep(agent, back_after_s)
                        lacking, absent = frozenset(), frozenset([agent])

        world.turns.run({agent: partial(run_agent, agent) for agent in self.agents})
        self._left_over = {agent: part.left_over for agent, part in parts.items()}
        self._lacking = _lacking_after(parts)
        return dict(sorted(parts.items()))

    def _rounds_of(
        self, agent: int, world: "_World", lacking: Iterable[int], absent: Iterable[int]
    ) -> DirectRounds:
        shortest_s, longest_s = (world.history.slowness(agent) * time_s for time_s in world.history.step_s)

        def run_in_virtual_time(
            one: Agent, program: Program[Agent], steps: tuple[Step, ...], inbox: Inbox, absence: Absence
        ) -> tuple[Outbox, Report]:
            world.turns.act(agent)
            world.turns.sleep(agent, world.rng.uniform(shortest_s, longest_s))
            return self._run_steps(one, program, steps, inbox, absence)

        return DirectRounds(
            self.agents[agent],
            self._program,
            self._transport_of(agent, world),
            Deadlines(START_S, TRANSFER_S),
            seconds_per_batch=longest_s,
            left_over=self._left_over.get(agent, ()),
            lacking=lacking,
            absent=absent,
            num_reductions=world.num_reductions,
            clock=SimulatedClock(agent, world.network, world.turns),
            run_steps=run_in_virtual_time,
        )

    def _transport_of(self, agent: int, world: "_World") -> SimulatedTransport:
        lie = {"instead_of": self._lies[agent]} if agent in self._lies else {}
        return SimulatedTransport(agent, world.network, world.turns, **lie)


class _World:
    def __init__(self, ids: Iterable[int], first: int, history: History, num_reductions: int) -> None:
        self.num_reductions = num_reductions
        self.history, self.rng = history, random.Random(f"{history.seed} {first}")
        self.network = Network(ids, history, self.rng, START_S)
        self.turns = Turns(self.network, history, self.rng, LIMIT_S)


def _run(rounds: DirectRounds, first: int, last: int) -> Part:
    reports: dict[int, Report] = {}
    error = None
    try:
        for round_, report in rounds.run(first, last):
            reports[round_] = report
    except Exception as caught:
        error = caught
    left_over = () if error else rounds.left_over()
    return Part(reports=reports, gone=rounds.gone, left_over=left_over, error=error)


def _lacking_after(parts: Mapping[int, Part]) -> frozenset[int]:
    """Return who does not have the current model: as the one says whom the fewest of the others miss."""
    failed = frozenset(agent for agent, part in parts.items() if part.has_crashed or part.error)
    told = sorted(parts.keys() - failed)
    if not told:
        return frozenset()
    witness = min(told, key=lambda agent: sum(agent in parts[other].gone for other in told))
    return failed | frozenset(parts[witness].gone)
