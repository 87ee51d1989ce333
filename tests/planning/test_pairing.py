"""Laws of the pairing: hand tables, properties, and brute-force oracles."""

import dataclasses
import doctest
import itertools
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning import pairing
from comdml_flwr.planning.costs import TIME_MODELS, pair_finish_s
from comdml_flwr.planning.pairing import is_valid_plan, pair_agents
from comdml_flwr.planning.types import Cut, CutTable, Link, Pair, Plan, Profile

LAW = settings(max_examples=100)
ONE_TO_ONE = ("exact", "greedy")  # the others: test_integer_program.py, test_sharing.py
Instance = tuple[list[Profile], CutTable]


def fleet_of(
    speeds: Sequence[float],
    batches: Sequence[float],
    bytes_per_s: Sequence[Sequence[float]],
    latency_s: float = 0.0,
) -> list[Profile]:
    agents = range(len(speeds))
    return [
        Profile(
            agent=i,
            batches_per_s=speeds[i],
            num_batches=batches[i],
            links={j: Link(bytes_per_s=bytes_per_s[i][j], latency_s=latency_s) for j in agents if j != i},
        )
        for i in agents
    ]


def cuts_of(shares: Sequence[tuple[float, float]], sizes: Sequence[float]) -> CutTable:
    return tuple(
        Cut(slow_share=slow, fast_share=fast, bytes_per_batch=size)
        for (slow, fast), size in zip(shares, sizes, strict=True)
    )


@st.composite
def tied_instances(draw: st.DrawFn, max_agents: int = 7) -> Instance:
    """Few small powers of two, hence many ties, and sums without rounding."""

    def some(values: list[float], count: int) -> list[float]:
        return draw(st.lists(st.sampled_from(values), min_size=count, max_size=count))

    count = draw(st.integers(1, max_agents))
    links = np.triu(np.array(some([0, 1, 4], count * count)).reshape(count, count), 1)
    num_cuts = draw(st.integers(1, 3))
    shares = [0.0, 0.25, 0.5, 0.75, 1.0]
    cuts = cuts_of(
        list(zip(some(shares, num_cuts), some(shares, num_cuts), strict=True)), some([0.5, 1, 2], num_cuts)
    )
    return fleet_of(some([1, 2, 4], count), some([0.5, 2, 4, 8], count), (links + links.T).tolist()), cuts


