"""The one sum of all methods: Flower's own to the bit, and the same however it is cut into shards."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.sharding import shard_bounds
from comdml_flwr.learning.averaging import weighted_mean

LAW = settings(max_examples=150)
FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)


@st.composite
def contributions(draw, max_floats=40):
    """Vectors of one length with their numbers of samples; a few may have none."""
    num_agents, num_floats = draw(st.integers(1, 6)), draw(st.integers(1, max_floats))
    vectors = [draw(arrays(np.float32, num_floats, elements=FLOATS)) for _ in range(num_agents)]
    num_samples = draw(st.lists(st.integers(0, 10**6), min_size=num_agents, max_size=num_agents).filter(sum))
    return vectors, num_samples


def replies(vectors, num_samples, num_layers=1):
    """Return what nodes would reply to FedAvg: the vector as `num_layers` arrays, and the samples."""
    return [
        RecordDict(
            {
                "arrays": ArrayRecord(
                    {str(layer): Array(part) for layer, part in enumerate(np.array_split(vector, num_layers))}
                ),
                "metrics": MetricRecord({"num-examples": count}),
            }
        )
        for vector, count in zip(vectors, num_samples, strict=True)
    ]


def flat(record):
    return np.concatenate([array.numpy() for array in record.values()])


@LAW
@given(contributions())
def test_the_mean_is_flowers_own_to_the_bit(given_):
    vectors, num_samples = given_
    theirs = aggregate_arrayrecords(replies(vectors, num_samples), "num-examples")
    assert weighted_mean(vectors, num_samples).tobytes() == flat(theirs).tobytes()


def test_the_mean_is_that_of_flowers_fedavg_with_sorted_replies(monkeypatch):
    for name in ("_run_id", "_node_id", "_task_id"):  # a Message wants to know the process it is made in
        monkeypatch.setattr(TaskIdentity, name, 1)
    rng = np.random.default_rng(1)
    vectors = [rng.standard_normal(10_001).astype(np.float32) for _ in range(10)]
    num_samples = [int(n) for n in rng.integers(1, 200, 10)]
    messages = [
        Message(content, dst_node_id=node, message_type="train")
        for node, content in enumerate(replies(vectors, num_samples, num_layers=7))
    ]
    record, _ = FedAvg().aggregate_train(1, messages)
    assert weighted_mean(vectors, num_samples).tobytes() == flat(record).tobytes()


def test_the_order_of_the_agents_decides_the_bits():
    """If it did not, the law above would hold for any order, and sorting would be for nothing."""
    big, one, minus_big = np.float32([1e8]), np.float32([1]), np.float32([-1e8])
    assert weighted_mean([big, one, minus_big], [1, 1, 1]) != weighted_mean([big, minus_big, one], [1, 1, 1])


@LAW
@given(contributions(), st.integers(1, 60))
def test_sharding_changes_nothing(given_, num_shards):
    vectors, num_samples = given_
    whole = weighted_mean(vectors, num_samples)
    shards = [
        weighted_mean([vector[start:stop] for vector in vectors], num_samples)
        for start, stop in shard_bounds(len(whole), num_shards)
    ]
    assert np.concatenate(shards).tobytes() == whole.tobytes()


@LAW
@given(st.integers(0, 1000), st.integers(1, 60))
def test_shards_follow_one_another_and_their_sizes_differ_by_one_at_most(num_floats, num_shards):
    bounds = shard_bounds(num_floats, num_shards)
    assert len(bounds) == num_shards
    assert [start for start, _ in bounds] == [0, *(stop for _, stop in bounds[:-1])]
    assert bounds[-1][1] == num_floats
    sizes = {stop - start for start, stop in bounds}
    assert min(sizes) >= 0
    assert max(sizes) - min(sizes) <= 1


def test_the_mean_by_hand():
    mean = weighted_mean([np.float32([0, 4, 8]), np.float32([4, 0, 8])], [1, 3])
    assert mean.dtype == np.float32
    assert mean.tolist() == [3, 1, 8]


def test_an_agent_without_samples_weighs_nothing_and_one_alone_stays_what_it_is():
    one, other = np.float32([1.1, -2.7]), np.float32([9, 9])
    assert weighted_mean([one, other], [5, 0]).tobytes() == one.tobytes()
    assert weighted_mean([one], [7]).tobytes() == one.tobytes()


def test_the_vectors_are_read_only():
    vectors = [np.ones(4, np.float32), np.ones(4, np.float32)]
    for vector in vectors:
        vector.flags.writeable = False  # as mail is that came in bytes
    mean = weighted_mean(vectors, [1, 1])
    assert not any(np.shares_memory(mean, vector) for vector in vectors)


@pytest.mark.parametrize(
    ("num_vectors", "num_samples"),
    [(0, []), (0, [3]), (2, [3]), (1, [3, 4]), (1, [0]), (2, [0, 0]), (2, [-1, 1])],
)
def test_nothing_to_average_is_refused_in_one_line(num_vectors, num_samples):
    with pytest.raises(InputError) as caught:
        weighted_mean([np.ones(2, np.float32)] * num_vectors, num_samples)
    assert (
        str(caught.value) == f"num_samples = {num_samples}: must be one number >= 0 a vector, with a sum > 0"
    )
