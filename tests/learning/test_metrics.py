"""Sums over shares of a test set add up to the metrics of the whole."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comdml_flwr.core.errors import RunError
from comdml_flwr.learning.metrics import CLASSIFICATION_METRICS, add_sums, read_sums
from comdml_flwr.learning.task import Classification

TASK = Classification(input_shape=(4,), num_classes=4)


@given(st.lists(st.integers(0, 20), max_size=5), st.integers(0, 2**31))
def test_sums_of_shares_are_those_of_the_whole(sizes, seed):
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(sum(sizes), 4, generator=draw)
    labels = torch.randint(4, (sum(sizes),), generator=draw)
    shares = zip(logits.split(sizes or [0]), labels.split(sizes or [0]), strict=True)
    parts = [TASK.evaluate(*share) for share in shares]
    added, whole = add_sums(parts, CLASSIFICATION_METRICS), TASK.evaluate(logits, labels)
    assert (added["correct"], added["num_evaluated"]) == (whole["correct"], whole["num_evaluated"])
    assert added["loss_sum"] == pytest.approx(whole["loss_sum"], rel=1e-5, abs=1e-5)
    assert all(map(CLASSIFICATION_METRICS.is_possible, parts))


def test_metrics_over_no_sample_are_not_known():
    assert CLASSIFICATION_METRICS.of(CLASSIFICATION_METRICS.nothing) == {"accuracy": None, "loss": None}


def test_a_loss_that_is_not_finite_leaves_the_accuracy():
    sums = read_sums({"correct": 1, "num_evaluated": 2, "loss_sum": None}, CLASSIFICATION_METRICS)
    whole = add_sums([sums, {"correct": 1, "num_evaluated": 2, "loss_sum": 1.0}], CLASSIFICATION_METRICS)
    assert CLASSIFICATION_METRICS.of(whole) == {"accuracy": 0.5, "loss": None}


@pytest.mark.parametrize("correct", [None, "1", [1]])
def test_a_count_that_is_no_number_is_refused(correct):
    told = {"correct": correct, "num_evaluated": 2, "loss_sum": 1.0}
    with pytest.raises(RunError, match=r"in a report: .* is no (whole )?number"):
        read_sums(told, CLASSIFICATION_METRICS)


@pytest.mark.parametrize("correct", [-1, 3, 0.5])
def test_counts_that_no_evaluation_gives_are_not_possible(correct):
    sums = {"correct": correct, "num_evaluated": 2, "loss_sum": 1.0}
    assert not CLASSIFICATION_METRICS.is_possible(sums)
