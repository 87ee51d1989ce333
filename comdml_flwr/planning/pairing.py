"""Who helps whom: the front door of the solvers, and the rules that every plan obeys."""

from collections.abc import Sequence

import numpy as np

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.costs import TIME_MODELS
from comdml_flwr.planning.solvers.integer_program import solve
from comdml_flwr.planning.solvers.matching import exact, greedy
from comdml_flwr.planning.solvers.problem import arc_finish_s, arc_of, as_plan, pose
from comdml_flwr.planning.solvers.sharing import Listener, share
from comdml_flwr.planning.types import CutTable, Plan, Profile

SOLVERS = ("exact", "greedy", "integer-program", "shared")


def pair_agents(
    profiles: Sequence[Profile],
    cuts: CutTable,
    *,
    solver: str = "exact",
    time_model: str = "pipeline",
    listener: Listener | None = None,
) -> Plan:
    """Decide who offloads to whom at which cut, so that the last agent ends early.

    Each agent has one role: it trains alone, offloads to one helper, or helps one agent (with "shared" one or
    more). All who call this with the same profiles, in any order, get the same plan.

    Parameters
    ----------
    profiles : Sequence[Profile]
        The agents of the round, at least one.
    cuts : CutTable
        Cuts 1..M, at least one.
    solver : str
        "exact" (smallest makespan with one helper each), "greedy" (as in the paper), "shared" (a helper may
        serve several slow agents; never ends later than "exact") or "integer-program" (as "exact", by HiGHS
        with a time limit; see `integer_program.solve` for its proof, its gap and extra constraints).
    time_model : str
        One of costs.TIME_MODELS.
    listener : Listener, optional
        Of "shared": hears of the progress, and may stop the search. The plan then depends on when it does.

    Returns
    -------
    Plan
        The pairs and the predicted makespan.

    Raises
    ------
    InputError
        For an unknown solver or time model, no agent, no cut, an id that appears twice, or agents whose
        memory cannot hold the whole model and that get no helper.

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
    if solver == "integer-program":
        return solve(profiles, cuts, time_model=time_model).plan
    problem = pose(profiles, cuts, time_model)
    if solver == "shared":
        return as_plan(problem, share(problem, listener), solver)
    return as_plan(problem, exact(problem) if solver == "exact" else greedy(problem), solver)


def is_valid_plan(plan: Plan, profiles: Sequence[Profile], cuts: CutTable, *, shared: bool = False) -> bool:
    """Tell whether a plan obeys the rules for these agents and predicts what the cost model says.

    Parameters
    ----------
    plan : Plan
        Any plan.
    profiles, cuts
        What it is for.
    shared : bool
        Whether a helper may serve several slow agents.

    Returns
    -------
    bool
        True if each agent has exactly one role, each pair is linked and has a cut in 1..M, each agent can
        hold what it trains, and all numbers are those of the cost model. It need not be a good plan.
    """
    if plan.time_model not in TIME_MODELS:
        return False
    problem = pose(profiles, cuts, plan.time_model)
    position = problem.position
    helpers = [pair.fast for pair in plan.pairs]
    roles = [*plan.solo, *(pair.slow for pair in plan.pairs), *(set(helpers) if shared else helpers)]
    arcs = [arc for pair in plan.pairs if (arc := arc_of(problem, pair.slow, pair.fast, pair.cut))]
    if sorted(roles) != list(position) or len(arcs) != len(plan.pairs):
        return False
    if any(np.isinf(problem.solo_s[position[agent]]) for agent in plan.solo):
        return False
    possible = all(np.isfinite(end_s) for end_s in arc_finish_s(problem, arcs).values())
    return possible and plan == as_plan(problem, arcs, plan.solver)


def price_pairs(
    profiles: Sequence[Profile],
    cuts: CutTable,
    pairs: Sequence[tuple[int, int, int]],
    *,
    solver: str = "exact",
    time_model: str = "pipeline",
) -> Plan | None:
    """Return the plan of given pairs, where they can still pair and gain by it; the others train alone.

    Parameters
    ----------
    profiles, cuts, solver, time_model
        As for `pair_agents`; the solver is only named in the plan.
    pairs : Sequence[tuple[int, int, int]]
        (slow, fast, cut), each agent in at most one of them. A pair is left out if one of its agents is not
        among the profiles, they are not linked, or it would not end before its slow agent alone.

    Returns
    -------
    Plan or None
        A valid plan; None if an agent would be left alone that cannot hold the whole model.
    """
    problem = pose(profiles, cuts, time_model)
    known = [arc for slow, fast, cut in pairs if (arc := arc_of(problem, slow, fast, cut))]
    arcs = [arc for arc in known if problem.finish_s[arc] < problem.solo_s[arc[0]]]
    paired = {position for arc in arcs for position in arc[:2]}
    if any(np.isinf(problem.solo_s[position]) for position in {*range(len(problem.agents))} - paired):
        return None
    return as_plan(problem, arcs, solver)
