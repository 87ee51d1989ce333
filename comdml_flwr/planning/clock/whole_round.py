"""Whether a plan pays: judged by the whole round, averaging included, not by its training alone.

Offloading ends the training early and then costs: a helper sends its partner's upper layers beside its own
model, a slow agent its activations. On fast devices or slow links that is more than the training gains. So
the round is simulated by the clock of a run, with the plan and without offload:

    the plan's round is no longer             the plan is taken
    it is longer                              some pairs are dropped: those whose slow agents take least time
                                              alone, one by one where there are few, else half of them at a
                                              time. Of what is left each time, and of no pair at all, the
                                              shortest round is taken; of equals the one with fewer pairs.

Hence no round is longer than without offload. A pair whose slow agent cannot hold the whole model is never
dropped: for it there is no round without offload.

The answer depends on profiles, plan and sizes alone, so all agents find the same. At most about
log2(number of pairs) + FEW rounds are simulated, and two if the plan pays.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf

from comdml_flwr.planning.clock.mixing_simulation import simulate_mixing_round
from comdml_flwr.planning.clock.simulation import FleetClocks, RoundTimes, Workload, simulate_round
from comdml_flwr.planning.costs import solo_times_s
from comdml_flwr.planning.types import CutTable, Link, Pair, Plan, Profile

FEW = 8  # pairs that are dropped one by one

RoundClock = Callable[[Plan | None], RoundTimes]
"""What a round takes with a plan; with None: without offload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A plan that pays, and what its round takes.

    Parameters
    ----------
    plan : Plan
        The plan that was judged, or what is left of it.
    times, no_offload : RoundTimes
        Of the round with this plan, and without offload.
    dropped : tuple[Pair, ...]
        Pairs of the plan that was judged which would have made the round longer.
    """

    plan: Plan
    times: RoundTimes
    no_offload: RoundTimes
    dropped: tuple[Pair, ...] = ()


def round_clock(
    profiles: Sequence[Profile],
    relay: Link,
    workload: Workload,
    newcomers: Sequence[int] = (),
    averaging: str = "allreduce",
) -> RoundClock:
    """Return the clock of a round of these agents.

    Parameters
    ----------
    profiles : Sequence[Profile]
        Of the agents that take part, in ascending id.
    relay, workload, newcomers
        As of `simulation.simulate_round`.
    averaging : str
        "allreduce" or "mixing".
    """
    if averaging == "mixing":
        return lambda plan: simulate_mixing_round(profiles, relay, plan, workload, newcomers)
    clocks = FleetClocks.of(profiles, relay)
    return lambda plan: simulate_round(clocks, plan, workload, newcomers)


def judge(plan: Plan, profiles: Sequence[Profile], cuts: CutTable, clock: RoundClock) -> Judged:
    """Return what of a plan pays in the whole round; see the module docstring.

    Parameters
    ----------
    plan : Plan
        With one helper for each slow agent.
    profiles, cuts
        What it is for.
    clock : RoundClock
        Of the round.
    """
    no_offload = clock(None)
    times = clock(plan) if plan.pairs else no_offload
    if times.virtual_time_s <= no_offload.virtual_time_s:
        return Judged(plan=plan, times=times, no_offload=no_offload)
    agents = sorted(profiles, key=lambda profile: profile.agent)
    solo_s = dict(zip((p.agent for p in agents), solo_times_s(agents, cuts).tolist(), strict=True))
    ways = [(plan, times)]
    for left in _thinned(plan, solo_s):
        smaller = _with_pairs(plan, left, solo_s)
        ways.append((smaller, clock(smaller) if left else no_offload))
    best, times = min(ways, key=lambda way: (way[1].virtual_time_s, len(way[0].pairs)))
    dropped = tuple(pair for pair in plan.pairs if pair not in best.pairs)
    return Judged(plan=best, times=times, no_offload=no_offload, dropped=dropped)


def _thinned(plan: Plan, solo_s: dict[int, float]) -> list[tuple[Pair, ...]]:
    """Return the pairs that are left after each step, fewer and fewer."""
    slowest_first = sorted(plan.pairs, key=lambda pair: (-solo_s[pair.slow], pair.slow))
    fewest = sum(solo_s[pair.slow] == inf for pair in plan.pairs)
    counts, count = [], len(slowest_first)
    while count > fewest:
        count = max(fewest, count - 1 if count <= FEW else max(FEW, count // 2))
        counts.append(count)
    return [tuple(sorted(slowest_first[:count], key=lambda pair: pair.slow)) for count in counts]


def _with_pairs(plan: Plan, pairs: tuple[Pair, ...], solo_s: dict[int, float]) -> Plan:
    paired = {agent for pair in pairs for agent in (pair.slow, pair.fast)}
    solo = tuple(agent for agent in sorted(solo_s) if agent not in paired)
    ends_s = [*(pair.finish_s for pair in pairs), *(solo_s[agent] for agent in solo)]
    return replace(plan, pairs=pairs, solo=solo, makespan_s=max(ends_s))
