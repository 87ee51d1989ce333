"""A planning problem: the agents in order, what each may do and how long it takes; and its plans."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import TypeAlias

import numpy as np

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.costs import FloatArray, lower_bound_s, pair_finish_s, solo_times_s
from comdml_flwr.planning.solvers.groups import GroupCosts
from comdml_flwr.planning.types import Cut, Pair, Plan, Profile

Arc: TypeAlias = tuple[int, int, int]
"""Where a pair stands in the tables of a problem: positions of slow and fast agent, and of the cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What every solver is given.

    Parameters
    ----------
    agents : tuple[Profile, ...]
        In ascending id, at least one.
    cuts : tuple[Cut, ...]
        At least one, by position: cut 1 is at 0.
    time_model : str
        One of costs.TIME_MODELS.
    solo_s : NDArray[float64], shape [K]
        Time to train alone; inf for an agent that cannot hold the whole model.
    finish_s : NDArray[float64], shape [K, K, M]
        End of each possible pair; inf where there is none.
    """

    agents: tuple[Profile, ...]
    cuts: tuple[Cut, ...]
    time_model: str
    solo_s: FloatArray
    finish_s: FloatArray

    @property
    def position(self) -> dict[int, int]:
        """Positions of the agents by id."""
        return {profile.agent: position for position, profile in enumerate(self.agents)}


def pose(profiles: Sequence[Profile], cuts: Iterable[Cut], time_model: str) -> Problem:
    """Put a planning problem in order.

    Parameters
    ----------
    profiles : Sequence[Profile]
        The agents, in any order.
    cuts : Iterable[Cut]
        Cuts 1..M.
    time_model : str
        As in `Problem`.

    Returns
    -------
    Problem

    Raises
    ------
    InputError
        No agent, no cut, an id that appears twice, an unknown time model, an agent with a bound on its memory
        where the cuts do not tell what they take, or one whose memory holds nothing.
    """
    agents, cuts = _by_id(profiles), tuple(cuts)
    if not cuts:
        raise InputError("cuts", cuts, "must hold at least one cut")
    _check_memory(agents, cuts)
    solo_s, finish_s = solo_times_s(agents, cuts), pair_finish_s(agents, cuts, time_model)
    problem = Problem(agents=agents, cuts=cuts, time_model=time_model, solo_s=solo_s, finish_s=finish_s)
    stuck = np.isinf(solo_s) & np.isinf(finish_s).all(axis=(1, 2))
    if stuck.any():
        raise no_memory(problem, np.flatnonzero(stuck).tolist(), "and have no possible helper")
    return problem


def arc_of(problem: Problem, slow: int, fast: int, cut: int) -> Arc | None:
    """Return where a pair stands; None if an agent or the cut is not of this problem."""
    position = problem.position
    if slow not in position or fast not in position or not 1 <= cut <= len(problem.cuts):
        return None
    return position[slow], position[fast], cut - 1


def no_memory(problem: Problem, positions: Sequence[int], reason: str) -> InputError:
    """Make the error for agents that would have to train a model that they cannot hold."""
    needed = max(cut.whole_bytes for cut in problem.cuts)
    rule = f"cannot hold the whole model ({needed:.4g} bytes) {reason}"
    return InputError("agents", [problem.agents[position].agent for position in positions], rule)


def as_plan(problem: Problem, arcs: Sequence[Arc], solver: str) -> Plan:
    """Turn arcs into a plan, with the times that the cost model predicts.

    Raises
    ------
    InputError
        An agent that no arc touches cannot hold the whole model.
    """
    agents, finish_s = problem.agents, arc_finish_s(problem, arcs)
    pairs = tuple(
        Pair(
            slow=agents[slow].agent,
            fast=agents[fast].agent,
            cut=index + 1,
            finish_s=finish_s[slow, fast, index],
            traffic_bytes=agents[slow].num_batches * problem.cuts[index].bytes_per_batch,
        )
        for slow, fast, index in sorted(arcs)
    )
    paired = {position for arc in arcs for position in arc[:2]}
    alone = [position for position in range(len(agents)) if position not in paired]
    stuck = [position for position in alone if np.isinf(problem.solo_s[position])]
    if stuck:
        raise no_memory(problem, stuck, f"and solver {solver} found no helper for them")
    return Plan(
        solver=solver,
        time_model=problem.time_model,
        pairs=pairs,
        solo=tuple(agents[position].agent for position in alone),
        makespan_s=max([*finish_s.values(), *(agents[position].solo_s for position in alone)]),
        solo_makespan_s=max(profile.solo_s for profile in agents),
        lower_bound_s=lower_bound_s(agents, problem.finish_s, problem.cuts),
    )


def arc_finish_s(problem: Problem, arcs: Sequence[Arc]) -> dict[Arc, float]:
    """Predict the end of each pair; of all pairs of a helper that serves several, the end of the group.

    Returns
    -------
    dict[Arc, float]
        Seconds; inf where memory or links do not allow it.
    """
    groups: dict[int, list[Arc]] = {}
    for arc in sorted(arcs):
        groups.setdefault(arc[1], []).append(arc)
    finish_s = {arc: float(problem.finish_s[arc]) for arc in arcs}
    several = [group for group in groups.values() if len(group) > 1]
    if several:
        costs = group_costs(problem)
        for group in several:
            slow, fast, cut = (np.array(column)[None] for column in zip(*group, strict=True))
            end_s = float(costs.finish_s(fast[:, 0], slow, cut)[0])
            finish_s |= dict.fromkeys(group, end_s)
    return finish_s


def makespan_s(problem: Problem, arcs: Sequence[Arc]) -> float:
    """Predict the end of the last agent; inf for what memory or links do not allow."""
    paired = {position for arc in arcs for position in arc[:2]}
    alone = [end_s for position, end_s in enumerate(problem.solo_s.tolist()) if position not in paired]
    return float(max([*arc_finish_s(problem, arcs).values(), *alone]))


def group_costs(problem: Problem) -> GroupCosts:
    """Prepare the times of helpers that serve several slow agents."""
    return GroupCosts.of(problem.agents, problem.cuts, problem.time_model, problem.finish_s)


def _by_id(profiles: Sequence[Profile]) -> tuple[Profile, ...]:
    if not profiles:
        raise InputError("profiles", profiles, "must hold at least one agent")
    agents = tuple(sorted(profiles, key=lambda profile: profile.agent))
    for one, other in pairwise(agents):
        if one.agent == other.agent:
            raise InputError("profile.agent", one.agent, "must appear once")
    for profile in agents:
        if not np.isfinite(profile.solo_s):
            raise InputError(f"solo time of agent {profile.agent}", profile.solo_s, "must be finite")
    return agents


def _check_memory(agents: Sequence[Profile], cuts: Sequence[Cut]) -> None:
    bounded = any(isfinite(profile.memory_bytes) for profile in agents)
    for number, cut in enumerate(cuts, 1):
        if cut.whole_bytes != cuts[0].whole_bytes:
            raise InputError(f"whole_bytes of cut {number}", cut.whole_bytes, "must be equal in all cuts")
        told = min(cut.whole_bytes, cut.slow_bytes, cut.fast_bytes)
        if bounded and told == 0:
            what = f"slow_bytes, fast_bytes, whole_bytes of cut {number}"
            raise InputError(what, 0, "must be > 0 where an agent has memory_bytes")
