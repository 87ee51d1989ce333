"""Who helps whom: the front door of the solvers, and the rules that every plan obeys."""

from collections.abc import Sequence

import numpy as np

from comdml_flwr.errors import InputError
from comdml_flwr.planning.costs import TIME_MODELS, pair_finish_s
from comdml_flwr.planning.matching import exact, greedy
from comdml_flwr.planning.problem import as_plan, by_id
from comdml_flwr.planning.types import CutTable, Plan, Profile

SOLVERS = ("exact", "greedy")


def pair_agents(
    profiles: Sequence[Profile], cuts: CutTable, *, solver: str = "exact", time_model: str = "pipeline"
) -> Plan:
    """Decide who offloads to whom at which cut, so that the last agent ends early.

    Each agent has one role: it trains alone, offloads to one helper, or helps one agent. All who call this
    with the same profiles, in any order, get the same plan.

    Parameters
    ----------
    profiles : Sequence[Profile]
        The agents of the round, at least one.
    cuts : CutTable
        Cuts 1..M, at least one.
    solver : str
        "exact" (smallest makespan) or "greedy" (as in the paper).
    time_model : str
        One of costs.TIME_MODELS.

    Returns
    -------
    Plan
        The pairs and the predicted makespan.

    Raises
    ------
    InputError
        For an unknown solver or time model, no agent, no cut, or an id that appears twice.

    Examples
    --------
    >>> from comdml_flwr.planning.types import Cut, Link
    >>> slow = Profile(agent=0, batches_per_s=1, num_batches=10, links={1: Link(bytes_per_s=1e6)})
    >>> fast = Profile(agent=1, batches_per_s=4, num_batches=10, links={0: Link(bytes_per_s=1e6)})
    >>> half = Cut(slow_share=0.5, fast_share=0.5, bytes_per_batch=1e3)
    >>> pair_agents([slow, fast], (half,), time_model="overlap").makespan_s
    5.0
    """
    if solver not in SOLVERS:
        raise InputError("solver", solver, f"must be one of {', '.join(SOLVERS)}")
    agents = by_id(profiles)
    if not cuts:
        raise InputError("cuts", cuts, "must hold at least one cut")
    finish_s = pair_finish_s(agents, cuts, time_model)
    arcs = greedy(agents, finish_s) if solver == "greedy" else exact(agents, cuts, finish_s)
    return as_plan(agents, cuts, finish_s, arcs, solver, time_model)


def is_valid_plan(plan: Plan, profiles: Sequence[Profile], cuts: CutTable) -> bool:
    """Tell whether a plan obeys the rules for these agents and predicts what the cost model says.

    Parameters
    ----------
    plan : Plan
        Any plan with one helper per slow agent.
    profiles, cuts
        What it is for.

    Returns
    -------
    bool
        True if each agent has exactly one role, each pair is linked and has a cut in 1..M, and all numbers
        are those of the cost model. It need not be a good plan.
    """
    agents = by_id(profiles)
    position = {profile.agent: index for index, profile in enumerate(agents)}
    roles = [*plan.solo, *(pair.slow for pair in plan.pairs), *(pair.fast for pair in plan.pairs)]
    if sorted(roles) != list(position) or plan.time_model not in TIME_MODELS:
        return False
    if any(not 1 <= pair.cut <= len(cuts) for pair in plan.pairs):
        return False
    finish_s = pair_finish_s(agents, cuts, plan.time_model)
    arcs = [(position[pair.slow], position[pair.fast], pair.cut - 1) for pair in plan.pairs]
    linked = all(np.isfinite(finish_s[arc]) for arc in arcs)
    return linked and plan == as_plan(agents, cuts, finish_s, arcs, plan.solver, plan.time_model)
