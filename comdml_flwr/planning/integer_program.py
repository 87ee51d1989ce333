"""The pairing as an integer program, solved by HiGHS (or CBC) through PuLP: the oracle of the others.

One to one, as S. M. Sajjadi Mohammadabadi et al., IEEE ICDCS 2024, put it (symbols of costs.py):

    x_ijm in {0, 1}       slow agent i is helped by j at cut m, for each possible pair;  tau >= 0
    y_v = 1 - sum of x_vjm - sum of x_ivm >= 0                   v trains alone, and has one role
    tau >= T_v y_v + sum of C_vjm x_vjm + sum of C_ivm x_ivm     no big-M: one term is active per agent
    y_v = 0 where v cannot hold the whole model
    minimise tau; then, with tau kept, the offloaded work; then, with both kept, the traffic

Shared helpers (groups.py): z_v = sum of x_vjm <= 1 says that v offloads, and x_ijm + z_j <= 1.

    tau >= T_v (1 - z_v) + sum of C_vjm x_vjm                    the pair by itself
    tau >= T_v (1 - z_v) + sum of N_i b_m / p_v x_ivm            work of helper v
    tau >= X + e_ivm x_ivm,  X = sum of N_i d_m / D_v x_ivm      its card; e = u s + l + u f ("overlap": 0)
    whole + sum of (y_m + Q d_m) x_ivm <= memory of v

For "overlap" that is all. For "pipeline" the end of a group, F(G), is no sum: these rows bound it from below
(last_i >= u s_i + l_i + N_i c_i, and N_i c_i >= X), and rows are added where a solution breaks it, until none
does. F only grows with the group, so for the partners S of helper j, and their pairs A in x,

    tau >= L + (F(A) - L) (1 - sum over A of (1 - x_ijm))                    with these cuts
    tau >= L + (min F - L) (1 - sum over S of (1 - sum over m of x_ijm))     with any cuts

where L is the lower bound of the makespan. Without extra constraints the program holds only pairs that end by
the makespan of `greedy`, and only agents with T_i > L offload (taking away help never makes a group longer);
it knows nothing of `exact` and `shared`, which it is there to judge.
"""

import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import inf, prod
from typing import TYPE_CHECKING

import numpy as np

from comdml_flwr.errors import InputError
from comdml_flwr.planning.costs import lower_bound_s
from comdml_flwr.planning.matching import greedy
from comdml_flwr.planning.problem import Arc, Problem, arc_finish_s, as_plan, group_costs, makespan_s, pose
from comdml_flwr.planning.types import CutTable, Plan, Profile

if TYPE_CHECKING:
    import pulp

Triple = tuple[int, int, int]
"""Ids of slow and fast agent, and the cut (1..M)."""

TIME_LIMIT_S = 60.0
_EXACTLY = 1e-7  # relative: what "proven" means
_TOLERANCE = 1e-9  # of HiGHS; with 1e-10 the presolve of 1.16 cut off the optimum in 1 of 500 fleets
_MOST_WAYS = 5000  # cuts of a group that are tried one by one


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """A plan and what is known of its quality.

    Parameters
    ----------
    plan : Plan
        The best one found.
    proven : bool
        Whether no plan has a smaller makespan (to 1e-7).
    bound_s, gap : float
        No plan ends before bound_s; gap = (makespan - bound) / makespan.
    solver_name : str
        "HiGHS" or "CBC".
    """

    plan: Plan
    proven: bool
    bound_s: float
    gap: float
    solver_name: str


