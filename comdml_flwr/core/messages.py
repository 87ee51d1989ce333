"""Envelopes, phases, programs and carriers: the vocabulary of a round.

Theory of operation
-------------------
A Flower `ClientApp` is a function from message to message. In deployment every message is a new process; in
simulation only as many run at once as there are actors. Code that waits for a peer inside a handler hangs in
one and loses its locals in the other. So nobody waits:

* a **phase** is a plain function `(agent, inbox) -> outbox`;
* a **program** is a tuple of phases: one round;
* a **carrier** runs phases and moves envelopes; it opens no payload.

The mail that a phase sends is in the inbox of the receiver's *next* phase of the program. Phases between
which no mail is needed are made one by `together`, so they share one exchange. Simulation and deployment
differ by the carrier alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeAlias, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.user_code import describe_error

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Array: TypeAlias = NDArray[np.generic]
Report: TypeAlias = dict[str, Json]
"""What an agent tells the run about itself after an exchange: numbers and names, never weights."""


def size_of(arrays: Mapping[str, Array]) -> int:
    """Return the size of arrays in bytes."""
    return sum(array.nbytes for array in arrays.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Mail from one agent to another.

    Parameters
    ----------
    sender, receiver : int
        Agent ids; equal when an agent keeps something for its own next phase.
    round : int
        The round that it belongs to.
    kind : str
        What is in it, such as "activations".
    about : Mapping[str, Json]
        Small facts that go with the arrays.
    arrays : Mapping[str, ndarray]
        The tensors, shared and not copied; receivers read them only.
    arrives_s : float
        When it is there on the virtual clock of its round.
    """

    sender: int
    receiver: int
    round: int
    kind: str
    about: Mapping[str, Json] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)
    arrives_s: float = 0.0

    @property
    def num_bytes(self) -> int:
        """Size of the arrays in bytes; the header (a few hundred bytes) is not counted."""
        return size_of(self.arrays)

    def integer(self, name: str) -> int:
        """Return a whole number from `about`; RunError where it is none."""
        value = self.about.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._bad(name, "whole number")
        return value

    def number(self, name: str) -> float:
        """Return a number from `about`; RunError where it is none."""
        value = self.about.get(name)
        if not _is_number(value):
            raise self._bad(name, "number")
        return value

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return numbers from `about`; RunError where they are none."""
        values = self.about.get(name)
        if not isinstance(values, list | tuple):
            raise self._bad(name, "list of numbers")
        numbers = tuple(value for value in values if _is_number(value))
        if len(numbers) != len(values):
            raise self._bad(name, "list of numbers")
        return numbers

    def floats(self, name: str) -> NDArray[np.float32]:
        """Return a float32 array; RunError where there is none of that name and kind."""
        array = self.arrays.get(name)
        if array is None or array.dtype != np.float32:
            raise self._bad(name, "float32 array")
        return array.view(np.float32)

    def _bad(self, name: str, kind: str) -> RunError:
        return RunError(f"{self.kind} from agent {self.sender}, round {self.round}: {name} is no {kind}")


def _is_number(value: Json) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


Inbox: TypeAlias = tuple[Envelope, ...]
Outbox: TypeAlias = tuple[Envelope, ...]

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


class Addressed(Protocol):
    """Anything that a post office can sort without opening it."""

    @property
    def sender(self) -> int:
        """Id of the agent that sent it."""

    @property
    def receiver(self) -> int:
        """Id of the agent that it is for."""


MailT = TypeVar("MailT", bound=Addressed)


class Mailboxes(Generic[MailT]):
    """Mail that waits for its receivers; what is in it stays closed."""

    def __init__(self) -> None:
        self._boxes: dict[int, list[MailT]] = {}

    def put(self, mail: Iterable[MailT]) -> None:
        """Sort mail into the boxes: by sender, and a sender's own in the order in which it was sent.

        An inbox does not depend on the order in which the senders' mail of one exchange came in.
        """
        for letter in sorted(mail, key=lambda letter: letter.sender):
            self._boxes.setdefault(letter.receiver, []).append(letter)

    def take(self, receiver: int) -> tuple[MailT, ...]:
        """Empty the box of a receiver."""
        return tuple(self._boxes.pop(receiver, ()))

    def look(self, receiver: int) -> tuple[MailT, ...]:
        """Return what is in the box of a receiver, and leave it there."""
        return tuple(self._boxes.get(receiver, ()))