@st.composite
def distinct_instances(draw: st.DrawFn, max_agents: int = 8, latency_s: float = 0.1) -> Instance:
    """All values differ; about a third of the pairs have no link."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, max_agents))
    links = np.triu(rng.uniform(0.5, 10, (count, count)) * (rng.random((count, count)) < 0.7), 1)
    num_cuts = draw(st.integers(1, 4))
    slow = np.sort(rng.uniform(0, 1, num_cuts))[::-1]
    shares = list(zip(slow.tolist(), (1 - slow + rng.uniform(0, 0.1, num_cuts)).tolist(), strict=True))
    cuts = cuts_of(shares, rng.uniform(0.1, 5, num_cuts).tolist())
    speeds, batches = rng.uniform(0.2, 4, count).tolist(), rng.uniform(0.3, 30, count).tolist()
    return fleet_of(speeds, batches, (links + links.T).tolist(), latency_s), cuts


@st.composite
def alike_instances(draw: st.DrawFn) -> Instance:
    """Equal slow agents, equal helpers, and one cut: only the links tell who can help whom."""
    num_slow, num_fast = draw(st.integers(1, 4)), draw(st.integers(4, 6))
    agents = range(num_slow + num_fast)
    is_slow = set(draw(st.permutations(agents))[:num_slow])
    linked = draw(st.sets(st.tuples(st.sampled_from(agents), st.sampled_from(agents)), min_size=20))
    links = [[9.0 * ((i, j) in linked or (j, i) in linked) for j in agents] for i in agents]
    return fleet_of([1 if i in is_slow else 4 for i in agents], [8] * len(agents), links), cuts_of(
        [(0.5, 0.5)], [0]
    )


INSTANCES = tied_instances() | distinct_instances()


def solo_s(profiles: Sequence[Profile]) -> list[float]:
    return [profile.solo_s for profile in profiles]


def brute_force_s(profiles: Sequence[Profile], cuts: CutTable, time_model: str) -> float:
    """Try all pairings, both directions of each pair, all cuts."""
    finish_s = pair_finish_s(profiles, cuts, time_model).tolist()

    def best_s(rest: list[int]) -> float:
        if not rest:
            return 0.0
        one, others = rest[0], rest[1:]
        ends = [max(profiles[one].solo_s, best_s(others))]
        for mate in others:
            left_s = best_s([agent for agent in others if agent != mate])
            ends += [max(pair_s, left_s) for pair_s in finish_s[one][mate] + finish_s[mate][one]]
        return min(ends)

    return best_s(list(range(len(profiles))))


def earliest(
    profiles: Sequence[Profile], cuts: CutTable, time_model: str, end_s: float
) -> list[tuple[int, int, int]]:
    """Try all ways to give each late agent a helper and a cut; compare sums as fractions, then the ids."""
    finish_s = pair_finish_s(profiles, cuts, time_model).tolist()
    late = [i for i, alone_s in enumerate(solo_s(profiles)) if alone_s > end_s]
    others = [i for i in range(len(profiles)) if i not in late]
    ways = []
    for helpers in itertools.permutations(others, len(late)):
        in_time = [
            [m for m, pair_s in enumerate(finish_s[slow][fast], 1) if pair_s <= end_s]
            for slow, fast in zip(late, helpers, strict=True)
        ]
        for chosen in itertools.product(*in_time):
            arcs = list(zip(late, helpers, chosen, strict=True))
            num = [Fraction(profiles[slow].num_batches) for slow, _, _ in arcs]
            ends = sum(Fraction(finish_s[slow][fast][cut - 1]) for slow, fast, cut in arcs)
            work = [n * Fraction(cuts[arc[2] - 1].fast_share) for n, arc in zip(num, arcs, strict=True)]
            traffic = [
                n * Fraction(cuts[arc[2] - 1].bytes_per_batch) for n, arc in zip(num, arcs, strict=True)
            ]
            free = [
                (Fraction(profiles[fast].num_batches) + w) / Fraction(profiles[fast].batches_per_s)
                for w, (_, fast, _) in zip(work, arcs, strict=True)
            ]
            ways.append((ends, sum(traffic), sum(free), helpers, arcs))
    return min(ways)[-1]


def authors_greedy(
    profiles: Sequence[Profile], cuts: CutTable, time_model: str
) -> list[tuple[int, int, int]]:
    """The published rule with lists, literally: min and list.index over the agents still available."""
    finish_s = pair_finish_s(profiles, cuts, time_model).tolist()
    alone_s = solo_s(profiles)
    available = list(range(len(profiles)))
    pairs = []
    for i in sorted(available, key=lambda agent: -alone_s[agent]):
        if i not in available:
            continue
        times = [[alone_s[i], *(finish_s[i][j] if j != i else [])] for j in available]
        shortest = [min(row) for row in times]
        choice = shortest.index(min(shortest))
        cut = times[choice].index(shortest[choice])
        if cut:
            pairs.append((i, available[choice], cut))
            available = [agent for agent in available if agent not in (i, available[choice])]
    return sorted(pairs)


def arcs_of(plan: Plan) -> list[tuple[int, int, int]]:
    return [(pair.slow, pair.fast, pair.cut) for pair in plan.pairs]


# The reference code's own results, with its units (data and link speed in the same ones).
# Its link matrix was not available. The two results fix links 0-1 = 50 and 1-3 = 10, leave 20 or 50 for 2-3
# and 10, 20 or 50 for 0-2, and say nothing of the others (all 4^10 matrices of 0, 10, 20, 50 were tried).
# This matrix is one that fits: a reconstruction, not the authors'.
RECONSTRUCTED_LINKS = [
    [0, 50, 20, 10, 0],
    [50, 0, 50, 10, 20],
    [20, 50, 0, 20, 10],
    [10, 10, 20, 0, 50],
    [0, 20, 10, 50, 0],
]
FIVE_AGENTS = fleet_of([0.4, 1, 1.2, 0.2, 0.8], [12, 10, 15, 10, 12], RECONSTRUCTED_LINKS)
THREE_CUTS = cuts_of([(0.8, 0.4), (0.6, 0.6), (0.2, 0.9)], [20, 35, 30])
SEVEN_CUTS = cuts_of(
    [(0.99, 0.02), (0.73, 0.13), (0.64, 0.26), (0.56, 0.43), (0.35, 0.51), (0.24, 0.65), (0.01, 0.99)],
    [1.25, 1.25, 2.5, 2.5, 5, 5, 1.25],
)


@pytest.mark.parametrize("solver", ONE_TO_ONE)
@pytest.mark.parametrize(
    ("cuts", "arcs", "ends_s"),
    [
        pytest.param(THREE_CUTS, [(0, 1, 2), (3, 2, 3)], [18.0, 20.0], id="TV1"),
        pytest.param(SEVEN_CUTS, [(0, 2, 4), (3, 1, 6)], [16.8, 16.5], id="TV2"),
    ],
)
def test_five_agents_of_the_reference_code(
    solver: str, cuts: CutTable, arcs: list[tuple[int, int, int]], ends_s: list[float]
) -> None:
    plan = pair_agents(FIVE_AGENTS, cuts, solver=solver, time_model="overlap")
    assert arcs_of(plan) == arcs
    assert [pair.finish_s for pair in plan.pairs] == pytest.approx(ends_s, rel=1e-12)
    assert plan.solo == (4,)
    assert plan.makespan_s == pytest.approx(max(ends_s), rel=1e-12)
    assert plan.makespan_s == brute_force_s(FIVE_AGENTS, cuts, "overlap")
    assert plan.solo_makespan_s == pytest.approx(50, rel=1e-12)


@pytest.mark.parametrize("solver", ONE_TO_ONE)
def test_equal_agents_do_not_pair(solver: str) -> None:  # TV4
    profiles = fleet_of([0.25] * 5, [125] * 5, [[10] * 5] * 5)
    plan = pair_agents(profiles, SEVEN_CUTS, solver=solver, time_model="overlap")
    assert (plan.pairs, plan.solo, plan.makespan_s) == ((), (0, 1, 2, 3, 4), 500.0)


@pytest.mark.parametrize("solver", ONE_TO_ONE)
def test_a_very_weak_agent_keeps_only_the_stem(solver: str) -> None:  # TV5
    profiles = fleet_of([27 / 4, 1.7 / 4], [250, 250], [[0, 100], [100, 0]])
    plan = pair_agents(profiles, SEVEN_CUTS, solver=solver, time_model="overlap")
    assert arcs_of(plan) == [(1, 0, 7)]
    assert plan.makespan_s == pytest.approx(73.70, abs=0.005)
    assert solo_s(profiles) == pytest.approx([37.04, 588.24], abs=0.005)


def test_exact_leaves_the_only_helper_to_the_agent_that_has_no_other() -> None:
    links = [[0, 0, 9e9, 9e9], [0, 0, 9e9, 0], [9e9, 9e9, 0, 0], [9e9, 0, 0, 0]]
    profiles = fleet_of([1, 1, 10, 1], [100, 99, 10, 45], links)
    cuts = cuts_of([(0.5, 0.1)], [1])
    greedy = pair_agents(profiles, cuts, solver="greedy", time_model="overlap")
    exact = pair_agents(profiles, cuts, solver="exact", time_model="overlap")
    assert (arcs_of(greedy), greedy.makespan_s) == ([(0, 2, 1)], 99)
    assert (arcs_of(exact), exact.makespan_s) == ([(0, 3, 1), (1, 2, 1)], 55)


def test_traffic_is_batches_times_bytes_of_the_cut() -> None:
    plan = pair_agents(FIVE_AGENTS, THREE_CUTS, time_model="overlap")
    assert [pair.traffic_bytes for pair in plan.pairs] == [12 * 35, 10 * 30]


def test_exact_does_not_pair_for_a_gain_that_the_makespan_does_not_show() -> None:
    # agent 2 has no link and is the straggler; greedy pairs the others all the same
    profiles = fleet_of([1, 4, 1], [10, 10, 40], [[0, 9e9, 0], [9e9, 0, 0], [0, 0, 0]])
    cuts = cuts_of([(0.5, 0.5)], [1])
    assert pair_agents(profiles, cuts, solver="exact").pairs == ()
    assert arcs_of(pair_agents(profiles, cuts, solver="greedy")) == [(0, 1, 1)]


@LAW
@given(INSTANCES, st.sampled_from(TIME_MODELS))
def test_exact_equals_brute_force(instance: Instance, time_model: str) -> None:
    plan = pair_agents(*instance, solver="exact", time_model=time_model)
    assert plan.makespan_s == brute_force_s(*instance, time_model)


@LAW
@given(INSTANCES, st.sampled_from(TIME_MODELS))
def test_greedy_equals_the_published_rule(instance: Instance, time_model: str) -> None:
    plan = pair_agents(*instance, solver="greedy", time_model=time_model)
    assert arcs_of(plan) == authors_greedy(*instance, time_model)


@LAW
@given(INSTANCES | alike_instances(), st.sampled_from(TIME_MODELS))
def test_exact_ends_earliest_then_sends_least_of_the_best_plans(instance: Instance, time_model: str) -> None:
    plan = pair_agents(*instance, solver="exact", time_model=time_model)
    assert arcs_of(plan) == earliest(*instance, time_model, plan.makespan_s)


@pytest.mark.parametrize("time_model", TIME_MODELS)
def test_greedy_equals_the_published_rule_in_a_large_fleet_of_few_classes(time_model: str) -> None:
    rng = np.random.default_rng(3)
    links = np.triu(rng.choice([0, 1, 4, 8], (80, 80)), 1)
    speeds, batches = rng.choice([1.0, 2, 4], 80).tolist(), rng.choice([4.0, 8], 80).tolist()
    profiles = fleet_of(speeds, batches, (links + links.T).tolist())
    cuts = cuts_of([(0.75, 0.25), (0.5, 0.5), (0.25, 0.75)], [1, 2, 1])
    plan = pair_agents(profiles, cuts, solver="greedy", time_model=time_model)
    assert arcs_of(plan) == authors_greedy(profiles, cuts, time_model)


def test_ties_between_many_equal_helpers_go_to_the_lowest_ids() -> None:
    profiles = fleet_of([4, 1, 4, 1, 4, 1, 4], [8] * 7, [[1e9] * 7] * 7)
    plan = pair_agents(profiles[::-1], cuts_of([(0.5, 0.5)], [1]))
    assert arcs_of(plan) == [(1, 0, 1), (3, 2, 1), (5, 4, 1)]


@LAW
@given(INSTANCES, st.sampled_from(TIME_MODELS))
def test_no_pair_of_exact_could_end_earlier_or_send_less_at_another_cut(
    instance: Instance, time_model: str
) -> None:
    profiles, cuts = instance
    finish_s = pair_finish_s(profiles, cuts, time_model)
    for pair in pair_agents(profiles, cuts, time_model=time_model).pairs:
        ends_s = finish_s[pair.slow, pair.fast].tolist()
        assert pair.finish_s == min(ends_s)
        for end_s, cut in zip(ends_s, cuts, strict=True):
            if end_s == pair.finish_s:
                assert cuts[pair.cut - 1].bytes_per_batch <= cut.bytes_per_batch


@pytest.mark.parametrize("better", [1, 2])
def test_less_time_goes_before_less_traffic(better: int) -> None:
    # The faster helper ends first over a cut that sends more; the makespan, 16 s, is that of agent 3
    speed = {better: 8, 3 - better: 2}
    links = [[0, 9, 9, 0], [9, 0, 0, 0], [9, 0, 0, 0], [0, 0, 0, 0]]
    profiles = fleet_of([0.5, speed[1], speed[2], 0.5], [16, 8, 8, 8], links)
    plan = pair_agents(profiles, cuts_of([(0.5, 0.5), (0.25, 0.75)], [1, 2]), time_model="overlap")
    assert (arcs_of(plan), plan.makespan_s) == ([(0, better, 2)], 16)


def test_of_cuts_that_end_together_the_one_that_sends_least_is_taken() -> None:
    # the slow side takes 8 s at both cuts; the last one sends less
    profiles = fleet_of([1, 4], [16, 8], [[0, 9], [9, 0]])
    plan = pair_agents(profiles, cuts_of([(0.5, 0.25), (0.5, 0.5)], [2, 1]), time_model="overlap")
    assert (arcs_of(plan), plan.makespan_s) == ([(0, 1, 2)], 8)


def test_lowest_ids_through_a_chain_of_swaps() -> None:
    # equal slow agents 0-4, equal helpers 5-10; Hopcroft and Karp's matching gives 10 to 1 and 5 to 4
    reach = [{7, 8, 9}, {5, 7, 8, 9, 10}, {5, 7, 8, 9}, {6, 8}, {5, 6, 7, 8}] + [set[int]()] * 6
    links = [[9.0 * (j in reach[i] or i in reach[j]) for j in range(11)] for i in range(11)]
    profiles = fleet_of([1] * 5 + [4] * 6, [8] * 11, links)
    plan = pair_agents(profiles, cuts_of([(0.5, 0.5)], [0]))
    assert arcs_of(plan) == [(0, 7, 1), (1, 5, 1), (2, 9, 1), (3, 6, 1), (4, 8, 1)]


@LAW
@given(INSTANCES, st.sampled_from(ONE_TO_ONE), st.sampled_from(TIME_MODELS))
def test_every_plan_is_valid(instance: Instance, solver: str, time_model: str) -> None:
    assert is_valid_plan(pair_agents(*instance, solver=solver, time_model=time_model), *instance)


@LAW
@given(INSTANCES, st.sampled_from(TIME_MODELS))
def test_bound_below_exact_below_greedy_below_no_offload(instance: Instance, time_model: str) -> None:
    exact, greedy = (pair_agents(*instance, solver=s, time_model=time_model) for s in ("exact", "greedy"))
    assert exact.lower_bound_s <= exact.makespan_s <= greedy.makespan_s <= greedy.solo_makespan_s
    assert exact.solo_makespan_s == max(solo_s(instance[0]))


@LAW
@given(
    INSTANCES, st.sampled_from(ONE_TO_ONE), st.sampled_from(TIME_MODELS), st.randoms(use_true_random=False)
)
def test_the_order_of_the_profiles_does_not_matter(
    instance: Instance, solver: str, time_model: str, random: Random
) -> None:
    profiles, cuts = instance
    shuffled = random.sample(profiles, len(profiles))
    plan = pair_agents(profiles, cuts, solver=solver, time_model=time_model)
    assert pair_agents(shuffled, cuts, solver=solver, time_model=time_model) == plan


# "greedy" with "overlap" is left out: several helpers end at once there, and the published rule goes by id
@LAW
@given(
    distinct_instances(),
    st.sampled_from([("exact", "overlap"), ("exact", "pipeline"), ("greedy", "pipeline")]),
    st.permutations(range(8)),
)
def test_relabelling_agents_relabels_the_pairing(
    instance: Instance, how: tuple[str, str], labels: list[int]
) -> None:
    profiles, cuts = instance
    label = {agent: 10 * labels[agent] for agent in range(8)}
    relabelled = [
        dataclasses.replace(
            profile, agent=label[profile.agent], links={label[j]: link for j, link in profile.links.items()}
        )
        for profile in profiles
    ]
    one = pair_agents(profiles, cuts, solver=how[0], time_model=how[1])
    other = pair_agents(relabelled, cuts, solver=how[0], time_model=how[1])
    moved = [dataclasses.replace(pair, slow=label[pair.slow], fast=label[pair.fast]) for pair in one.pairs]
    assert other.pairs == tuple(sorted(moved, key=lambda pair: pair.slow))
    assert other.solo == tuple(sorted(label[agent] for agent in one.solo))
    assert other.makespan_s == one.makespan_s


@LAW
@given(
    tied_instances() | distinct_instances(latency_s=0.0),
    st.sampled_from(ONE_TO_ONE),
    st.sampled_from(TIME_MODELS),
    st.integers(-8, 8),
)
def test_faster_devices_and_links_scale_the_makespan(
    instance: Instance, solver: str, time_model: str, exponent: int
) -> None:
    profiles, cuts = instance
    factor = 2.0**exponent
    scaled = [
        dataclasses.replace(
            profile,
            batches_per_s=profile.batches_per_s * factor,
            links={j: Link(bytes_per_s=link.bytes_per_s * factor) for j, link in profile.links.items()},
        )
        for profile in profiles
    ]
    one = pair_agents(profiles, cuts, solver=solver, time_model=time_model)
    other = pair_agents(scaled, cuts, solver=solver, time_model=time_model)
    assert other.makespan_s * factor == one.makespan_s
    assert arcs_of(other) == arcs_of(one)


@LAW
@given(INSTANCES, st.sampled_from(TIME_MODELS), st.integers(0, 7), st.floats(1, 8))
def test_a_faster_device_never_makes_the_exact_makespan_longer(
    instance: Instance, time_model: str, agent: int, factor: float
) -> None:
    profiles, cuts = instance
    faster = list(profiles)
    old = profiles[agent % len(profiles)]
    faster[old.agent] = dataclasses.replace(old, batches_per_s=old.batches_per_s * factor)
    before = pair_agents(profiles, cuts, time_model=time_model).makespan_s
    assert pair_agents(faster, cuts, time_model=time_model).makespan_s <= before


@LAW
@given(INSTANCES, st.sampled_from(TIME_MODELS), st.data(), st.floats(0, 8))
def test_a_faster_link_never_makes_the_exact_makespan_longer(
    instance: Instance, time_model: str, data: st.DataObject, extra: float
) -> None:
    profiles, cuts = instance
    ends = data.draw(st.sets(st.sampled_from(range(len(profiles))), min_size=1, max_size=2))
    faster = [
        dataclasses.replace(
            profile,
            links={
                j: Link(bytes_per_s=link.bytes_per_s + extra, latency_s=link.latency_s / 2)
                if {profile.agent, j} == ends
                else link
                for j, link in profile.links.items()
            },
        )
        for profile in profiles
    ]
    before = pair_agents(profiles, cuts, time_model=time_model).makespan_s
    assert pair_agents(faster, cuts, time_model=time_model).makespan_s <= before


@pytest.mark.parametrize("kind", ["classes", "distinct"])
def test_a_large_fleet_has_a_valid_plan(kind: str) -> None:
    rng = np.random.default_rng(1)
    count = 150
    links = np.triu(rng.choice([0, 10, 20, 50, 100], (count, count)), 1) * 125e3
    spread = rng.uniform(0.8, 1.25, count) if kind == "distinct" else np.ones(count)
    speeds = np.resize([4, 2, 1, 0.5, 0.2], count) * spread
    sizes = [size * 2**20 for size in (6.25, 6.25, 12.5, 12.5, 25, 25, 6.25)]
    cuts = cuts_of([(cut.slow_share, cut.fast_share) for cut in SEVEN_CUTS], sizes)
    profiles = fleet_of(speeds.tolist(), [50.0] * count, (links + links.T).tolist())
    exact, greedy = (pair_agents(profiles, cuts, solver=solver) for solver in ("exact", "greedy"))
    assert is_valid_plan(exact, profiles, cuts)
    assert exact.makespan_s < greedy.makespan_s < greedy.solo_makespan_s
    slow = {pair.slow for pair in exact.pairs}
    assert slow == {profile.agent for profile in profiles if profile.solo_s > exact.makespan_s}


PLAN = pair_agents(FIVE_AGENTS, THREE_CUTS, time_model="overlap")
FIRST, SECOND = PLAN.pairs


@pytest.mark.parametrize(
    "wrong",
    [
        {"solo": ()},
        {"solo": (4, 4)},
        {"solo": (3, 4)},
        {"solo": (4, 9)},
        {"pairs": (FIRST,)},
        {"pairs": (FIRST, FIRST)},
        {"pairs": (SECOND, FIRST)},
        {"pairs": (dataclasses.replace(FIRST, cut=0), SECOND)},
        {"pairs": (dataclasses.replace(FIRST, cut=4), SECOND)},
        {"pairs": (dataclasses.replace(FIRST, cut=1), SECOND)},
        {"pairs": (dataclasses.replace(FIRST, finish_s=17.0), SECOND)},
        {"pairs": (dataclasses.replace(FIRST, traffic_bytes=1.0), SECOND)},
        {"pairs": (dataclasses.replace(FIRST, slow=1, fast=0), SECOND)},
        {
            "pairs": (Pair(slow=0, fast=4, cut=3, finish_s=float("inf"), traffic_bytes=360.0),),
            "solo": (1, 2, 3),
        },
        {"makespan_s": 18.0},
        {"solo_makespan_s": 49.0},
        {"lower_bound_s": 1.0},
        {"time_model": "pipeline"},
        {"time_model": "flow-shop"},
    ],
    ids=str,
)
def test_a_wrong_plan_is_not_valid(wrong: dict[str, object]) -> None:
    assert is_valid_plan(PLAN, FIVE_AGENTS, THREE_CUTS)
    assert not is_valid_plan(dataclasses.replace(PLAN, **wrong), FIVE_AGENTS, THREE_CUTS)  # type: ignore[arg-type]


def test_a_pair_without_a_link_is_not_valid_even_if_it_says_inf() -> None:
    profiles = fleet_of([1, 4], [10, 10], [[0, 0], [0, 0]])
    cuts = cuts_of([(0.5, 0.5)], [1])
    alone = pair_agents(profiles, cuts)
    inf = float("inf")
    pair = Pair(slow=0, fast=1, cut=1, finish_s=inf, traffic_bytes=10.0)
    assert is_valid_plan(alone, profiles, cuts)
    assert not is_valid_plan(
        dataclasses.replace(alone, pairs=(pair,), solo=(), makespan_s=inf), profiles, cuts
    )


ONE = Profile(agent=5, batches_per_s=1, num_batches=10)


@pytest.mark.parametrize(
    ("profiles", "cuts", "options", "message"),
    [
        ([], THREE_CUTS, {}, "profiles = []: must hold at least one agent"),
        ([ONE, ONE], THREE_CUTS, {}, "profile.agent = 5: must appear once"),
        ([ONE], (), {}, "cuts = (): must hold at least one cut"),
        (
            [ONE],
            THREE_CUTS,
            {"solver": "magic"},
            "solver = 'magic': must be one of exact, greedy, integer-program, shared",
        ),
        ([ONE], THREE_CUTS, {"time_model": "x"}, "time_model = 'x': must be one of overlap, pipeline"),
        (
            [dataclasses.replace(ONE, batches_per_s=1e-300, num_batches=1e300)],
            THREE_CUTS,
            {},
            "solo time of agent 5 = inf: must be finite",
        ),
    ],
)
def test_bad_input_is_one_line(
    profiles: list[Profile], cuts: CutTable, options: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        pair_agents(profiles, cuts, **options)
    assert str(caught.value) == message


@pytest.mark.parametrize("solver", ONE_TO_ONE)
def test_one_agent_trains_alone(solver: str) -> None:
    plan = pair_agents([ONE], THREE_CUTS, solver=solver)
    assert (plan.pairs, plan.solo, plan.makespan_s, plan.lower_bound_s) == ((), (5,), 10.0, 10.0)


def test_the_example_in_the_docstring() -> None:
    result = doctest.testmod(pairing)
    assert result.attempted > 0
    assert result.failed == 0


def test_importing_the_planner_loads_nothing_heavy() -> None:
    code = (
        "import sys, comdml_flwr.planning.pairing, comdml_flwr.planning.fleet.fleet\n"
        "print(sorted({'scipy', 'torch', 'flwr', 'pydantic', 'networkx'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
