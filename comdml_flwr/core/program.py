"""A round as a program: phases that every agent runs, and the carrier that moves their mail."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.messages import Inbox, Outbox, Report
from comdml_flwr.core.user_code import describe_error

AgentT = TypeVar("AgentT")


Phase: TypeAlias = Callable[[AgentT, Inbox], Outbox]


Program: TypeAlias = tuple[Phase[AgentT], ...]


@dataclass(frozen=True, slots=True, order=True)
class Step:
    """One phase of one round: `program[phase]` in round `round` (counted from 1).

    `attempt` counts from 0 how often the round went back to its return point (`returns_here`).
    """

    round: int
    phase: int
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Absence:
    """Who is missing, as the carrier tells its agents with each step; the same for all who go on together.

    Parameters
    ----------
    gone : frozenset[int]
        Those who failed, or were given up.
    returning : frozenset[int]
        Those of them who are there again, without the model.
    back_in : int
        The round in which the returning take part again: they get the model at the end of the one before.
    """

    gone: frozenset[int] = frozenset()
    returning: frozenset[int] = frozenset()
    back_in: int = 0

    def in_round(self, round_: int) -> frozenset[int]:
        """Return who is missing in a round."""
        return self.gone - self.returning if round_ >= self.back_in else self.gone

    def without(self, agents: tuple[int, ...], round_: int) -> tuple[int, ...]:
        """Return those of these agents who are not missing in a round."""
        gone = self.in_round(round_)
        return tuple(agent for agent in agents if agent not in gone) if gone else agents


NOBODY = Absence()


def has_second_phase(steps: Iterable[Step]) -> bool:
    """Tell whether one of the steps is a later one than the first of its round.

    What the last phase of a round sends is for the second phase of the next one: mostly it shares an exchange
    with the first. Where it has its own, before a checkpoint, its mail waits for an exchange like this.
    """
    return any(step.phase > 0 for step in steps)


class Carrier(Protocol):
    """Runs phases at agents and moves the mail between them."""

    def exchange(self, steps: Mapping[int, tuple[Step, ...]], absence: Absence = NOBODY) -> dict[int, Report]:
        """Run each agent's steps on the mail that waits for it, and keep what they send for the next call.

        Parameters
        ----------
        steps : Mapping[int, tuple[Step, ...]]
            What each agent runs, by agent id; an agent that is not named runs nothing and its mail waits.
        absence : Absence
            Who is missing, which all agents are told.

        Returns
        -------
        dict[int, Report]
            What each agent reported; who is missing here is gone, and sent nothing.

        Raises
        ------
        RunError
            The run cannot go on; the line names the agent and the reason.
        """

    def returned(self, gone: frozenset[int]) -> frozenset[int]:
        """Return those of the agents that are gone who are there again; they begin without a state."""

    @property
    def why_gone(self) -> Mapping[int, str]:
        """Why agents have failed, in a line each, as far as the carrier was told."""

    def close(self) -> None:
        """Give back what the carrier holds."""


def together(*phases: Phase[AgentT]) -> Phase[AgentT]:
    """Make one phase of several between which no mail is needed; each sees the same inbox."""

    def run(agent: AgentT, inbox: Inbox) -> Outbox:
        return tuple(envelope for phase in phases for envelope in phase(agent, inbox))

    run.__name__ = "+".join(phase_name(phase) for phase in phases)
    return run


def waits_for(phase: Phase[AgentT], senders: Callable[[AgentT], Iterable[int]]) -> Phase[AgentT]:
    """Say of whom alone a phase expects mail: a carrier without lock step then waits for nobody else.

    Parameters
    ----------
    phase : Phase
        Its inbox holds no other agent's mail.
    senders : Callable
        Whom, once the phases before it have run.
    """

    def run(agent: AgentT, inbox: Inbox) -> Outbox:
        return phase(agent, inbox)

    run.__name__ = phase_name(phase)
    run.senders = senders  # type: ignore[attr-defined]
    return run


def expected_senders(phase: Phase[AgentT], agent: AgentT) -> tuple[int, ...] | None:
    """Return whose mail a phase expects; None: of all who take part."""
    senders = getattr(phase, "senders", None)
    return None if senders is None else tuple(senders(agent))


def returns_here(phase: Phase[AgentT], again: Phase[AgentT]) -> Phase[AgentT]:
    """Make a phase the return point of its program: where a round goes back to when somebody is gone later.

    Parameters
    ----------
    phase : Phase
        What runs the first time.
    again : Phase
        What runs when the round comes back; it gets no mail.
    """

    def run(agent: AgentT, inbox: Inbox) -> Outbox:
        return phase(agent, inbox)

    run.__name__ = phase_name(phase)
    run.senders = getattr(phase, "senders", None)  # type: ignore[attr-defined]
    run.again = again  # type: ignore[attr-defined]
    return run


def return_point(program: Program[AgentT]) -> int | None:
    """Return the place of a program's return point; None if it has none."""
    return next((place for place, phase in enumerate(program) if hasattr(phase, "again")), None)


def run_phase(program: Program[AgentT], step: Step, agent: AgentT, inbox: Inbox) -> Outbox:
    """Run a step's phase; at the return point, after the first time, what is to be done again."""
    phase = program[step.phase]
    again: Phase[AgentT] | None = getattr(phase, "again", None) if step.attempt else None
    return phase(agent, inbox) if again is None else again(agent, ())


def phase_name(phase: Phase[AgentT]) -> str:
    """Return the name of a phase as people see it in progress lines and errors."""
    return getattr(phase, "__name__", "phase").replace("_", " ")


def agent_failed(agent: int, where: str, error: Exception) -> RunError:
    """Return the one line in which every carrier says that an agent's phase went wrong."""
    who = "the server" if agent < 0 else f"agent {agent}"
    return RunError(f"{who} failed in {where}: {' '.join(describe_error(error).split())}")
