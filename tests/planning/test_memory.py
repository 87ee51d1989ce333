"""Memory bounds who trains and who helps, for every solver."""

import dataclasses
from math import inf

import numpy as np
import pytest

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.bounded_queue import QUEUE_BATCHES
from comdml_flwr.planning.costs import pair_finish_s
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.planning.pairing import SOLVERS, is_valid_plan, pair_agents
from comdml_flwr.planning.solvers.groups import GroupCosts
from comdml_flwr.planning.types import Cut, CutTable, Link, Profile
from comdml_flwr.runs.model_costs import planner_input
from tests.planning.fleets import generated_case

CUTS = (
    Cut(slow_share=0.6, fast_share=0.4, bytes_per_batch=1, slow_bytes=60, fast_bytes=40, whole_bytes=100),
    Cut(slow_share=0.2, fast_share=0.8, bytes_per_batch=2, slow_bytes=20, fast_bytes=80, whole_bytes=100),
)


def agents_with(*memory_bytes: float, speeds: tuple[float, ...] = (1, 4, 4)) -> list[Profile]:
    """Fully linked agents with 10 batches each."""
    ids = range(len(memory_bytes))
    return [
        Profile(
            agent=i,
            batches_per_s=speeds[i],
            num_batches=10,
            links={j: Link(bytes_per_s=1e9) for j in ids if j != i},
            memory_bytes=memory_bytes[i],
        )
        for i in ids
    ]


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_slow_side_and_the_queue_must_fit(solver: str) -> None:
    both = agents_with(100, inf)
    for slow_bytes, cut in ((20, 2), (100 - QUEUE_BATCHES * 2, 2), (101 - QUEUE_BATCHES * 2, 1)):
        cuts = (CUTS[0], dataclasses.replace(CUTS[1], slow_bytes=slow_bytes))
        assert [pair.cut for pair in pair_agents(both, cuts, solver=solver, time_model="overlap").pairs] == [
            cut
        ]


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_helper_holds_its_own_model_the_fast_side_and_the_queue(solver: str) -> None:
    needed = 100 + 80 + QUEUE_BATCHES * 2
    for memory, cut in ((needed, 2), (needed - 1, 1), (100 + 40 + QUEUE_BATCHES, 1)):
        plan = pair_agents(agents_with(inf, memory), CUTS, solver=solver, time_model="overlap")
        assert [pair.cut for pair in plan.pairs] == [cut]
    assert pair_agents(agents_with(inf, 140), CUTS, solver=solver).pairs == ()


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_agent_that_cannot_hold_the_model_must_offload_even_if_it_is_the_fastest(solver: str) -> None:
    profiles = agents_with(99, inf, speeds=(9, 1))
    plan = pair_agents(profiles, CUTS, solver=solver)
    assert [(pair.slow, pair.fast) for pair in plan.pairs] == [(0, 1)]
    assert is_valid_plan(plan, profiles, CUTS)
    assert plan.makespan_s > plan.solo_makespan_s  # which says what it would be if memory had no bound


@pytest.mark.parametrize("solver", SOLVERS)
def test_agents_that_nobody_can_help_are_named(solver: str) -> None:
    with pytest.raises(
        InputError, match=r"^agents = \[0, 2\]: cannot hold the whole model \(100 bytes\)"
    ) as caught:
        pair_agents(agents_with(99, 110, 99), CUTS, solver=solver)
    assert "\n" not in str(caught.value)


def test_two_that_need_the_same_helper_can_share_it_but_not_have_it_one_to_one() -> None:
    profiles = agents_with(99, inf, 99)
    for solver in ("exact", "greedy", "integer-program"):
        with pytest.raises(InputError, match=r"^agents = \["):
            pair_agents(profiles, CUTS, solver=solver)
    plan = pair_agents(profiles, CUTS, solver="shared")
    assert [(pair.slow, pair.fast) for pair in plan.pairs] == [(0, 1), (2, 1)]
    assert is_valid_plan(plan, profiles, CUTS, shared=True)
    assert not is_valid_plan(plan, profiles, CUTS)


