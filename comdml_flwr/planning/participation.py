"""Who takes part in a round, who has come since, and how many must be left."""

from collections.abc import Callable, Collection, Mapping

import numpy as np

from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.seeds import SHARED, derive_seed
from comdml_flwr.planning.fleet.scenario import Availability


def newcomers_after(
    round_: int, num_rounds: int, present: Callable[[int], tuple[int, ...]]
) -> tuple[int, ...]:
    """Return who is absent in a round and takes part in the next; nobody after the last round."""
    if round_ == num_rounds:
        return ()
    now = present(round_)
    return tuple(agent for agent in present(round_ + 1) if agent not in now)


def draw_participants(
    ids: tuple[int, ...],
    participation: float,
    seed: int,
    round_: int,
    availability: Availability | None = None,
) -> tuple[int, ...]:
    """Return who takes part in a round: a seeded sample of those who are there.

    Parameters
    ----------
    ids : tuple[int, ...]
        All agents of the run, ascending.
    participation : float
        Share of those who are there, in (0, 1]; at least one agent takes part.
    seed, round_ : int
        Of the run.
    availability : Availability, optional
        Who is there; without it, all are.

    Raises
    ------
    InputError
        Nobody is there.
    """
    there = ids
    if availability is not None:
        there = tuple(agent for agent in ids if availability.is_present(agent, round_))
    if not there:
        raise InputError("availability", f"nobody in round {round_}", "must leave one agent in each round")
    count = max(1, round(participation * len(there)))
    generator = np.random.default_rng(derive_seed(seed, round_, SHARED, "participants"))
    return tuple(sorted(int(agent) for agent in generator.choice(there, size=count, replace=False)))


LEAST_LEFT = 2
"""An agent that trains alone to the end would look like a run that has gone well."""


def check_left(
    round_: int, agents: Collection[int], gone: Collection[int], why_gone: Mapping[int, str] | None = None
) -> None:
    """Raise RunError where failures have left fewer than two agents of several.

    The line names the reason of the first of those who are gone whose reason is in `why_gone`.

    Examples
    --------
    >>> check_left(3, (0, 1, 2), {0, 1}, {1: "agent 1 failed: disk full"})
    Traceback (most recent call last):
    comdml_flwr.core.errors.RunError: round 3: of 3 agents only agent 2 is left; agent 1 failed: disk full
    """
    left = [agent for agent in agents if agent not in gone]
    if len(left) < min(LEAST_LEFT, len(agents)):
        who = f"only agent {left[0]} is left" if left else "none is left"
        reasons = [why_gone[agent] for agent in sorted(gone) if why_gone and agent in why_gone]
        why = f"; {reasons[0]}" if reasons else ""
        raise RunError(f"round {round_}: of {len(agents)} agents {who}{why}")
