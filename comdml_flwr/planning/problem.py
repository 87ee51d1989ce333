"""The agents of a planning problem in order, and pairs of positions as a plan."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from comdml_flwr.errors import InputError
from comdml_flwr.planning.costs import FloatArray, lower_bound_s
from comdml_flwr.planning.types import CutTable, Pair, Plan, Profile

Arc: TypeAlias = tuple[int, int, int]
"""Positions of slow and fast agent in ascending id, and the index of the cut (cut - 1)."""


def by_id(profiles: Sequence[Profile]) -> tuple[Profile, ...]:
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


def solo_times_s(agents: Sequence[Profile]) -> FloatArray:
    return np.array([profile.solo_s for profile in agents], dtype=np.float64)


def as_plan(
    agents: Sequence[Profile],
    cuts: CutTable,
    finish_s: FloatArray,
    arcs: Sequence[Arc],
    solver: str,
    time_model: str,
) -> Plan:
    pairs = tuple(
        Pair(
            slow=agents[slow].agent,
            fast=agents[fast].agent,
            cut=index + 1,
            finish_s=float(finish_s[slow, fast, index]),
            traffic_bytes=agents[slow].num_batches * cuts[index].bytes_per_batch,
        )
        for slow, fast, index in sorted(arcs)
    )
    paired = {agent for pair in pairs for agent in (pair.slow, pair.fast)}
    alone = [profile for profile in agents if profile.agent not in paired]
    return Plan(
        solver=solver,
        time_model=time_model,
        pairs=pairs,
        solo=tuple(profile.agent for profile in alone),
        makespan_s=max([*(pair.finish_s for pair in pairs), *(profile.solo_s for profile in alone)]),
        solo_makespan_s=max(profile.solo_s for profile in agents),
        lower_bound_s=lower_bound_s(agents, finish_s),
    )
