"""Helpers that serve several slow agents: a search that starts from the exact one-to-one plan.

With helpers of unlimited capacity the pairing is makespan on unrelated machines, which is NP-hard (and no
algorithm of polynomial time is known to come closer than a factor of 2: J. K. Lenstra, D. B. Shmoys, E.
Tardos, "Approximation algorithms for scheduling unrelated parallel machines", Math. Programming 46, 1990). So
this is a heuristic. It is never worse than `exact`, and integer_program.py tells how far from the optimum.

The search asks again and again: "can everybody end by tau?" As in matching.py, the agents U with T_i > tau
must offload, all others may help, and none of U can: a group ends after its helper's own T_j.

    insert   Each agent of U has a price for each helper and cut: the share of the helper's time that it
             takes, N_i b_m / p_j / (tau - T_j), plus the share of its downlink, N_i d_m / D_j / tau. The
             agent with the largest regret (second best helper's price minus the best one's) takes its best.
             After that the ends of this helper's group are predicted again with each other agent and cut.
    repair   If an agent is left without a way: let it take the place of another one in some group, which
             moves to another helper (move, swap) or to another cut of the same helper (change cut).
    bisect   tau between the lower bound and the best makespan yet, from an empty plan (this opens helpers).
    descend  tau just below the best makespan, from the best plan yet: its late groups are emptied and their
             agents inserted again, and helpers that are late themselves become slow agents (this closes).

At last each agent in turn takes the helper and cut with the earliest end of its group, then the least
traffic, as long as all end by the makespan found. There is no randomness; ties go to the lowest position,
then cut; the number of steps is bounded, not the time, so all machines find the same plan. (Unless whoever
asks stops the search, with `Progress`: then it ends with the best plan yet.)

Why no chains (a slow agent cut twice, its middle part trained by one helper, its upper part by another):
computed for 20 draws of comdml-100 (experiments/solver_comparison.py) with "overlap". With all helpers to
itself, an agent with 1, 0.5 or 0.2 CPUs would end 19-25 % earlier by the best chain than by the best pair,
for it divides its work between two 4-CPU helpers; agents with 2 or 4 CPUs gain at most 1 % on average. But
helpers are not idle in a fleet: a chain moves the same work to them, more bytes (a second activation of 6-25
MiB per batch), and a second auxiliary head. `shared` ends 4 % (1 CPU = 1e9 FLOP/s) or 14 % (2.6 s per batch)
after the fractional bound of that experiment, in which agents divide their batches among helpers at will:
that is what finer parts could win at most, apart from reaching a helper around a slow link. So a chain is
worth it only for few slow agents among many idle fast ones; a third part of the model, its head, its memory
and its place in the average are too much for that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

import numpy as np

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.costs import FloatArray
from comdml_flwr.planning.solvers.groups import GroupCosts, IntArray
from comdml_flwr.planning.solvers.matching import exact
from comdml_flwr.planning.solvers.problem import (
    Arc,
    Problem,
    arc_finish_s,
    group_costs,
    makespan_s,
    no_memory,
)

Member = tuple[int, int]  # position of a slow agent, index of its cut

Listener: TypeAlias = Callable[[float, float], bool]
"""Hears below which makespan the search does not look, and the best one yet; tells whether to go on."""

_TOLERANCE = 1e-3  # bisection stops here; a round is not predicted better than this
_MAX_DESCENTS = 20
_STEP = 1e-4  # a descent must win at least this share


@dataclass(slots=True)
class Progress:
    """How far a search is, and whether it goes on."""

    listener: Listener | None = None
    low_s: float = 0.0
    best_s: float = inf
    is_stopped: bool = False

    def goes_on(self) -> bool:
        """Tell the listener, if any, and return whether the search goes on; once stopped, it stays so."""
        if self.listener is not None and not self.is_stopped:
            self.is_stopped = not self.listener(self.low_s, self.best_s)
        return not self.is_stopped


def share(problem: Problem, listener: Listener | None = None) -> list[Arc]:
    """Find a plan with shared helpers that ends no later than the exact one-to-one plan.

    Parameters
    ----------
    problem : Problem
        What is planned.
    listener : Listener, optional
        Hears of the progress, and may stop the search.

    Raises
    ------
    InputError
        Some agents cannot hold the whole model, and the search found no helpers for all of them.
    """
    search = _Search.of(problem, Progress(listener))
    start = search.start()
    best = search.descend(search.bisect(start))
    if makespan_s(problem, best) < makespan_s(problem, start):
        return search.settle(best)
    return start


@dataclass(frozen=True, slots=True)
class _Search:
    """A planning problem with the prices of what a slow agent takes from a helper."""

    problem: Problem
    costs: GroupCosts
    work_s: FloatArray  # [K, K, M] N_i b_m / p_j
    card_s: FloatArray  # [K, K, M] N_i d_m / D_j
    progress: Progress

    @classmethod
    def of(cls, problem: Problem, progress: Progress) -> "_Search":
        costs = group_costs(problem)
        num_batches = costs.agents.num_batches[:, :, None]
        with np.errstate(divide="ignore", invalid="ignore"):  # an agent without links has a card of speed 0
            work_s = num_batches * costs.fast_share / costs.agents.fast_speed[0][:, None]
            card_s = num_batches * costs.bytes_per_batch / costs.card_bytes_per_s[:, None]
        return cls(problem, costs, work_s, card_s, progress)

    def start(self) -> list[Arc]:
        """Return the exact plan; where it has too few helpers, any that the search finds."""
        must = np.flatnonzero(np.isinf(self.problem.solo_s)).tolist()
        if not must:
            return exact(self.problem)
        finite_s = self.problem.finish_s[np.isfinite(self.problem.finish_s)].sum()
        anything = self.pack(float(finite_s + self.costs.agents.fast_solo_s.max()), [])
        try:
            return exact(self.problem)
        except InputError:
            if anything is None:
                raise no_memory(self.problem, must, "and helpers have too little memory for them") from None
            return anything

    def bisect(self, best: list[Arc]) -> list[Arc]:
        problem, high_s = self.problem, makespan_s(self.problem, best)
        low_s = float(np.minimum(problem.solo_s, problem.finish_s.min(axis=(1, 2))).max())
        while high_s > low_s * (1 + _TOLERANCE):
            self.progress.low_s, self.progress.best_s = low_s, high_s
            if not self.progress.goes_on():
                break
            target_s = (low_s + high_s) / 2
            arcs = self.pack(target_s, [])
            if arcs is None:
                low_s = target_s
            else:
                best, high_s = arcs, makespan_s(problem, arcs)
        return best

    def descend(self, best: list[Arc]) -> list[Arc]:
        for _ in range(_MAX_DESCENTS):
            arcs = self.pack(makespan_s(self.problem, best) * (1 - _STEP), best)
            if arcs is None:
                break
            best = arcs
            self.progress.best_s = makespan_s(self.problem, best)
        return best

    def pack(self, target_s: float, start: list[Arc]) -> list[Arc] | None:
        """Look for a plan that ends by the target; keep those groups of the start that do."""
        late = self.problem.solo_s > target_s
        groups = _Groups(self, target_s, np.flatnonzero(late), np.flatnonzero(~late))
        finish_s = arc_finish_s(self.problem, start)
        for slow, fast, cut in start:
            if late[slow] and not late[fast] and finish_s[slow, fast, cut] <= target_s:
                groups.add(slow, fast, cut)
        return groups.arcs() if groups.insert_all() else None

    def settle(self, arcs: list[Arc]) -> list[Arc]:
        """Let groups end earlier and send less where that does not make the makespan longer."""
        if not self.progress.goes_on():
            return arcs
        end_s = makespan_s(self.problem, arcs)
        late = self.problem.solo_s > end_s
        groups = _Groups(self, end_s, np.flatnonzero(late), np.flatnonzero(~late))
        for slow, fast, cut in arcs:
            if late[slow]:
                groups.add(slow, fast, cut)
        for slow, _, _ in sorted(arcs):
            if not self.progress.goes_on():
                break
            if late[slow]:
                groups.move_to_earliest(slow)
        return groups.arcs()


class _Groups:
    """A plan in the making: the members of each helper, and the end of each group with one member more."""

    def __init__(self, search: _Search, target_s: float, late: IntArray, open_: IntArray) -> None:
        self.search, self.target_s = search, target_s
        self.late, self.open = late.tolist(), open_.tolist()
        self.members: dict[int, list[Member]] = {fast: [] for fast in self.open}
        self.helper: dict[int, int] = {}
        self.end_s = np.full_like(search.problem.finish_s, np.inf)
        self.end_s[np.ix_(late, open_)] = search.problem.finish_s[np.ix_(late, open_)]
        slack_s = target_s - search.costs.agents.fast_solo_s[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            self.price = search.work_s / slack_s[:, None] + search.card_s / target_s

    def arcs(self) -> list[Arc]:
        return sorted((slow, fast, cut) for fast in self.open for slow, cut in self.members[fast])

    def add(self, slow: int, fast: int, cut: int) -> None:
        self.members[fast] = sorted([*self.members[fast], (slow, cut)])
        self.helper[slow] = fast
        self._predict(fast, self.end_s[self.late, fast])  # no end comes earlier by one member more

    def remove(self, slow: int) -> None:
        fast = self.helper.pop(slow)
        self.members[fast] = [member for member in self.members[fast] if member[0] != slow]
        self._predict(fast, self.search.problem.finish_s[self.late, fast])

    def _predict(self, fast: int, at_least_s: FloatArray) -> None:
        """Predict the ends of a group with each late agent and cut more; only those that can be in time."""
        if self.members[fast]:
            self.end_s[self.late, fast] = self._ends_s(self.members[fast], fast, self.late, at_least_s)
        else:
            self.end_s[self.late, fast] = at_least_s

    def _ends_s(self, group: list[Member], fast: int, slow: list[int], at_least_s: FloatArray) -> FloatArray:
        """Predict the end of the group with one member more; inf where at_least_s [len(slow), M] is late."""
        rows, cut = np.nonzero(at_least_s <= self.target_s)
        ends_s = np.full_like(at_least_s, np.inf)
        if len(rows):
            others = np.array(group, dtype=np.intp).reshape(-1, 2)
            members = np.empty((len(rows), len(group) + 1), dtype=np.intp)
            cuts = np.empty_like(members)
            members[:, 0], members[:, 1:] = np.array(slow)[rows], others[:, 0]
            cuts[:, 0], cuts[:, 1:] = cut, others[:, 1]
            helper = np.full(len(rows), fast, dtype=np.intp)
            ends_s[rows, cut] = self.search.costs.finish_s(helper, members, cuts)
        return ends_s

    def insert_all(self) -> bool:
        """Give each late agent a helper; False if that fails."""
        while self.search.progress.goes_on():
            waiting = [slow for slow in self.late if slow not in self.helper]
            if not waiting:
                return True
            price = np.where(self.end_s[waiting] <= self.target_s, self.price[waiting], np.inf)  # [W, K, M]
            by_helper = price.min(axis=2)
            stuck = np.flatnonzero(np.isinf(by_helper.min(axis=1)))
            if len(stuck):
                if not self._repair(waiting[int(stuck[0])]):
                    return False
                continue
            row = _largest_regret(by_helper)
            fast = int(by_helper[row].argmin())
            self.add(waiting[row], fast, int(price[row, fast].argmin()))
        return False

    def _repair(self, slow: int) -> bool:
        """Put a slow agent in the place of another one, and that one elsewhere: the cheapest such change."""
        best: tuple[float, int, int, int, int, int] | None = None
        for fast in self.open:
            if (self.search.problem.finish_s[slow, fast] > self.target_s).all():
                continue
            for other, old in self.members[fast]:
                for change in self._changes(slow, fast, other, old):
                    best = min(best or change, change)
        if best is None:
            return False
        _, fast, cut, other, to, other_cut = best
        self.remove(other)
        self.add(slow, fast, cut)
        self.add(other, to, other_cut)
        return True

    def _changes(
        self, slow: int, fast: int, other: int, old: int
    ) -> list[tuple[float, int, int, int, int, int]]:
        """List (price, helper, cut, other, other's helper, other's cut): the best one with another helper."""
        rest = [member for member in self.members[fast] if member != (other, old)]
        finish_s = self.search.problem.finish_s
        fits = self._ends_s(rest, fast, [slow], finish_s[[slow], fast])[0] <= self.target_s
        found = []
        if fits.any():
            own = np.where(fits, self.price[slow, fast], np.inf)
            price = np.where(self.end_s[other] <= self.target_s, self.price[other], np.inf)
            price[fast] = np.inf
            to, cut = divmod(int(price.argmin()), price.shape[1])
            if np.isfinite(price[to, cut]):
                total = float(own.min() + price[to, cut] - self.price[other, fast, old])
                found.append((total, fast, int(own.argmin()), other, to, cut))
            for mine in np.flatnonzero(fits).tolist():
                ends_s = self._ends_s([*rest, (slow, mine)], fast, [other], finish_s[[other], fast])[0]
                for cut in np.flatnonzero(ends_s <= self.target_s).tolist():
                    total = float(self.price[slow, fast, mine] + self.price[other, fast, cut])
                    total -= float(self.price[other, fast, old])
                    found.append((total, fast, mine, other, fast, cut))
        return found

    def move_to_earliest(self, slow: int) -> None:
        self.remove(slow)
        problem, num_batches = self.search.problem, self.search.problem.agents[slow].num_batches
        ways = [
            (
                float(self.end_s[slow, fast, cut]),
                num_batches * problem.cuts[cut].bytes_per_batch,
                fast,
                cut,
            )
            for fast, cut in np.argwhere(self.end_s[slow] <= self.target_s).tolist()
        ]
        self.add(slow, *min(ways)[2:])


def _largest_regret(price: FloatArray) -> int:
    """Find the row whose second best column is worst in comparison with its best one; price is [W, K]."""
    if price.shape[1] < 2:
        return 0
    best, second = np.partition(price, 1, axis=1)[:, :2].T
    return int(np.lexsort((-best, -(second - best)))[0])
