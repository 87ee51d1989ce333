"""The rows of the integer program: what a plan must keep, and how long it takes at least.

One to one, as S. M. Sajjadi Mohammadabadi et al., IEEE ICDCS 2024, put it (symbols of costs.py):

    x_ijm in {0, 1}       slow agent i is helped by j at cut m, for each possible pair;  tau >= 0
    y_v = 1 - sum of x_vjm - sum of x_ivm >= 0                   v trains alone, and has one role
    tau >= T_v y_v + sum of C_vjm x_vjm + sum of C_ivm x_ivm     no big-M: one term is active per agent
    y_v = 0 where v cannot hold the whole model
    minimise tau; then, with tau kept, the sum of C_ijm x_ijm; then, with both kept, the traffic

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

where L is the lower bound of the makespan.

Without extra constraints there are only pairs that end by the makespan of `greedy`, and only agents with
T_i > L offload (taking away help never makes a group longer). One to one, also without a cut that another cut
of the same pair beats: it ends no later and sends no more, and one of the two is less. Times are in units of
the longest solo time.

Large fleets have some hundred thousand pairs, and for these Python takes longer than many a time limit: what
is built looks at the clock, and so does what hands it to the solver (`hand_over_s`).
"""

import time
from functools import partial
from itertools import permutations, product
from math import inf, prod

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.planning.costs import lower_bound_s
from comdml_flwr.planning.solvers.matching import greedy
from comdml_flwr.planning.solvers.problem import Arc, Problem, arc_finish_s, group_costs, makespan_s

EXACTLY = 1e-7  # relative: what "proven" means
_MOST_WAYS = 5000  # cuts of a group that are tried one by one


