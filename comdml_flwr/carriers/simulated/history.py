"""What goes wrong in a simulated run, as plain data that prints as what makes it again."""

from dataclasses import dataclass
from math import inf

from comdml_flwr.core.errors import InputError


@dataclass(frozen=True, slots=True)
class Crash:
    """An agent's process dies; of what it has under way to each peer, a random first part still arrives.

    Parameters
    ----------
    agent : int
        Whose process.
    action : int
        At which of its actions, counted from 1: each send, each look for mail, each step of a round is one.
    back_after_s : float
        When it is there again, having lost all that it had, in seconds after the crash; inf: never.
    """

    agent: int
    action: int
    back_after_s: float = inf


@dataclass(frozen=True, slots=True)
class Stall:
    """An agent does nothing for a while, though its machine can be reached.

    Parameters
    ----------
    agent : int
        Which agent.
    action : int
        Before which of its actions, counted from 1.
    seconds : float
        How long.
    """

    agent: int
    action: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Nothing gets through from one agent to another; mail that is under way waits for the end of the cut.

    The receiver's mail still gets through to the sender, but no word that its own has arrived comes back: to
    both, the other one is out of reach.

    Parameters
    ----------
    sender, receiver : int
        Between which agents.
    start_s, end_s : float
        From when to when, in seconds; inf: for ever.
    """

    sender: int
    receiver: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Partition:
    """Nothing gets through between some agents and all others.

    Parameters
    ----------
    agents : tuple[int, ...]
        Those on one side.
    start_s, end_s : float
        From when to when, in seconds; inf: for ever.
    """

    agents: tuple[int, ...]
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Slow:
    """An agent computes slower than others, and says so.

    Parameters
    ----------
    agent : int
        Which agent.
    factor : float
        How many times as long each step takes it.
    """

    agent: int
    factor: float


Fault = Crash | Stall | Cut | Partition | Slow


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All that distinguishes one simulated run from another.

    Parameters
    ----------
    seed : int
        Of all that is drawn: latencies, times of steps, whose turn it is, what of a crash's mail arrives.
    faults : tuple[Fault, ...]
        What goes wrong.
    latency_s : tuple[float, float]
        The shortest and the longest time that mail is under way, in seconds.
    step_s : tuple[float, float]
        The shortest and the longest time that an agent computes in one phase, in seconds.

    Examples
    --------
    >>> History(seed=7, faults=(Crash(agent=2, action=31),)).faults
    (Crash(agent=2, action=31, back_after_s=inf),)
    """

    seed: int
    faults: tuple[Fault, ...] = ()
    latency_s: tuple[float, float] = (0.001, 0.05)
    step_s: tuple[float, float] = (0.0, 0.3)

    def __post_init__(self) -> None:
        for name, (shortest, longest) in (("latency_s", self.latency_s), ("step_s", self.step_s)):
            if not 0 <= shortest <= longest < inf:
                raise InputError(name, (shortest, longest), "must be two times, the shorter one first")

    def slowness(self, agent: int) -> float:
        """Return how many times as long as others an agent computes."""
        factors = [fault.factor for fault in self.faults if isinstance(fault, Slow) and fault.agent == agent]
        return max(factors, default=1.0)