def solve(
    profiles: Sequence[Profile],
    cuts: CutTable,
    *,
    time_model: str = "pipeline",
    shared: bool = False,
    time_limit_s: float = TIME_LIMIT_S,
    forbidden: Iterable[Triple] = (),
    forced: Iterable[Triple] = (),
) -> Solved:
    """Find the plan with the smallest makespan by integer programming.

    Parameters
    ----------
    profiles, cuts, time_model
        As in `pairing.pair_agents`.
    shared : bool
        Whether a helper may serve several slow agents.
    time_limit_s : float
        After this the best plan found is returned, whether proven or not.
    forbidden, forced : Iterable[tuple[int, int, int]]
        Pairs (slow, fast, cut) that must not, or must, be in the plan.

    Returns
    -------
    Solved

    Raises
    ------
    InputError
        As `pair_agents`; a triple that is no possible pair; or no plan meets all constraints.
    """
    if not time_limit_s > 0:
        raise InputError("time_limit_s", time_limit_s, "must be > 0")
    problem = pose(profiles, cuts, time_model)
    never, always = _positions(problem, forbidden), _positions(problem, forced)
    if never & always:
        raise InputError("forbidden", sorted(forbidden), "must not be both forbidden and forced")
    program = _Program(problem, shared, never, always, time.monotonic() + time_limit_s)
    return program.solved()


def _positions(problem: Problem, triples: Iterable[Triple]) -> set[Arc]:
    position = {profile.agent: index for index, profile in enumerate(problem.agents)}
    arcs = set()
    for triple in triples:
        slow, fast, cut = triple
        known = slow in position and fast in position and 1 <= cut <= len(problem.cuts)
        if not known or not np.isfinite(problem.finish_s[position[slow], position[fast], cut - 1]):
            raise InputError("(slow, fast, cut)", tuple(triple), "is no possible pair of this fleet")
        arcs.add((position[slow], position[fast], cut - 1))
    return arcs


