"""What a plan could have instead: forced pairs, their stages, and why the plan does not have them.

An alternative is a pair i -> j at cut m that is *forced*, while the same solver plans everybody else again:

    makespan of the alternative = max(tau_ij^m, makespan of the plan for all agents but i and j)

The forced pair and the plan for the others are together one of the plans among which the solver chose. So no
alternative is ever faster than the plan of `exact`; if one is faster than that of `greedy`, it says so.

A pair's time has three stages that go on side by side; symbols as in costs.py:

    slow side  N_i a_m / p_i        transfer  N_i d_m / c_ij        helper  T_j + N_i b_m / p_j

What the pair takes beyond the longest of them is `wait_s`: fill, drain and latency of the pipeline, and,
where a solver lets pairs share a helper, the time that the others cost. The bottleneck is the largest of the
four.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Literal, TypeAlias

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.costs import pair_finish_s
from comdml_flwr.planning.pairing import pair_agents
from comdml_flwr.planning.types import NO_LINK, CutTable, Pair, Plan, Profile

Role: TypeAlias = Literal["slow", "fast", "alone"]
Stage: TypeAlias = Literal["slow side", "transfer", "helper", "waiting"]
Reason: TypeAlias = Literal[
    "taken",  # the plan has it
    "faster",  # the solver did not find it
    "slower",  # the slow agent ends no later alone
    "late",  # the pair itself ends after the makespan
    "needed",  # another agent needs the helper; without it the makespan rises
    "not-needed",  # the slow agent is in time alone
    "busy",  # the helper has another partner; to change that gains nothing
    "later",  # nobody else waits for it, but the pair itself ends later
    "more-traffic",  # the pair ends at the same time, with more bytes
    "tie",  # as good
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A pair that the plan has, or could have.

    Parameters
    ----------
    slow, fast, cut : int
        Who offloads to whom at which cut.
    finish_s : float
        When the later of the two has finished.
    slow_s, transfer_s, helper_s, wait_s : float
        The longest of the first three, and the last, add up to `finish_s`; see the module docstring.
    makespan_s : float
        End of everybody's training if this pair is forced and the others are planned again; inf if they then
        have no plan.
    reason : Reason
        Why the plan does not have it, or "taken".
    needed_by : int or None
        For "needed" and "busy": whom the helper helps in the plan.
    """

    slow: int
    fast: int
    cut: int
    finish_s: float
    slow_s: float
    transfer_s: float
    helper_s: float
    wait_s: float
    makespan_s: float
    reason: Reason = "taken"
    needed_by: int | None = None

    @property
    def bottleneck(self) -> Stage:
        """The stage that takes longest; the earlier one of equals."""
        stages: tuple[tuple[Stage, float], ...] = (
            ("slow side", self.slow_s),
            ("transfer", self.transfer_s),
            ("helper", self.helper_s),
            ("waiting", self.wait_s),
        )
        return max(stages, key=lambda stage: stage[1])[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A fleet with its plan."""

    profiles: Mapping[int, Profile]
    cuts: CutTable
    plan: Plan

    def partners(self, agent: int, role: Role, taken: set[int]) -> tuple[tuple[Option, ...], tuple[int, ...]]:
        """Return the best option with each other partner, earliest first, and who cannot be one."""
        options: list[Option] = []
        impossible: list[int] = []
        for other in sorted(self.profiles.keys() - {agent} - taken):
            slow, fast = (other, agent) if role == "fast" else (agent, other)
            found = self.options(slow, fast)
            if found:
                options.append(min(found, key=lambda option: (option.finish_s, option.cut)))
            else:
                impossible.append(other)
        return tuple(sorted(options, key=lambda option: option.finish_s)), tuple(impossible)

    def options(self, slow: int, fast: int) -> tuple[Option, ...]:
        """Return a pair at all cuts at which it is possible; their makespan is not known yet."""
        i, j = self.profiles[slow], self.profiles[fast]
        finish_s = pair_finish_s((i, j), self.cuts, self.plan.time_model)[0, 1].tolist()
        return tuple(
            self._option(i, j, cut, end_s) for cut, end_s in enumerate(finish_s, 1) if isfinite(end_s)
        )

    def _option(self, i: Profile, j: Profile, cut: int, finish_s: float) -> Option:
        costs = self.cuts[cut]
        ways = (i.links.get(j.agent, NO_LINK), j.links.get(i.agent, NO_LINK))
        slow_s = i.num_batches * costs.slow_share / i.batches_per_s
        bytes_per_s = min(i.nic_bytes_per_s, j.nic_bytes_per_s, *(link.bytes_per_s for link in ways))
        transfer_s = i.num_batches * costs.bytes_per_batch / bytes_per_s
        helper_s = j.solo_s + i.num_batches * costs.fast_share / j.batches_per_s
        return Option(
            slow=i.agent,
            fast=j.agent,
            cut=cut,
            finish_s=finish_s,
            slow_s=slow_s,
            transfer_s=transfer_s,
            helper_s=helper_s,
            wait_s=max(finish_s - max(slow_s, transfer_s, helper_s), 0.0),
            makespan_s=finish_s,
        )

    def taken(self, pair: Pair) -> Option:
        """Return a pair of the plan as an option."""
        option = self._option(self.profiles[pair.slow], self.profiles[pair.fast], pair.cut, pair.finish_s)
        return replace(option, makespan_s=self.plan.makespan_s)

    def other_cuts(self, pair: Pair) -> tuple[Option, ...]:
        """Return a pair of the plan at its other cuts."""
        options = [option for option in self.options(pair.slow, pair.fast) if option.cut != pair.cut]
        others_s = self.makespan_without_s(pair.slow, pair.fast)
        return tuple(self.judged(option, pair, others_s) for option in options)

    def judged(self, option: Option, pair: Pair | None, others_s: float | None = None) -> Option:
        """Work out what an option does to the makespan, and why the plan does not have it.

        `pair` is the pair of the plan of which the option is another cut.
        """
        if others_s is None:
            others_s = self.makespan_without_s(option.slow, option.fast)
        option = replace(option, makespan_s=max(option.finish_s, others_s))
        helped = next((p.slow for p in self.plan.pairs if p.fast == option.fast and p != pair), None)
        reason = self._reason(option, pair, helped)
        return replace(option, reason=reason, needed_by=helped if reason in ("needed", "busy") else None)

    def makespan_without_s(self, *agents: int) -> float:
        """Plan all but these agents; 0 if nobody is left, inf if the others have no plan."""
        return self._makespan_s([profile for agent, profile in self.profiles.items() if agent not in agents])

    def solo_s(self, agent: int) -> float:
        """Return an agent's time without offload; inf if it cannot train alone."""
        return self._makespan_s([self.profiles[agent]])

    def _makespan_s(self, profiles: Sequence[Profile]) -> float:
        if not profiles:
            return 0.0
        plan = self.plan
        try:
            found = pair_agents(profiles, self.cuts, solver=plan.solver, time_model=plan.time_model)
        except InputError:  # the whole fleet has a plan, so these have too little memory
            return inf
        return found.makespan_s

    def _reason(self, option: Option, pair: Pair | None, helped: int | None) -> Reason:
        solo_s, makespan_s = self.solo_s(option.slow), self.plan.makespan_s
        if option.makespan_s < makespan_s:
            return "faster"
        if option.finish_s >= solo_s:
            return "slower"
        if option.finish_s > makespan_s:
            return "late"
        if option.makespan_s > makespan_s:
            return "needed" if helped is not None else "late"
        if pair is not None:
            return self._no_better(option, pair)
        if solo_s <= makespan_s:
            return "not-needed"
        if helped is not None:
            return "busy"
        taken = next((pair for pair in self.plan.pairs if pair.slow == option.slow), None)
        return self._no_better(option, taken) if taken is not None else "tie"

    def _no_better(self, option: Option, taken: Pair) -> Reason:
        """Compare with the plan's pair what `exact` compares: the end, then the traffic."""
        if option.finish_s > taken.finish_s:
            return "later"
        own, other = self.cuts[taken.cut], self.cuts[option.cut]
        is_as_late = option.finish_s == taken.finish_s
        return "more-traffic" if is_as_late and other.bytes_per_batch > own.bytes_per_batch else "tie"
