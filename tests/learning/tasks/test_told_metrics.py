"""Who has no task adds up by what a node tells of its metrics."""

import json

import pytest

from comdml_flwr.core.errors import RunError
from comdml_flwr.learning.tasks.told_metrics import pack_metrics, read_metrics, read_scores
from tests.learning.tasks.small_tasks import OWN, TASKS


def nobody(sums):
    raise AssertionError("nobody need be asked")


@pytest.mark.parametrize("task", [task for task, *_ in TASKS.values() if task is not OWN])
def test_the_metrics_of_our_tasks_are_told_whole(task):
    assert read_metrics(pack_metrics(task), nobody) == task.metrics


def test_of_a_task_of_ones_own_the_values_are_asked_for():
    asked = []

    def ask(sums):
        asked.append(sums)
        return OWN.metrics.of(sums)

    metrics, own = read_metrics(pack_metrics(OWN), ask), OWN.metrics
    assert (metrics.primary, metrics.better, metrics.most) == (own.primary, own.better, own.most)
    assert metrics.nothing == own.nothing
    assert [type(zero) for zero in metrics.nothing.values()] == [type(zero) for zero in own.nothing.values()]
    sums = {"num_evaluated": 2, "loss_sum": 3.0, "error": 5.0}
    assert metrics.of(sums) == {"mae": 2.5, "loss": 1.5}
    assert asked == [sums]
    assert metrics.is_possible(sums)
    assert not metrics.is_possible({**sums, "num_evaluated": -1})


TOLD = json.loads(pack_metrics(OWN))


@pytest.mark.parametrize(
    "packed",
    [
        "",
        "[]",
        '{"task": "clustering", "num_outputs": 1}',
        '{"task": "regression"}',
        json.dumps({**TOLD, "better": "more"}),
        json.dumps({**TOLD, "sums": {"error": "many"}}),
        json.dumps({**TOLD, "metric": 1}),
    ],
)
def test_what_tells_of_no_metrics_is_one_line(packed):
    with pytest.raises(RunError, match="tells of no metrics") as caught:
        read_metrics(packed, nobody)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("packed", ["", "{}", '{"mae": 1.0}', '{"mae": "1.0", "loss": 1.0}', '{"loss": 1}'])
def test_what_holds_no_values_is_one_line(packed):
    with pytest.raises(RunError, match="holds no value"):
        read_scores(packed, "mae")
    assert read_scores('{"mae": 1, "loss": null}', "mae") == {"mae": 1.0, "loss": None}
