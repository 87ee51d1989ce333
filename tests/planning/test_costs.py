"""The two time models of a pair, against hand tables and a batch-by-batch simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.costs import TIME_MODELS, lower_bound_s, pair_finish_s
from comdml_flwr.planning.types import Cut, Link, Profile

LAW = settings(max_examples=200)
SECONDS = st.floats(0.01, 10)


def two_agents(slow: tuple[float, float], fast: tuple[float, float], link: Link | None) -> list[Profile]:
    """Slow agent 0 and fast agent 1, each (batches_per_s, num_batches)."""
    return [
        Profile(agent=0, batches_per_s=slow[0], num_batches=slow[1], links={1: link} if link else {}),
        Profile(agent=1, batches_per_s=fast[0], num_batches=fast[1], links={0: link} if link else {}),
    ]


def finish_s(profiles: list[Profile], cut: Cut, time_model: str) -> float:
    return float(pair_finish_s(profiles, (cut,), time_model)[0, 1, 0])


def simulated_s(
    sizes: list[float], slow: float, transfer: float, fast: float, latency: float, busy: float
) -> float:
    """Send batches of these sizes one after the other through slow side, link and helper."""
    slow_free = link_free = 0.0
    helper_free = busy
    for size in sizes:
        slow_free += size * slow
        link_free = max(link_free, slow_free) + size * transfer
        helper_free = max(helper_free, link_free + latency) + size * fast
    return helper_free


def predicted_s(num: float, slow: float, transfer: float, fast: float, latency: float, busy: float) -> float:
    """The same through pair_finish_s: 1 byte per batch, both agents with one batch per second."""
    profiles = two_agents((1, num), (1, busy), Link(bytes_per_s=1, latency_s=latency))
    cut = Cut(slow_share=slow, fast_share=fast, bytes_per_batch=transfer)
    return finish_s(profiles, cut, "pipeline")


# 10 batches at 1 batch/s (T = 10) to a helper at 4 batches/s with 8 batches (T = 2); 5 bytes/s, latency 3 s
@pytest.mark.parametrize(
    ("slow_share", "fast_share", "bytes_per_batch", "overlap_s", "pipeline_s"),
    [
        (0.5, 0.4, 1, 5.0, 0.5 + 0.2 + 3 + 9 * 0.5 + 0.1),  # the slow side is the bottleneck
        (0.5, 0.4, 10, 20.0, 0.5 + 2 + 3 + 9 * 2 + 0.1),  # the link
        (0.1, 4.0, 1, 12.0, 0.1 + 0.2 + 3 + 10 * 1.0),  # the helper waits for the first batch
        (0.0, 0.0, 0, 2.0, 3.0),  # the helper's own model; with latency, the empty message
    ],
)
def test_hand_table(
    slow_share: float, fast_share: float, bytes_per_batch: float, overlap_s: float, pipeline_s: float
) -> None:
    profiles = two_agents((1, 10), (4, 8), Link(bytes_per_s=5, latency_s=3))
    cut = Cut(slow_share=slow_share, fast_share=fast_share, bytes_per_batch=bytes_per_batch)
    assert finish_s(profiles, cut, "overlap") == pytest.approx(overlap_s, rel=1e-12)
    assert finish_s(profiles, cut, "pipeline") == pytest.approx(pipeline_s, rel=1e-12)


def test_a_busy_helper_starts_after_its_own_model() -> None:
    profiles = two_agents((1, 10), (4, 400), Link(bytes_per_s=5, latency_s=3))
    cut = Cut(slow_share=0.5, fast_share=0.4, bytes_per_batch=1)
    assert [finish_s(profiles, cut, model) for model in TIME_MODELS] == [101.0, 101.0]


@LAW
@given(st.integers(1, 40), SECONDS, SECONDS, SECONDS, st.floats(0, 5), SECONDS)
def test_pipeline_equals_the_simulation_for_whole_batches(
    num: int, slow: float, transfer: float, fast: float, latency: float, busy: float
) -> None:
    stages = (slow, transfer, fast, latency, busy)
    assert predicted_s(num, *stages) == pytest.approx(simulated_s([1.0] * num, *stages), rel=1e-12)


@LAW
@given(st.floats(0.01, 1), SECONDS, SECONDS, SECONDS, st.floats(0, 5), SECONDS)
def test_pipeline_equals_the_simulation_for_one_small_batch(
    num: float, slow: float, transfer: float, fast: float, latency: float, busy: float
) -> None:
    stages = (slow, transfer, fast, latency, busy)
    assert predicted_s(num, *stages) == pytest.approx(simulated_s([num], *stages), rel=1e-12)


@LAW
@given(st.floats(1.01, 20), SECONDS, SECONDS, SECONDS, st.floats(0, 5), SECONDS)
def test_pipeline_is_less_than_a_batch_above_the_simulation_for_a_small_last_batch(
    num: float, slow: float, transfer: float, fast: float, latency: float, busy: float
) -> None:
    stages = (slow, transfer, fast, latency, busy)
    sizes = [1.0] * math.floor(num) + [num - math.floor(num)]
    excess = predicted_s(num, *stages) - simulated_s(sizes, *stages)
    assert -1e-9 <= excess <= min(slow, transfer) + fast + 1e-9


@LAW
@given(st.floats(0.1, 100), SECONDS, SECONDS, SECONDS, st.floats(0, 5), SECONDS)
def test_pipeline_is_never_faster_than_overlap(
    num: float, slow: float, transfer: float, fast: float, latency: float, busy: float
) -> None:
    profiles = two_agents((1, num), (1, busy), Link(bytes_per_s=1, latency_s=latency))
    cut = Cut(slow_share=slow, fast_share=fast, bytes_per_batch=transfer)
    assert finish_s(profiles, cut, "pipeline") >= finish_s(profiles, cut, "overlap") * (1 - 1e-12)


@LAW
@given(st.floats(0.001, 1000), st.floats(0.001, 1000), st.sampled_from(TIME_MODELS))
def test_a_cut_that_keeps_all_the_work_is_never_faster_than_alone(
    speed: float, num: float, time_model: str
) -> None:
    profiles = two_agents((speed, num), (1e6, 1e-3), Link(bytes_per_s=1e6))
    keep_all = Cut(slow_share=1, fast_share=0, bytes_per_batch=0)
    assert finish_s(profiles, keep_all, time_model) >= profiles[0].solo_s


@pytest.mark.parametrize("time_model", TIME_MODELS)
def test_agents_without_a_link_cannot_pair(time_model: str) -> None:
    cuts = (
        Cut(slow_share=0.5, fast_share=0.5, bytes_per_batch=0),
        Cut(slow_share=0, fast_share=1, bytes_per_batch=9),
    )
    for link in (None, Link(bytes_per_s=0)):
        table = pair_finish_s(two_agents((1, 10), (4, 8), link), cuts, time_model)
        assert table.shape == (2, 2, 2)
        assert np.isinf(table).all()


@pytest.mark.parametrize("time_model", TIME_MODELS)
def test_an_agent_does_not_pair_with_itself(time_model: str) -> None:
    link = Link(bytes_per_s=1e9)
    one = Profile(agent=7, batches_per_s=1, num_batches=10, links={7: link, 8: link})
    two = Profile(agent=8, batches_per_s=1, num_batches=10, links={7: link})
    table = pair_finish_s([one, two], (Cut(slow_share=0.5, fast_share=0.5, bytes_per_batch=1),), time_model)
    assert np.isinf(table[[0, 1], [0, 1]]).all()
    assert np.isfinite(table[[0, 1], [1, 0]]).all()


def test_the_slower_value_counts_where_two_agents_disagree() -> None:
    cut = Cut(slow_share=0.5, fast_share=0.5, bytes_per_batch=10)
    told = [Link(bytes_per_s=5, latency_s=1), Link(bytes_per_s=2, latency_s=0.25)]
    profiles = [
        Profile(agent=0, batches_per_s=1, num_batches=10, links={1: told[0]}),
        Profile(agent=1, batches_per_s=4, num_batches=8, links={0: told[1]}),
    ]
    slowest = two_agents((1, 10), (4, 8), Link(bytes_per_s=2, latency_s=1))
    for time_model in TIME_MODELS:
        expected = pair_finish_s(slowest, (cut,), time_model)
        assert (pair_finish_s(profiles, (cut,), time_model) == expected).all()


def test_links_to_absent_agents_are_ignored() -> None:
    profile = Profile(agent=3, batches_per_s=1, num_batches=1, links={9: Link(bytes_per_s=1)})
    table = pair_finish_s([profile], (Cut(slow_share=0, fast_share=0, bytes_per_batch=0),), "overlap")
    assert table.tolist() == [[[math.inf]]]


def test_lower_bound_is_the_worst_of_the_favourites() -> None:
    profiles = [Profile(agent=i, batches_per_s=1, num_batches=n) for i, n in enumerate((10, 20, 30))]
    table = np.full((3, 3, 2), np.inf)
    table[1, 0] = [15, 14]
    table[2, 0] = [22, 25]
    table[2, 1] = [23, 21]
    assert lower_bound_s(profiles, table) == 21
    table[1, 0] = [25, 24]
    table[2] = 19
    assert lower_bound_s(profiles, table) == 20


def test_unknown_time_model_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^time_model = 'flow-shop': must be one of overlap, pipeline$"):
        pair_finish_s([], (), "flow-shop")
