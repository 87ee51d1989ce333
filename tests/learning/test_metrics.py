"""Sums over shares of a test set add up to the metrics of the whole."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comdml_flwr.core.errors import RunError
from comdml_flwr.learning.metrics import CLASSIFICATION_METRICS, KnownTests, add_sums, read_sums
from comdml_flwr.learning.task import Classification
from comdml_flwr.learning.tasks.language_model import LANGUAGE_MODEL_METRICS
from comdml_flwr.learning.tasks.multi_label import MULTI_LABEL_METRICS

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


LABELS = {
    "num_evaluated": 2,
    "num_labels": 6,
    "true_positives": 1,
    "false_positives": 1,
    "false_negatives": 0,
}
TOKENS = {"num_evaluated": 2, "num_tokens": 6, "loss_sum": 3.0}


@pytest.mark.parametrize(
    ("metrics", "good", "bad"),
    [
        (CLASSIFICATION_METRICS, {"correct": 2, "loss_sum": 1.0, "num_evaluated": 2}, {"loss_sum": -0.5}),
        (CLASSIFICATION_METRICS, {"correct": 2, "loss_sum": None, "num_evaluated": 2}, {"num_evaluated": 3}),
        (CLASSIFICATION_METRICS, {"correct": 0, "loss_sum": 1.0, "num_evaluated": 2}, {"num_evaluated": 0}),
        (MULTI_LABEL_METRICS, {**LABELS, "loss_sum": 1.0}, {"num_labels": 7}),
        (MULTI_LABEL_METRICS, {**LABELS, "loss_sum": 1.0}, {"loss_sum": -1.0}),
        (LANGUAGE_MODEL_METRICS, TOKENS, {"num_tokens": 7}),
        (LANGUAGE_MODEL_METRICS, TOKENS, {"num_tokens": 0}),
        (LANGUAGE_MODEL_METRICS, TOKENS, {"loss_sum": -1.0}),
    ],
)
def test_sums_of_an_agent_are_held_against_the_samples_that_it_can_have_evaluated(metrics, good, bad):
    tests = KnownTests(ids=(0, 1), own={1: 9}, num_shared=2, most_counts=3)
    assert tests.wrong_sums(good, metrics, 2) == ""
    assert tests.wrong_sums(metrics.nothing, metrics, 2) == ""
    assert tests.wrong_sums({**good, **bad}, metrics, 2)


def test_shared_samples_are_those_of_who_has_none_and_takes_part():
    tests = KnownTests(ids=(0, 1, 2, 3), own={1: 9}, num_shared=7)
    assert tests.most([0, 1, 2]) == {0: 4, 1: 9, 2: 4}
    assert tests.most([1, 3]) == {1: 9, 3: 7}
