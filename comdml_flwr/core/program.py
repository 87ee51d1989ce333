"""A round as a program: phases that every agent runs, and the carrier that moves their mail."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, Self, TypeAlias, TypeVar

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.mail import Mail
from comdml_flwr.core.messages import Inbox, Outbox, Report
from comdml_flwr.core.slots import Slot
from comdml_flwr.core.user_code import describe_error

AgentT = TypeVar("AgentT")

Run: TypeAlias = Callable[[AgentT, Inbox], Outbox]
"""What an agent does in a phase: from the mail that has come to the mail that it sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase(Generic[AgentT]):
    """One phase of a round.

    Parameters
    ----------
    name : str
        What people see in progress lines and errors.
    run : Callable
        `(agent, inbox) -> outbox`.
    expects : Callable, optional
        Whose mail alone its inbox holds, once the phases before it have run: a carrier without lock step then
        waits for nobody else. None: mail of all who take part.
    again : Callable, optional
        What runs instead, without mail, when the round comes back here because an agent has failed. It makes
        this phase the return point of its program.
    """

    name: str
    run: Run[AgentT]
    expects: Callable[[AgentT], tuple[int, ...]] | None = None
    again: Run[AgentT] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Program(Generic[AgentT]):
    """One round of a method: what the loop, the carriers and the ServerApp know of it.

    Parameters
    ----------
    phases : tuple[Phase, ...]
        In order.
    has_server : bool
        Whether a server takes part in every phase; otherwise the method is serverless.
    models_agree : bool
        Whether all who took part in a round hold the same weights after it.
    slots : tuple[Slot, ...]
        What agents keep, beside what they do in every method.
    needs_links : bool
        Whether models spread over direct links alone, so that these must connect all agents.
    in_chunks : Callable[[int], tuple[Phase, ...]], optional
        The phases of the same round with the batches of the training cut into this many chunks, and mail
        after each. The result must not depend on the number. None: the method has no such phases.
    sends : tuple[type[Mail], ...]
        All kinds of mail that its phases send; a carrier with a door refuses others there. Empty: not told.

    Raises
    ------
    ValueError
        There is no phase, or more than one return point.
    """

    phases: tuple[Phase[AgentT], ...]
    has_server: bool = False
    models_agree: bool = True
    slots: tuple[Slot, ...] = ()
    needs_links: bool = False
    in_chunks: Callable[[int], tuple[Phase[AgentT], ...]] | None = None
    sends: tuple[type[Mail], ...] = ()

    def __post_init__(self) -> None:
        num_points = sum(phase.again is not None for phase in self.phases)
        if not self.phases or num_points > 1:
            rule = f"must be at least one, with at most one return point, not {num_points}"
            raise ValueError(f"phases = {self.names}: {rule}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the phases, in order."""
        return tuple(phase.name for phase in self.phases)

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of the mail that its phases send; empty: not told."""
        return frozenset(mail.kind for mail in self.sends)

    @property
    def last(self) -> int:
        """Place of the last phase."""
        return len(self.phases) - 1

    @property
    def return_point(self) -> int | None:
        """Place of the phase to which a round goes back when an agent fails after it; None: it never does."""
        return next((place for place, phase in enumerate(self.phases) if phase.again is not None), None)

    def cut_into(self, num_chunks: int) -> Self:
        """Return the same round in other chunks, if its training can be cut into chunks at all.

        Where every phase is an exchange of all agents, each chunk costs one, and the configuration says how
        many there are. A carrier whose agents wait for their senders alone takes one for each batch, so that
        a helper trains on the first activations while the second are computed.
        """
        return self if self.in_chunks is None else replace(self, phases=self.in_chunks(num_chunks))

    def run(self, step: "Step", agent: AgentT, inbox: Inbox) -> Outbox:
        """Run a step's phase; at the return point, after the first time, what is to be done again."""
        phase = self.phases[step.phase]
        if step.attempt and phase.again is not None:
            return phase.again(agent, ())
        return phase.run(agent, inbox)

    def where(self, step: "Step") -> str:
        """Return how progress lines and errors name a step."""
        return f"round {step.round}, {self.phases[step.phase].name}"


@dataclass(frozen=True, slots=True, order=True)
class Step:
    """One phase of one round: `program.phases[phase]` in round `round` (counted from 1).

    `attempt` counts from 0 how often the round went back to its return point. `num_reductions` says how often
    the learning rate was reduced before the round, as the metric did not get better; it names no other step.
    """

    round: int
    phase: int
    attempt: int = 0
    num_reductions: int = field(default=0, compare=False)


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


def together(*runs: Run[AgentT]) -> Run[AgentT]:
    """Make one of several runs between which no mail is needed; each sees the same inbox."""

    def run(agent: AgentT, inbox: Inbox) -> Outbox:
        return tuple(envelope for part in runs for envelope in part(agent, inbox))

    return run


def agent_failed(agent: int, where: str, error: Exception) -> RunError:
    """Return the one line in which every carrier says that an agent's phase went wrong."""
    who = "the server" if agent < 0 else f"agent {agent}"
    return RunError(f"{who} failed in {where}: {' '.join(describe_error(error).split())}")
