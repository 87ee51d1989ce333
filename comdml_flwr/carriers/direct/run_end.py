"""How the agents of a message know that a run ends before its last round, without a leader.

With a target, all who took part in a round add up what they told of it with the marks of its last phase
(counts.py). The round is over when all these marks are there, so all of them decide alike; those who were
absent in it and wait for a later one are told.
"""

from collections.abc import Mapping

from comdml_flwr.agents.setup import Setup
from comdml_flwr.carriers.direct.counts import metric_of
from comdml_flwr.core.typed_json import Json
from comdml_flwr.learning.metrics import reaches


class RunEndedError(Exception):
    """The run ended before the round that is waited for."""


def reaches_target(setup: Setup, told: Mapping[int, Mapping[str, Json]]) -> bool:
    """Tell whether a round's metric, by what all who took part told, reaches `target-metric`; 0: none."""
    metrics = setup.task.metrics
    if setup.config.target_metric <= 0:
        return False
    score = metric_of(told, metrics, setup.known_tests)
    return reaches(score, setup.config.target_metric, metrics.better)
