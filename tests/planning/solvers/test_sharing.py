"""Helpers that serve several slow agents: the time of a group, and the search for a good plan."""

import dataclasses
import subprocess
import sys
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comdml_flwr.planning.costs import TIME_MODELS, pair_finish_s
from comdml_flwr.planning.pairing import SOLVERS, is_valid_plan, pair_agents
from comdml_flwr.planning.solvers.groups import GroupCosts
from comdml_flwr.planning.types import Cut, CutTable, Link, Plan, Profile
from tests.planning.fleets import generated_case, resnet_cuts

LAW = settings(max_examples=100)
NUMBERS = [number for number in range(48) if number // 6 % 2 == 0]  # those without bounds on memory


def star(rng: np.random.Generator, num_slow: int, *, is_whole: bool) -> tuple[list[Profile], CutTable]:
    """Helper 0 in the middle, and three random cuts."""
    cuts = tuple(
        Cut(slow_share=a, fast_share=b, bytes_per_batch=d)
        for a, b, d in zip(
            rng.uniform(0.1, 1, 3), rng.uniform(0.01, 1, 3), rng.uniform(0.1, 2, 3), strict=True
        )
    )
    links = {
        i: Link(bytes_per_s=rng.uniform(0.5, 5), latency_s=rng.uniform(0, 2)) for i in range(1, num_slow + 1)
    }
    helper = Profile(agent=0, batches_per_s=rng.uniform(1, 9), num_batches=rng.uniform(1, 40), links=links)
    slow = [
        Profile(
            agent=i,
            batches_per_s=rng.uniform(0.2, 2),
            num_batches=float(rng.integers(1, 30)) if is_whole else rng.uniform(0.1, 30),
            links={0: link},
        )
        for i, link in links.items()
    ]
    return [helper, *slow], cuts


def group_s(profiles: list[Profile], cuts: CutTable, chosen: list[int], time_model: str) -> float:
    """Predict the end of helper 0 with all others as its partners."""
    costs = GroupCosts.of(profiles, cuts, time_model, pair_finish_s(profiles, cuts, time_model))
    slow = np.arange(1, len(profiles))[None]
    return float(costs.finish_s(np.array([0]), slow, np.array([chosen]))[0])


def simulated_s(profiles: list[Profile], cuts: CutTable, chosen: list[int]) -> tuple[float, float]:
    """Send batch by batch over links that the helper's card caps; return (end, the sum of f_i)."""
    helper, slow = profiles[0], profiles[1:]
    card = max(link.bytes_per_s for link in helper.links.values())
    total = sum(
        agent.num_batches * cuts[cut].bytes_per_batch for agent, cut in zip(slow, chosen, strict=True)
    )
    mail, slowest_s, step_s = [], 0.0, 0.0
    for agent, index in zip(slow, chosen, strict=True):
        cut, link = cuts[index], agent.links[0]
        granted = card * agent.num_batches * cut.bytes_per_batch / total
        batch_s, fast_s = cut.slow_share / agent.batches_per_s, cut.fast_share / helper.batches_per_s
        made = sent = 0.0
        for _ in range(int(agent.num_batches)):
            made += batch_s
            sent = max(made, sent) + cut.bytes_per_batch / min(link.bytes_per_s, granted)
            mail.append((sent + link.latency_s, fast_s))
        slowest_s, step_s = max(slowest_s, made), step_s + fast_s
    now_s = helper.solo_s
    for arrives_s, fast_s in sorted(mail):
        now_s = max(now_s, arrives_s) + fast_s
    return max(now_s, slowest_s), step_s


@LAW
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_pipeline_of_a_group_is_an_upper_bound_within_a_batch_of_each(seed: int, num_slow: int) -> None:
    rng = np.random.default_rng(seed)
    profiles, cuts = star(rng, num_slow, is_whole=True)
    chosen = rng.integers(0, 3, num_slow).tolist()
    end_s, step_s = simulated_s(profiles, cuts, chosen)
    predicted_s = group_s(profiles, cuts, chosen, "pipeline")
    assert end_s * (1 - 1e-9) <= predicted_s <= (end_s + step_s) * (1 + 1e-9)


@LAW
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from(TIME_MODELS))
def test_a_group_of_one_is_the_pair_to_the_bit(seed: int, is_whole: bool, time_model: str) -> None:
    profiles, cuts = star(np.random.default_rng(seed), 1, is_whole=is_whole)
    table = pair_finish_s(profiles, cuts, time_model)
    for cut in range(3):
        assert group_s(profiles, cuts, [cut], time_model) == table[1, 0, cut]


@LAW
@given(st.integers(0, 10**6), st.integers(2, 6), st.sampled_from(TIME_MODELS))
def test_a_group_is_never_faster_with_one_more(seed: int, num_slow: int, time_model: str) -> None:
    rng = np.random.default_rng(seed)
    profiles, cuts = star(rng, num_slow, is_whole=False)
    chosen = rng.integers(0, 3, num_slow).tolist()
    fewer = [dataclasses.replace(profiles[0], nic_bytes_per_s=5.0), *profiles[1:]]
    whole_s = group_s(fewer, cuts, chosen, time_model)
    assert group_s(fewer[:-1], cuts, chosen[:-1], time_model) <= whole_s * (1 + 1e-12)


@LAW
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_pipeline_of_a_group_is_never_faster_than_overlap(seed: int, num_slow: int) -> None:
    rng = np.random.default_rng(seed)
    profiles, cuts = star(rng, num_slow, is_whole=False)
    chosen = rng.integers(0, 3, num_slow).tolist()
    overlap_s, pipeline_s = (group_s(profiles, cuts, chosen, model) for model in TIME_MODELS)
    assert pipeline_s >= overlap_s * (1 - 1e-12)


