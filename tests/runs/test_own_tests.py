"""What a round's record tells of agents that test on data of their own, and how far their metric spreads."""

import pytest

from comdml_flwr.core.errors import RunError
from comdml_flwr.learning.metrics import ClassificationMetrics
from comdml_flwr.planning.types import SERVER
from comdml_flwr.runs.own_tests import own_tests_of, spread_of


class OfNodes(ClassificationMetrics):
    """Metrics whose values only a node knows: asking it costs a message."""

    def of(self, sums):
        raise AssertionError("nobody is asked for a single agent's")


SUMS = {"correct": 3, "loss_sum": 2.0, "num_evaluated": 4}


def test_the_metric_of_each_agent_is_what_it_tells():
    reports = {
        SERVER: {**SUMS, "own_score": 0.1},
        2: {**SUMS, "own_score": None},
        0: {**SUMS, "own_score": 0.75},
        1: SUMS,
    }
    assert own_tests_of(reports, OfNodes()) == {
        "0": {"accuracy": 0.75, "sums": SUMS},
        "2": {"accuracy": None, "sums": SUMS},
    }
    with pytest.raises(RunError, match="own_score in a report: 'much' is no number"):
        own_tests_of({0: {**SUMS, "own_score": "much"}}, OfNodes())


@pytest.mark.parametrize(("better", "best"), [("higher", (2, 9.0)), ("lower", (0, 1.0))])
def test_the_best_agent_is_the_first(better, best):
    told = {"0": {"mae": 1.0}, "1": {"mae": None}, "2": {"mae": 9.0}, "10": {"mae": 3.0}}
    spread = spread_of(told, "mae", better)
    assert spread.by_agent[0] == best
    assert (spread.best, spread.median, spread.worst) == (best[1], 3.0, 10.0 - best[1])
    assert spread.as_json()["num_agents"] == 3
    assert spread_of({"1": {"mae": None}}, "mae", better) is None
