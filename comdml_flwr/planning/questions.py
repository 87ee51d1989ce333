"""Questions to ask of a plan: why this helper and this cut, and what if the fleet were another one."""

from collections.abc import Sequence
from dataclasses import dataclass

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.alternatives import Case, Option, Role
from comdml_flwr.planning.pairing import pair_agents
from comdml_flwr.planning.types import CutTable, Pair, Plan, Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why an agent has the part that it has in a plan.

    Parameters
    ----------
    plan : Plan
        What `pair_agents` finds.
    agent : int
        Whose part is explained.
    role : Role
        "slow" (it offloads), "fast" (it helps) or "alone".
    solo_s : float
        Its time without offload; inf if it cannot train alone.
    taken : tuple[Option, ...]
        Its pairs in the plan; none for an agent that trains alone.
    others : tuple[Option, ...]
        One for each other agent that could take the partner's place, at the cut that ends first; earliest
        first. For a helper these are the agents that it could help instead.
    other_cuts : tuple[Option, ...]
        The other cuts with the partner that it has, ascending.
    alone_makespan_s : float
        The makespan if this agent had to train alone and nobody could use it as a helper; inf if it cannot.
    impossible : tuple[int, ...]
        Agents that cannot be its partner, because there is no link (or, where bounds on memory are known,
        no room).
    num_left_out : int
        How many of `others` are missing, because only the first were asked for.
    """

    plan: Plan
    agent: int
    role: Role
    solo_s: float
    taken: tuple[Option, ...]
    others: tuple[Option, ...]
    other_cuts: tuple[Option, ...]
    alone_makespan_s: float
    impossible: tuple[int, ...]
    num_left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """Two plans and the difference of their pairs.

    Parameters
    ----------
    before, after : Plan
        For the fleet as it is, and as it might be.
    appear, vanish : tuple[Pair, ...]
        Pairs of agents that only the one or the other has.
    recut : tuple[tuple[Pair, Pair], ...]
        Pairs of agents that both have, at another cut.
    """

    before: Plan
    after: Plan
    appear: tuple[Pair, ...]
    vanish: tuple[Pair, ...]
    recut: tuple[tuple[Pair, Pair], ...]


def what_if(
    before: Sequence[Profile],
    after: Sequence[Profile],
    cuts: CutTable,
    *,
    solver: str = "exact",
    time_model: str = "pipeline",
) -> WhatIf:
    """Plan the fleet as it is and as it might be (see changes.py), and tell the difference.

    Raises
    ------
    InputError
        As `pair_agents`.
    """
    old = pair_agents(before, cuts, solver=solver, time_model=time_model)
    new = pair_agents(after, cuts, solver=solver, time_model=time_model)
    was = {(pair.slow, pair.fast): pair for pair in old.pairs}
    will_be = {(pair.slow, pair.fast): pair for pair in new.pairs}
    both = [(pair, will_be[who]) for who, pair in was.items() if who in will_be]
    return WhatIf(
        before=old,
        after=new,
        appear=tuple(pair for who, pair in will_be.items() if who not in was),
        vanish=tuple(pair for who, pair in was.items() if who not in will_be),
        recut=tuple((one, other) for one, other in both if one.cut != other.cut),
    )


def explain(
    profiles: Sequence[Profile],
    cuts: CutTable,
    agent: int,
    *,
    solver: str = "exact",
    time_model: str = "pipeline",
    top: int | None = None,
) -> Explanation:
    """Tell why an agent has its helper (or partner) and its cut, and what each alternative would cost.

    Parameters
    ----------
    profiles, cuts, solver, time_model
        As for `pair_agents`.
    agent : int
        The agent to explain.
    top : int or None
        How many other partners to look at, those that end earliest; each one costs a plan. None means all.

    Raises
    ------
    InputError
        If there is no such agent, and as `pair_agents`.
    """
    plan = pair_agents(profiles, cuts, solver=solver, time_model=time_model)
    case = Case(profiles={profile.agent: profile for profile in profiles}, cuts=CutTable(cuts), plan=plan)
    if agent not in case.profiles:
        raise InputError("agent", agent, "is not in the fleet")
    pairs = [pair for pair in plan.pairs if agent in (pair.slow, pair.fast)]
    role: Role = "alone" if not pairs else "slow" if pairs[0].slow == agent else "fast"
    partners = {pair.fast if role == "slow" else pair.slow for pair in pairs}
    possible, impossible = case.partners(agent, role, partners)
    return Explanation(
        plan=plan,
        agent=agent,
        role=role,
        solo_s=case.solo_s(agent),
        taken=tuple(case.taken(pair) for pair in pairs),
        others=tuple(case.judged(option, None) for option in possible[:top]),
        other_cuts=tuple(option for pair in pairs for option in case.other_cuts(pair)),
        alone_makespan_s=max(case.solo_s(agent), case.makespan_without_s(agent)),
        impossible=impossible,
        num_left_out=len(possible) - len(possible[:top]),
    )


def describe_pairs(plan: Plan, profiles: Sequence[Profile], cuts: CutTable) -> tuple[Option, ...]:
    """Tell how long each stage of each pair of a plan takes, in the order of `plan.pairs`."""
    case = Case(profiles={profile.agent: profile for profile in profiles}, cuts=CutTable(cuts), plan=plan)
    return tuple(case.taken(pair) for pair in plan.pairs)