def test_hand_table_of_a_group() -> None:
    # two partners with 4 batches each at 2 s; links of 8 bytes/s into a card of 8; helper alone 3 s
    links = {i: Link(bytes_per_s=8) for i in (1, 2)}
    profiles = [
        Profile(agent=0, batches_per_s=1, num_batches=3, links=links),
        *(Profile(agent=i, batches_per_s=0.25, num_batches=4, links={0: links[i]}) for i in (1, 2)),
    ]
    cut = Cut(slow_share=0.5, fast_share=0.25, bytes_per_batch=16)
    # overlap: slow 8, links 8 each, card 128 / 8 = 16, helper 3 + 2
    assert group_s(profiles, (cut,), [0, 0], "overlap") == 16
    # pipeline: 2 + 4 s to the first pair of batches, 3 more every 4 s, then both of the last: 0.5
    assert group_s(profiles, (cut,), [0, 0], "pipeline") == 2 + 4 + 3 * 4 + 0.5


def plan_for(number: int, solver: str = "shared") -> Plan:
    case = generated_case(number)
    return pair_agents(case.profiles, case.cuts, solver=solver, time_model=case.time_model)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_order_of_the_table_does_not_matter(solver: str) -> None:
    for number in NUMBERS:
        case = generated_case(number)
        shuffled = Random(number).sample(case.profiles, len(case.profiles))
        turned = [dataclasses.replace(p, links=dict(reversed(p.links.items()))) for p in shuffled]
        again = pair_agents(turned, case.cuts, solver=solver, time_model=case.time_model)
        assert repr(again) == repr(plan_for(number, solver))


def test_another_process_finds_the_same_plan_to_the_byte() -> None:
    code = (
        "from tests.planning.solvers.test_sharing import NUMBERS, plan_for\n"
        "print([plan_for(number) for number in NUMBERS[:8]])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == repr([plan_for(number) for number in NUMBERS[:8]])


@pytest.mark.parametrize("number", NUMBERS)
def test_a_faster_link_or_device_or_more_memory_never_makes_exact_longer(number: int) -> None:
    case, rng = generated_case(number + 6 * (number % 2)), np.random.default_rng(number)
    profiles = case.profiles
    try:
        before = pair_agents(profiles, case.cuts, time_model=case.time_model).makespan_s
    except ValueError:
        return
    one = int(rng.integers(len(profiles)))
    old = profiles[one]
    for better in (
        {"batches_per_s": old.batches_per_s * rng.uniform(1, 8)},
        {"memory_bytes": old.memory_bytes * rng.uniform(1, 8)},
        {"nic_bytes_per_s": old.nic_bytes_per_s * rng.uniform(1, 8)},
        {"links": {j: Link(bytes_per_s=link.bytes_per_s * 4) for j, link in old.links.items()}},
    ):
        changed = [dataclasses.replace(p, **better) if p is old else p for p in profiles]
        assert pair_agents(changed, case.cuts, time_model=case.time_model).makespan_s <= before


@pytest.mark.parametrize("number", NUMBERS)
def test_removing_help_never_makes_exact_shorter(number: int) -> None:
    case = generated_case(number)
    plan = plan_for(number, "exact")
    for pair in plan.pairs:
        unlinked = [
            dataclasses.replace(
                p, links={j: link for j, link in p.links.items() if {p.agent, j} != {pair.slow, pair.fast}}
            )
            for p in case.profiles
        ]
        after = pair_agents(unlinked, case.cuts, time_model=case.time_model)
        assert after.makespan_s >= plan.makespan_s
    assert plan_for(number).lower_bound_s <= plan_for(number).makespan_s <= plan.makespan_s


def test_one_strong_helper_serves_three_weak_agents() -> None:
    links = {i: Link(bytes_per_s=1e9) for i in range(4)}
    profiles = [
        Profile(
            agent=i,
            batches_per_s=40 if i == 0 else 1,
            num_batches=10,
            links={j: link for j, link in links.items() if (i == 0) != (j == 0)},
        )
        for i in range(4)
    ]
    exact, shared = (pair_agents(profiles, resnet_cuts(), solver=solver) for solver in ("exact", "shared"))
    assert exact.makespan_s == 10
    assert [(pair.slow, pair.fast) for pair in shared.pairs] == [(1, 0), (2, 0), (3, 0)]
    assert len({pair.finish_s for pair in shared.pairs}) == 1  # the end of the group
    assert shared.makespan_s < 2
    assert is_valid_plan(shared, profiles, resnet_cuts(), shared=True)
    assert not is_valid_plan(shared, profiles, resnet_cuts())
    wrong = dataclasses.replace(shared.pairs[0], finish_s=1.0)
    assert not is_valid_plan(
        dataclasses.replace(shared, pairs=(wrong, *shared.pairs[1:])), profiles, resnet_cuts(), shared=True
    )


def test_a_slower_card_makes_sharing_longer() -> None:
    case = generated_case(0)
    capped = [dataclasses.replace(profile, nic_bytes_per_s=1e6) for profile in case.profiles]
    open_ = [dataclasses.replace(profile, nic_bytes_per_s=1e12) for profile in case.profiles]
    slow, fast = (pair_agents(p, case.cuts, solver="shared").makespan_s for p in (capped, open_))
    assert slow >= fast
