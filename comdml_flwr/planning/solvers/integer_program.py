"""The pairing as an integer program, solved by HiGHS (or CBC) through PuLP: the oracle of the others.

The program and its rows are derived in integer_rows.py. It is solved three times: for the makespan, then,
with that kept, for the least sum of the pairs' times, then, with both kept, for the least traffic. Of the
other solvers it knows `greedy` alone, for a first bound, and nothing of `exact` and `shared`, which it is
there to judge.
"""

import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.solvers.integer_rows import EXACTLY, Rows
from comdml_flwr.planning.solvers.problem import Arc, Problem, arc_of, as_plan, makespan_s, pose
from comdml_flwr.planning.types import CutTable, Plan, Profile

if TYPE_CHECKING:
    import pulp

Triple = tuple[int, int, int]
"""Ids of slow and fast agent, and the cut (1..M)."""

TIME_LIMIT_S = 60.0
_TOLERANCE = 1e-9  # of HiGHS; with 1e-10 the presolve of 1.16 cut off the optimum in 1 of 500 fleets


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
        After this the best plan found is returned, whether proven or not. It counts from the call: where
        there is no time to build the program, that is the plan of `greedy`, and the bound `lower_bound_s`.
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
    deadline = time.monotonic() + time_limit_s
    problem = pose(profiles, cuts, time_model)
    never, always = _positions(problem, forbidden), _positions(problem, forced)
    if never & always:
        raise InputError("forbidden", sorted(forbidden), "must not be both forbidden and forced")
    return _Search(problem, shared, never, always, deadline).solved()


def _positions(problem: Problem, triples: Iterable[Triple]) -> set[Arc]:
    arcs = set()
    for triple in triples:
        arc = arc_of(problem, *triple)
        if arc is None or not np.isfinite(problem.finish_s[arc]):
            raise InputError("(slow, fast, cut)", tuple(triple), "is no possible pair of this fleet")
        arcs.add(arc)
    return arcs


class _Search(Rows):
    """The search for the best plan, and the bound that is proven."""

    def __init__(
        self, problem: Problem, shared: bool, never: set[Arc], always: set[Arc], deadline: float
    ) -> None:
        super().__init__(problem, shared, never, always, deadline)
        self.bound_s = self.lower_s
        self.solver_name = "HiGHS" if _has_highs() else "CBC"

    def solved(self) -> Solved:
        """Minimise the makespan, then the sum of the pairs' times, then the traffic."""
        if self.best_s > self.bound_s * (1 + EXACTLY) and self.build():
            self._minimise_makespan()
        if self.best is None:
            raise InputError("agents", [profile.agent for profile in self.problem.agents], self._why())
        proven = self.best_s <= self.bound_s * (1 + EXACTLY)
        if proven:
            self._break_ties()
        plan = as_plan(self.problem, self.best, "integer-program")
        bound_s = min(self.bound_s, plan.makespan_s)
        gap = 0.0 if proven else 1 - bound_s / plan.makespan_s
        return Solved(plan=plan, proven=proven, bound_s=bound_s, gap=gap, solver_name=self.solver_name)

    def _minimise_makespan(self) -> None:
        while self.best_s > self.bound_s * (1 + EXACTLY) and self._left_s() > self.hand_over_s:
            found = self._optimum(self.tau)
            if found is None:
                return
            arcs, bound = found
            self.bound_s = max(self.bound_s, min(bound * self.unit_s, self.best_s))
            self.offer(arcs)
            if not self.add_cuts(arcs, bound * self.unit_s):
                return

    def _break_ties(self) -> None:
        """Among the plans with the best makespan find the one whose pairs end earliest, then send least."""
        import pulp

        if makespan_s(self.problem, []) <= self.best_s and not self.always:
            self.best = []
            return
        if not (self.is_built or self.build()):
            return
        self.tau.upBound = self.units(self.best_s * (1 + EXACTLY))
        for amount in (self.pair_s, self.traffic):
            most = max(map(amount, self.x)) or 1.0
            total = pulp.lpSum(amount(arc) / most * self.x[arc] for arc in self.x)
            while self._left_s() > self.hand_over_s:
                found = self._optimum(total)
                if found is None:
                    return
                arcs, least = found
                if makespan_s(self.problem, arcs) <= self.best_s * (1 + 2 * EXACTLY):
                    self.best = arcs
                    self.lp += total <= least + EXACTLY * max(least, 1.0)
                    break
                if not self.add_cuts(arcs, self.best_s):
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
        if self.lp.sol_status != pulp.LpSolutionOptimal and not self.lp.valid(1e-6):
            return None  # out of time without any solution
        bound = pulp.value(objective) if self.lp.sol_status == pulp.LpSolutionOptimal else 0.0
        if self.solver_name == "HiGHS":
            bound = min(float(pulp.value(objective)), self.lp.solverModel.getInfo().mip_dual_bound)
        return arcs, float(bound)

    def _solver(self) -> "pulp.LpSolver":
        import pulp

        limit_s = self._left_s() - self.hand_over_s  # the solver's own clock starts when it has the program
        if self.solver_name == "HiGHS":
            names = (
                "mip_feasibility_tolerance",
                "primal_feasibility_tolerance",
                "dual_feasibility_tolerance",
            )
            exactly = dict.fromkeys(names, _TOLERANCE)
            return pulp.HiGHS(
                msg=False, threads=1, timeLimit=limit_s, gapRel=0.0, gapAbs=_TOLERANCE, **exactly
            )
        return pulp.PULP_CBC_CMD(msg=False, threads=1, timeLimit=limit_s, gapRel=0.0)

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