class Rows:
    """The program in PuLP's terms, and the best arcs that are known.

    Parameters
    ----------
    problem : Problem
        What is planned.
    shared : bool
        Whether a helper may serve several slow agents.
    never, always : set[Arc]
        Pairs that must not, or must, be in the plan.
    deadline : float
        When `build` gives up, by time.monotonic().
    """

    def __init__(
        self, problem: Problem, shared: bool, never: set[Arc], always: set[Arc], deadline: float = inf
    ) -> None:
        import pulp

        self.problem, self.shared = problem, shared
        self.unit_s = max(profile.solo_s for profile in problem.agents)
        self.lower_s = lower_bound_s(problem.agents, problem.finish_s, problem.cuts)
        self.costs = group_costs(problem)
        self.best: list[Arc] | None = None
        self.best_s = inf
        if not (never or always):
            self.offer(greedy(problem))
        self.never, self.always, self.deadline = never, always, deadline
        self.is_built, self.hand_over_s = False, 0.0
        self.lp = pulp.LpProblem("pairing", pulp.LpMinimize)
        self._add_variable = getattr(self.lp, "add_variable", pulp.LpVariable)  # PuLP 3.3, or before
        self.tau = self._add_variable("tau", lowBound=self.units(self.lower_s))
        self.x: dict[Arc, pulp.LpVariable] = {}
        self.away: dict[int, list[Arc]] = {}  # by the slow agent, and below by the helper
        self.here: dict[int, list[Arc]] = {}

    def build(self) -> bool:
        """Put the rows together; False if that takes longer than there is time."""
        began = time.monotonic()
        steps = [partial(self._add_arc, arc) for arc in self._arcs()]
        for agent in range(len(self.problem.agents)):
            steps.append(partial(self._add_role, agent))
            if self.shared:
                steps.append(partial(self._add_group, agent))
        for number, step in enumerate(steps):
            if number % 100 == 0 and time.monotonic() > self.deadline:
                return False
            step()
        self.hand_over_s = (time.monotonic() - began) / 2  # as measured: a third to a half of building
        self.is_built = True
        return True

    def _arcs(self) -> list[Arc]:
        worth = self.problem.finish_s <= self.best_s
        worth &= np.isfinite(self.problem.finish_s)
        if not (self.never or self.always):
            worth[self.problem.solo_s <= self.lower_s] = False
            if not self.shared:
                worth &= ~self._beaten()
        arcs = ((slow, fast, cut) for slow, fast, cut in np.argwhere(worth).tolist())
        return [arc for arc in arcs if arc not in self.never]

    def _beaten(self) -> NDArray[np.bool_]:
        """Tell of each pair and cut [K, K, M] whether another cut ends no later and sends no more."""
        finish_s, beaten = self.problem.finish_s, np.zeros(self.problem.finish_s.shape, dtype=np.bool_)
        sizes = [cut.bytes_per_batch for cut in self.problem.cuts]
        for one, other in permutations(range(len(sizes)), 2):
            if sizes[other] < sizes[one]:
                beaten[:, :, one] |= finish_s[:, :, other] <= finish_s[:, :, one]
            elif sizes[other] == sizes[one]:
                beaten[:, :, one] |= finish_s[:, :, other] < finish_s[:, :, one]
        return beaten

    def _add_arc(self, arc: Arc) -> None:
        self.x[arc] = self._add_variable("x_{}_{}_{}".format(*arc), cat="Binary")
        self.away.setdefault(arc[0], []).append(arc)
        self.here.setdefault(arc[1], []).append(arc)
        if arc in self.always:
            self.lp += self.x[arc] == 1

    def _add_role(self, agent: int) -> None:
        import pulp

        solo_s = float(self.problem.solo_s[agent])
        arcs = [*self.away.get(agent, ()), *(() if self.shared else self.here.get(agent, ()))]
        paired = pulp.lpSum(self.x[arc] for arc in arcs)
        if np.isinf(solo_s):
            self.lp += paired == 1
            solo_s = 0.0
        else:
            self.lp += paired <= 1
        ends = pulp.lpSum(self.units(self.problem.finish_s[arc]) * self.x[arc] for arc in arcs)
        self.lp += self.tau >= self.units(solo_s) * (1 - paired) + ends

    def _add_group(self, fast: int) -> None:
        import pulp

        here, profile = self.here.get(fast), self.problem.agents[fast]
        if not here:
            return
        away = pulp.lpSum(self.x[arc] for arc in self.away.get(fast, ()))
        work = pulp.lpSum(self.units(self._work_s(arc)) * self.x[arc] for arc in here)
        self.lp += self.tau >= self.units(profile.solo_s) * (1 - away) + work
        card = pulp.lpSum(self.units(self._card_s(arc)) * self.x[arc] for arc in here)
        room = self.costs.agents.memory_bytes[fast] - self.costs.whole_bytes
        if np.isfinite(room):
            held = (self.costs.helping_bytes[arc[2]] / room * self.x[arc] for arc in here)
            self.lp += pulp.lpSum(held) <= 1
        for slow in sorted({arc[0] for arc in here}):
            mine = [arc for arc in here if arc[0] == slow]
            self.lp += pulp.lpSum(self.x[arc] for arc in mine) + away <= 1
            extra = pulp.lpSum(self.units(self._extra_s(arc)) * self.x[arc] for arc in mine)
            self.lp += self.tau >= card + extra

    def add_cuts(self, arcs: list[Arc], reached_s: float) -> bool:
        """Add rows that the groups of a solution break; False if it breaks none."""
        import pulp

        low, broken = self.units(self.lower_s), False
        for fast in sorted({arc[1] for arc in arcs}):
            group = [arc for arc in arcs if arc[1] == fast]
            end_s = max(arc_finish_s(self.problem, group).values())
            if end_s <= reached_s * (1 + EXACTLY):
                continue
            broken = True
            missing = len(group) - pulp.lpSum(self.x[arc] for arc in group)
            self.lp += self.tau >= low + self._over(end_s) * (1 - missing)
            fastest_s, fastest = self._fastest_cuts(group)
            self.offer([arc for arc in arcs if arc[1] != fast] + fastest)
            if fastest_s > self.lower_s:
                pairs = {arc[:2] for arc in group}
                members = pulp.lpSum(x for arc, x in self.x.items() if arc[:2] in pairs)
                self.lp += self.tau >= low + self._over(fastest_s) * (1 - len(group) + members)
        return broken

    def _over(self, end_s: float) -> float:
        """How far an end is above the lower bound; 2 solo times stand for what memory forbids."""
        return self.units(min(end_s, 2 * self.unit_s + self.lower_s) - self.lower_s)

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

    def offer(self, arcs: list[Arc]) -> None:
        """Keep the arcs if they are the best yet."""
        end_s = makespan_s(self.problem, arcs)
        if end_s < self.best_s:
            self.best, self.best_s = sorted(arcs), end_s

    def units(self, seconds: float) -> float:
        """Express a time in units of the longest solo time."""
        return float(seconds) / self.unit_s

    def work(self, arc: Arc) -> float:
        """Return what a pair offloads, in batches of the whole model: N_i b_m."""
        return self.problem.agents[arc[0]].num_batches * self.problem.cuts[arc[2]].fast_share

    def pair_s(self, arc: Arc) -> float:
        """Return when a pair has finished, if its helper has no other partner: C_ijm."""
        return float(self.problem.finish_s[arc])

    def traffic(self, arc: Arc) -> float:
        """Return what a pair sends, in bytes: N_i d_m."""
        return self.problem.agents[arc[0]].num_batches * self.problem.cuts[arc[2]].bytes_per_batch

    def _work_s(self, arc: Arc) -> float:
        return self.work(arc) / self.problem.agents[arc[1]].batches_per_s

    def _card_s(self, arc: Arc) -> float:
        return self.traffic(arc) / float(self.costs.card_bytes_per_s[arc[1]])

    def _extra_s(self, arc: Arc) -> float:
        if not self.costs.is_pipeline:
            return 0.0
        slow, fast, cut = arc
        once = min(1.0, self.problem.agents[slow].num_batches)
        slow_s = self.problem.cuts[cut].slow_share / self.problem.agents[slow].batches_per_s
        fast_s = self.problem.cuts[cut].fast_share / self.problem.agents[fast].batches_per_s
        return once * slow_s + float(self.costs.agents.latency_s[slow, fast]) + once * fast_s