def test_a_group_must_fit_as_a_whole() -> None:
    one, two = 100 + 40 + QUEUE_BATCHES, 100 + 2 * (40 + QUEUE_BATCHES)
    for memory, fits in ((two, True), (two - 1, False), (one, False)):
        profiles = agents_with(inf, memory, inf)
        table = pair_finish_s(profiles, CUTS, "pipeline")
        costs = GroupCosts.of(profiles, CUTS, "pipeline", table)
        end_s = costs.finish_s(np.array([1]), np.array([[0, 2]]), np.array([[0, 0]]))[0]
        assert np.isfinite(end_s) == fits


def test_a_solo_agent_that_cannot_hold_the_model_makes_a_plan_invalid() -> None:
    profiles, roomy = agents_with(99, inf), agents_with(inf, inf)
    alone = pair_agents(roomy, (dataclasses.replace(CUTS[0], slow_share=9),))
    assert alone.pairs == ()
    assert not is_valid_plan(alone, profiles, (dataclasses.replace(CUTS[0], slow_share=9),))


def test_bounds_that_bind_nobody_change_nothing() -> None:
    for number in range(6):
        case = generated_case(number)
        roomy = [dataclasses.replace(profile, memory_bytes=1e15) for profile in case.profiles]
        for solver in SOLVERS:
            plan = pair_agents(case.profiles, case.cuts, solver=solver, time_model=case.time_model)
            assert pair_agents(roomy, case.cuts, solver=solver, time_model=case.time_model) == plan


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        (
            tuple(Cut(slow_share=0.5, fast_share=0.5, bytes_per_batch=1) for _ in range(2)),
            "slow_bytes, fast_bytes, whole_bytes of cut 1 = 0: must be > 0 where an agent has memory_bytes",
        ),
        (
            (CUTS[0], dataclasses.replace(CUTS[1], whole_bytes=7)),
            "whole_bytes of cut 2 = 7: must be equal in all cuts",
        ),
    ],
)
def test_a_table_that_does_not_tell_memory_is_one_line(cuts: CutTable, message: str) -> None:
    with pytest.raises(InputError) as caught:
        pair_agents(agents_with(99, inf), cuts)
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_memory_is_a_positive_number(value: float) -> None:
    for name in ("memory_bytes", "nic_bytes_per_s"):
        with pytest.raises(InputError, match=rf"^profile\.{name} = .*: must be a number > 0, or inf$"):
            Profile(agent=0, batches_per_s=1, num_batches=1, **{name: value})


FLEET = """
[model]
name = "resnet-56"
input = [3, 32, 32]
batch_size = 100
[links]
bandwidth_mbps = 100
[[agents]]
id = 0
flops_per_s = 2e8
num_samples = 500
memory_bytes = 5e8
bandwidth_mbps = 40
[[agents]]
id = 1
flops_per_s = 4e9
num_samples = 500
"""


def test_the_fleet_file_tells_memory_and_card_and_the_model_what_it_takes() -> None:
    fleet = parse_fleet(FLEET, "f.toml")
    profiles, cuts = planner_input(fleet)
    assert [profile.memory_bytes for profile in profiles] == [5e8, inf]
    assert [profile.nic_bytes_per_s for profile in profiles] == [5e6, inf]
    assert all(min(cut.slow_bytes, cut.fast_bytes) > 0 for cut in cuts)
    assert len({cut.whole_bytes for cut in cuts}) == 1
    assert 5e8 < cuts[1].whole_bytes < 5e9  # 100 samples through ResNet-56: more than agent 0 has
    plan = pair_agents(profiles, cuts)
    assert [(pair.slow, pair.fast) for pair in plan.pairs] == [(0, 1)]
    assert cuts[plan.pairs[0].cut].slow_bytes <= 5e8


@pytest.mark.parametrize("line", ["memory_bytes = 0", "memory_bytes = 'big'", "bandwidth_mbps = -1"])
def test_bad_bounds_in_a_fleet_file_are_one_line(line: str) -> None:
    key = line.split(" ")[0]
    text = "\n".join(part for part in FLEET.splitlines() if not part.startswith(key))
    with pytest.raises(InputError, match=rf"^f\.toml: agents\[1\]\.{key} = .* must be a number >=? 0"):
        parse_fleet(text + f"\n{line}\n", "f.toml")