class _Program:
    """The program, the best arcs found, and the bound that is proven. Times are in units of the solo time."""

    def __init__(
        self, problem: Problem, shared: bool, never: set[Arc], always: set[Arc], deadline: float
    ) -> None:
        import pulp

        self.problem, self.shared, self.deadline = problem, shared, deadline
        self.unit_s = max(profile.solo_s for profile in problem.agents)
        self.lower_s = lower_bound_s(problem.agents, problem.finish_s, problem.cuts)
        self.bound_s = self.lower_s
        self.solver_name = "HiGHS" if _has_highs() else "CBC"
        self.costs = group_costs(problem)
        self.best: list[Arc] | None = None
        self.best_s = inf
        if not (never or always):
            self._offer(greedy(problem))
        self.lp = pulp.LpProblem("pairing", pulp.LpMinimize)
        add = getattr(self.lp, "add_variable", pulp.LpVariable)  # PuLP 3.3 and later, or before
        self.tau = add("tau", lowBound=self.bound_s / self.unit_s)
        self.x = {arc: add("x_{}_{}_{}".format(*arc), cat="Binary") for arc in self._arcs(never, always)}
        self.has_forced = bool(always)
        for arc in always:
            self.lp += self.x[arc] == 1
        self._add_roles()
        if shared:
            self._add_groups()

    def _arcs(self, never: set[Arc], always: set[Arc]) -> list[Arc]:
        worth = self.problem.finish_s <= self.best_s
        worth &= np.isfinite(self.problem.finish_s)
        if not (never or always):
            worth[self.problem.solo_s <= self.bound_s] = False
        arcs = ((int(slow), int(fast), int(cut)) for slow, fast, cut in np.argwhere(worth))
        return [arc for arc in arcs if arc not in never]

    def _add_roles(self) -> None:
        import pulp

        for agent, solo_s in enumerate(self.problem.solo_s.tolist()):
            away = [arc for arc in self.x if arc[0] == agent]
            here = [] if self.shared else [arc for arc in self.x if arc[1] == agent]
            paired = pulp.lpSum(self.x[arc] for arc in away + here)
            if np.isinf(solo_s):
                self.lp += paired == 1
                solo_s = 0.0
            else:
                self.lp += paired <= 1
            ends = pulp.lpSum(self._units(self.problem.finish_s[arc]) * self.x[arc] for arc in away + here)
            self.lp += self.tau >= self._units(solo_s) * (1 - paired) + ends

    def _add_groups(self) -> None:
        import pulp

        for fast, profile in enumerate(self.problem.agents):
            here = [arc for arc in self.x if arc[1] == fast]
            away = pulp.lpSum(self.x[arc] for arc in self.x if arc[0] == fast)
            if not here:
                continue
            work = pulp.lpSum(self._units(self._work_s(arc)) * self.x[arc] for arc in here)
            self.lp += self.tau >= self._units(profile.solo_s) * (1 - away) + work
            card = pulp.lpSum(self._units(self._card_s(arc)) * self.x[arc] for arc in here)
            room = self.costs.agents.memory_bytes[fast] - self.costs.whole_bytes
            if np.isfinite(room):
                held = (self.costs.partner_bytes[arc[2]] / room * self.x[arc] for arc in here)
                self.lp += pulp.lpSum(held) <= 1
            for slow in sorted({arc[0] for arc in here}):
                mine = [arc for arc in here if arc[0] == slow]
                self.lp += pulp.lpSum(self.x[arc] for arc in mine) + away <= 1
                extra = pulp.lpSum(self._units(self._extra_s(arc)) * self.x[arc] for arc in mine)
                self.lp += self.tau >= card + extra

    def _units(self, seconds: float) -> float:
        return float(seconds) / self.unit_s

    def _work_s(self, arc: Arc) -> float:
        return self._work(arc) / self.problem.agents[arc[1]].batches_per_s

    def _card_s(self, arc: Arc) -> float:
        return self._traffic(arc) / float(self.costs.card_bytes_per_s[arc[1]])

    def _extra_s(self, arc: Arc) -> float:
        if not self.costs.is_pipeline:
            return 0.0
        slow, fast, cut = arc
        once = min(1.0, self.problem.agents[slow].num_batches)
        slow_s = self.problem.cuts[cut].slow_share / self.problem.agents[slow].batches_per_s
        fast_s = self.problem.cuts[cut].fast_share / self.problem.agents[fast].batches_per_s
        return once * slow_s + float(self.costs.agents.latency_s[slow, fast]) + once * fast_s

    def solved(self) -> Solved:
        """Minimise the makespan, then the offloaded work, then the traffic."""
        self._minimise_makespan()
        if self.best is None:
            raise InputError("agents", [profile.agent for profile in self.problem.agents], self._why())
        proven = self.best_s <= self.bound_s * (1 + _EXACTLY)
        if proven:
            self._lighten()
        plan = as_plan(self.problem, self.best, "integer-program")
        bound_s = min(self.bound_s, plan.makespan_s)
        gap = 0.0 if proven else 1 - bound_s / plan.makespan_s
        return Solved(plan=plan, proven=proven, bound_s=bound_s, gap=gap, solver_name=self.solver_name)

    def _minimise_makespan(self) -> None:
        while self.best_s > self.bound_s * (1 + _EXACTLY) and self._left_s() > 0:
            found = self._optimum(self.tau)
            if found is None:
                return
            arcs, bound = found
            self.bound_s = max(self.bound_s, min(bound * self.unit_s, self.best_s))
            self._offer(arcs)
            if not self._add_cuts(arcs, bound * self.unit_s):
                return

    def _lighten(self) -> None:
        """Among the plans with the best makespan find the one with the least work, then traffic."""
        import pulp

        if makespan_s(self.problem, []) <= self.best_s and not self.has_forced:
            self.best = []
            return
        self.tau.upBound = self._units(self.best_s * (1 + _EXACTLY))
        for amount in (self._work, self._traffic):
            most = max(map(amount, self.x)) or 1.0
            total = pulp.lpSum(amount(arc) / most * self.x[arc] for arc in self.x)
            while self._left_s() > 0:
                found = self._optimum(total)
                if found is None:
                    return
                arcs, least = found
                if makespan_s(self.problem, arcs) <= self.best_s * (1 + 2 * _EXACTLY):
                    self.best = arcs
                    self.lp += total <= least + _EXACTLY * max(least, 1.0)
                    break
                if not self._add_cuts(arcs, self.best_s):
                    return

    def _optimum(
        self, objective: "pulp.LpVariable | pulp.LpAffineExpression"
    ) -> tuple[list[Arc], float] | None:
        """Return the arcs of an optimum, and a bound for the objective; None if there is no solution."""
        import pulp

        self.lp.setObjective(objective * 1)
        solver = self._solver()
        if self.lp.solve(solver) != pulp.LpStatusOptimal:
            return None
        values = {arc: x.value() for arc, x in self.x.items()}
        if any(value is None for value in values.values()):
            return None
        arcs = [arc for arc, value in values.items() if value > 0.5]
        bound = pulp.value(objective) if self.lp.sol_status == pulp.LpSolutionOptimal else 0.0
        if self.solver_name == "HiGHS":
            bound = min(float(pulp.value(objective)), self.lp.solverModel.getInfo().mip_dual_bound)
        return arcs, float(bound)

    def _solver(self) -> "pulp.LpSolver":
        import pulp

        if self.solver_name == "HiGHS":
            names = (
                "mip_feasibility_tolerance",
                "primal_feasibility_tolerance",
                "dual_feasibility_tolerance",
            )
            exactly = dict.fromkeys(names, _TOLERANCE)
            return pulp.HiGHS(
                msg=False, threads=1, timeLimit=self._left_s(), gapRel=0.0, gapAbs=_TOLERANCE, **exactly
            )
        return pulp.PULP_CBC_CMD(msg=False, threads=1, timeLimit=self._left_s(), gapRel=0.0)

    def _add_cuts(self, arcs: list[Arc], reached_s: float) -> bool:
        """Add rows that the groups of a solution break; False if it breaks none."""
        import pulp

        low, broken = self._units(self.lower_s), False
        for fast in sorted({arc[1] for arc in arcs}):
            group = [arc for arc in arcs if arc[1] == fast]
            end_s = max(arc_finish_s(self.problem, group).values())
            if end_s <= reached_s * (1 + _EXACTLY):
                continue
            broken = True
            missing = len(group) - pulp.lpSum(self.x[arc] for arc in group)
            self.lp += self.tau >= low + self._over(end_s) * (1 - missing)
            fastest_s, fastest = self._fastest_cuts(group)
            self._offer([arc for arc in arcs if arc[1] != fast] + fastest)
            if fastest_s > self.lower_s:
                pairs = {arc[:2] for arc in group}
                members = pulp.lpSum(x for arc, x in self.x.items() if arc[:2] in pairs)
                self.lp += self.tau >= low + self._over(fastest_s) * (1 - len(group) + members)
        return broken

    def _over(self, end_s: float) -> float:
        """How far an end is above the lower bound; 2 solo times stand for what memory forbids."""
        return self._units(min(end_s, 2 * self.unit_s + self.lower_s) - self.lower_s)

    def _fastest_cuts(self, group: list[Arc]) -> tuple[float, list[Arc]]:
        """Try all cuts of the pairs of a group; (0, the group) if there are too many ways."""
        ways = [[arc for arc in self.x if arc[:2] == pair[:2]] for pair in group]
        if prod(map(len, ways)) > _MOST_WAYS:
            return 0.0, group
        slow, fast, cut = np.moveaxis(np.array(list(product(*ways)), dtype=np.intp), 2, 0)
        ends_s = self.costs.finish_s(fast[:, 0], slow, cut)
        best = int(ends_s.argmin())
        return float(ends_s[best]), list(
            zip(slow[best].tolist(), fast[best].tolist(), cut[best].tolist(), strict=True)
        )

    def _offer(self, arcs: list[Arc]) -> None:
        end_s = makespan_s(self.problem, arcs)
        if end_s < self.best_s:
            self.best, self.best_s = sorted(arcs), end_s

    def _work(self, arc: Arc) -> float:
        return self.problem.agents[arc[0]].num_batches * self.problem.cuts[arc[2]].fast_share

    def _traffic(self, arc: Arc) -> float:
        return self.problem.agents[arc[0]].num_batches * self.problem.cuts[arc[2]].bytes_per_batch

    def _left_s(self) -> float:
        return self.deadline - time.monotonic()

    def _why(self) -> str:
        if self._left_s() <= 0:
            return "have no plan that was found within the time limit"
        return "have no plan that meets all constraints: memory, links, forbidden and forced pairs"


@cache
def _has_highs() -> bool:
    """Tell whether HiGHS is there; its first object prints a banner on descriptor 1, which we keep empty."""
    try:
        import highspy
    except ImportError:
        return False
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        highspy.Highs()  # type: ignore[no-untyped-call]
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
    return True
