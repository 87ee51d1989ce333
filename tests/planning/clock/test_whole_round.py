"""A plan is judged by the whole round: with it, no round is longer than without offload."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.by_cut import ByCut
from comdml_flwr.core.errors import InputError
from comdml_flwr.methods.phases.agreement import agree, workload_of
from comdml_flwr.planning.clock.simulation import RoundTimes, Workload, batch_sizes
from comdml_flwr.planning.clock.whole_round import Judged, judge, round_clock
from comdml_flwr.planning.costs import TIME_MODELS
from comdml_flwr.planning.hysteresis import Pairing, keep_or_replace, pairing_of
from comdml_flwr.planning.pairing import is_valid_plan, pair_agents
from comdml_flwr.planning.types import Link, Pair, Plan, Profile
from comdml_flwr.runs.records import RoundRecord
from tests.planning.fleets import resnet_cuts
from tests.small import run_local, small_config, small_fleet, small_setup

BATCH_SIZE = 100
NUM_FLOATS = 591_322  # ResNet-56, and by cut its fast side and its auxiliary head
FAST_FLOATS = (2_570, 213_770, 450_058, 503_434, 563_210, 576_842, 590_858)
HEAD_FLOATS = (2_570, 2_570, 1_290, 1_290, 650, 650, 170)
SECONDS_PER_BATCH = {1e9: 26.0, 1e10: 2.6, 1e11: 0.26}  # of one CPU by its FLOP/s
CPUS = (4.0, 2.0, 1.0, 0.5, 0.2)
RELAY = Link(bytes_per_s=10 * 125_000)
AVERAGINGS = ("allreduce", "mixing")


def generated(number: int, flops_per_s: float) -> tuple[list[Profile], Workload, tuple[int, ...]]:
    """Return fleet `number` with such CPUs: 2 to 11 agents, of which one or two may be newcomers."""
    rng = np.random.default_rng(number)
    size, density = int(rng.integers(2, 12)), (1.0, 0.6)[number % 2]
    mbps = np.triu(rng.choice([10.0, 20, 50, 100], (size, size)) * (rng.random((size, size)) < density), 1)
    mbps, latency_s = mbps + mbps.T, float(rng.choice([0, 0.002, 0.05]))
    samples = rng.integers(20, 600, size) if number // 2 % 2 else np.full(size, int(rng.integers(50, 600)))
    speeds = rng.choice(CPUS, size) * rng.uniform(0.8, 1.2, size) / SECONDS_PER_BATCH[flops_per_s]
    profiles = [
        Profile(
            agent=agent,
            batches_per_s=float(speeds[agent]),
            num_batches=float(samples[agent]) / BATCH_SIZE,
            links={
                peer: Link(bytes_per_s=125_000 * float(mbps[agent, peer]), latency_s=latency_s)
                for peer in range(size)
                if peer != agent
            },
        )
        for agent in range(size)
    ]
    workload = Workload(
        cuts=ByCut(resnet_cuts()),
        batch_size=BATCH_SIZE,
        batches={agent: batch_sizes(int(samples[agent]), BATCH_SIZE, 1) for agent in range(size)},
        num_floats=NUM_FLOATS,
        fast_floats=ByCut(FAST_FLOATS),
        head_floats=ByCut(HEAD_FLOATS),
    )
    return profiles, workload, tuple(range(50, 50 + int(rng.integers(0, 3))))


def judged(number: int, flops_per_s: float, solver: str, averaging: str, time_model: str) -> Judged:
    profiles, workload, newcomers = generated(number, flops_per_s)
    plan = pair_agents(profiles, workload.cuts, solver=solver, time_model=time_model)
    found = judge(plan, profiles, workload.cuts, round_clock(profiles, RELAY, workload, newcomers, averaging))
    assert found.times.virtual_time_s <= found.no_offload.virtual_time_s
    assert is_valid_plan(found.plan, profiles, workload.cuts)
    assert set(found.plan.pairs) | set(found.dropped) == set(plan.pairs)
    assert len(found.plan.pairs) + len(found.dropped) == len(plan.pairs)
    return found


@pytest.mark.parametrize("num_fleets", [150, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("flops_per_s", SECONDS_PER_BATCH)
def test_no_round_of_many_fleets_is_longer_than_without_offload(flops_per_s: float, num_fleets: int) -> None:
    num_shortened = 0
    for number in range(num_fleets):
        solver, averaging = ("exact", "greedy")[number % 3 == 2], AVERAGINGS[number % 5 == 4]
        found = judged(number, flops_per_s, solver, averaging, TIME_MODELS[number % 7 != 6])
        num_shortened += found.times.virtual_time_s < found.no_offload.virtual_time_s
    assert num_shortened > num_fleets / 5


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.floats(7, 12),
    st.sampled_from(["exact", "greedy"]),
    st.sampled_from(AVERAGINGS),
    st.sampled_from(TIME_MODELS),
    st.floats(0, 0.9),
)
def test_no_round_is_longer_than_without_offload(
    number: int, exponent: float, solver: str, averaging: str, time_model: str, threshold: float
) -> None:
    """Also with a pairing of other speeds that hysteresis keeps."""
    profiles, workload, newcomers = generated(number, 1e10)
    clock = round_clock(profiles, RELAY, workload, newcomers, averaging)
    plan = pair_agents(profiles, workload.cuts, solver=solver, time_model=time_model)
    factor = 10.0 ** (exponent - 10)
    faster = [replace(profile, batches_per_s=profile.batches_per_s * factor) for profile in profiles]
    before = pairing_of(judge(plan, profiles, workload.cuts, clock).plan, 1)
    best = pair_agents(faster, workload.cuts, solver=solver, time_model=time_model)
    kept = keep_or_replace(before, best, faster, workload.cuts, threshold=threshold)
    found = judge(kept, faster, workload.cuts, round_clock(faster, RELAY, workload, newcomers, averaging))
    assert found.times.virtual_time_s <= found.no_offload.virtual_time_s
    assert is_valid_plan(found.plan, faster, workload.cuts)


def test_pairs_that_make_the_round_longer_are_dropped_and_the_plan_says_so() -> None:
    with_all = [judged(number, 1e11, "exact", "allreduce", "pipeline") for number in range(40)]
    dropped = [found for found in with_all if found.dropped]
    assert dropped
    for found in dropped:
        assert found.plan.makespan_s <= found.plan.solo_makespan_s
        paired = {agent for pair in found.plan.pairs for agent in (pair.slow, pair.fast)}
        assert not paired & {pair.slow for pair in found.dropped}
    slow_devices = [judged(number, 1e9, "exact", "allreduce", "pipeline") for number in range(40)]
    assert sum(bool(found.dropped) for found in slow_devices) < len(dropped)


def test_a_pair_that_memory_forces_is_never_dropped() -> None:
    """Agent 1 cannot hold the whole model; the round is longer with its helper, and there is no other one."""
    cuts = tuple(replace(cut, whole_bytes=1e9) for cut in resnet_cuts())
    link = Link(bytes_per_s=125_000)
    profiles = [
        Profile(agent=0, batches_per_s=4.0, num_batches=2, links={1: link}, memory_bytes=1e12),
        Profile(agent=1, batches_per_s=4.0, num_batches=2, links={0: link}, memory_bytes=0.9e9),
    ]
    workload = replace(generated(0, 1e9)[1], cuts=ByCut(cuts), batches={0: (100.0, 100.0), 1: (100.0, 100.0)})
    plan = pair_agents(profiles, cuts)
    found = judge(plan, profiles, cuts, round_clock(profiles, RELAY, workload))
    assert found.plan == plan
    assert found.times.virtual_time_s > found.no_offload.virtual_time_s
    with pytest.raises(InputError):
        pair_agents(profiles[1:], cuts)


def test_of_many_pairs_half_are_dropped_at_a_time() -> None:
    """Each simulation of a large fleet costs; 20 pairs that do not pay take a dozen."""
    links = {agent: Link(bytes_per_s=1e6) for agent in range(40)}
    profiles = [
        Profile(agent=agent, batches_per_s=(1e3, 4e3)[agent % 2], num_batches=1, links=links)
        for agent in range(40)
    ]
    cuts = resnet_cuts()
    free = tuple(replace(cut, bytes_per_batch=0.0) for cut in cuts)
    plan = pair_agents(profiles, free, solver="greedy")
    workload = replace(
        generated(0, 1e9)[1],
        cuts=ByCut(free),
        batches=dict.fromkeys(range(40), (100.0,)),
        num_floats=NUM_FLOATS,
    )
    simulate, asked = round_clock(profiles, RELAY, workload), []

    def clock(given):  # type: ignore[no-untyped-def]
        asked.append(0 if given is None else len(given.pairs))
        return simulate(given)

    found = judge(plan, profiles, cuts, clock)
    assert len(plan.pairs) == 20
    assert asked == [0, 20, 10, 8, 7, 6, 5, 4, 3, 2, 1]
    assert found.times.virtual_time_s <= found.no_offload.virtual_time_s


def rounds_of_a_run(factor: float, **keys: float | str) -> list[tuple[RoundRecord, RoundTimes]]:
    """Run five agents whose devices are faster by a factor; return each round, and as it is simulated."""
    fleet = small_fleet(5, bandwidth_mbps=20)
    agents = tuple(replace(a, flops_per_s=factor * (a.flops_per_s or 0)) for a in fleet.agents)
    config = small_config(num_rounds=2, **keys)
    record, ran = run_local(config, replace(fleet, agents=agents))
    setup, rounds = ran[0].setup, []
    for line in record.rounds:
        profiles = tuple(setup.profiles_at(line.round)[agent] for agent in setup.present(line.round))
        clock = round_clock(
            profiles,
            setup.relay,
            workload_of(setup, profiles),
            setup.newcomers(line.round),
            config.averaging,
        )
        rounds.append((line, clock(plan_of(line))))
    return rounds


def plan_of(line: RoundRecord) -> Plan:
    pairs = [
        Pair(slow=p["slow"], fast=p["fast"], cut=p["cut"], finish_s=p["finish_s"], traffic_bytes=p["bytes"])
        for p in line.plan["pairs"]  # type: ignore[union-attr, index, call-overload]
    ]
    return Plan(
        solver="exact",
        time_model="pipeline",
        pairs=tuple(pairs),
        solo=(),
        makespan_s=line.predicted_s,
        solo_makespan_s=line.no_offload_makespan_s,
        lower_bound_s=0,
    )


@pytest.mark.parametrize("factor", [0.1, 3])
@pytest.mark.parametrize(
    "keys",
    [
        {"averaging": "allreduce"},
        {"averaging": "mixing"},
        {"averaging": "mixing", "participation": 0.6},
        {"solver": "greedy", "participation": 0.6, "hysteresis": 0.3, "partition": "dirichlet"},
        {"model": "drawing", "batch_size": 13},
    ],
    ids=["allreduce", "mixing", "mixing of some", "greedy, hysteresis", "a last batch of one"],
)
def test_no_round_of_a_run_is_longer_and_all_are_as_simulated(factor: float, keys: dict[str, str]) -> None:
    for line, times in rounds_of_a_run(factor, **keys):
        assert line.virtual_time_s <= line.no_offload_virtual_time_s
        assert (line.virtual_time_s, line.makespan_s, line.bytes_sent) == (
            times.virtual_time_s,
            times.makespan_s,
            times.bytes_sent,
        )
        assert line.refused == []


def test_slow_devices_offload_and_very_fast_ones_do_not() -> None:
    (slow, _), *_ = rounds_of_a_run(0.1)
    (fast, _), *_ = rounds_of_a_run(1000)
    assert slow.plan["pairs"]
    assert not fast.plan["pairs"]
    assert fast.virtual_time_s == fast.no_offload_virtual_time_s


@pytest.mark.parametrize(("num_samples", "most"), [(10**15, 100), (80, 3), (81, 100), (7, 1), (10**300, 50)])
def test_many_batches_count_as_few_with_the_same_samples(num_samples: int, most: int) -> None:
    sizes = batch_sizes(num_samples, 8, 2, most=most)
    assert len(sizes) <= 2 * (most + 1)
    assert sum(sizes) == pytest.approx(2 * num_samples)
    assert sizes == batch_sizes(num_samples, 8, 2) if num_samples <= 8 * most else sizes[0] > 8


@pytest.mark.parametrize("num_batches", [1e9, 1e300])
def test_an_agent_that_tells_of_endless_work_does_not_keep_the_others_busy(num_batches: float) -> None:
    setup = small_setup(small_config(), small_fleet(5))
    agent = Agent(0, setup)
    agent.begin_round(1)
    told = [
        replace(p, num_batches=num_batches) if p.agent == 4 else p for _, p in setup.profiles_at(1).items()
    ]
    found, _ = agree(agent, tuple(told), Pairing())
    assert found.times.virtual_time_s <= found.no_offload.virtual_time_s
