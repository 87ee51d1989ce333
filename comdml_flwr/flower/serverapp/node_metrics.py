"""The metrics of the nodes' task, as the ServerApp knows them: it has none, and adds up the nodes' sums."""

from collections.abc import Sequence

from flwr.app import ConfigRecord

from comdml_flwr.core.strict_json import to_json
from comdml_flwr.flower.records import text
from comdml_flwr.flower.serverapp.federation import Federation
from comdml_flwr.flower.serverapp.messenger import SHORTEST_PATIENCE_S
from comdml_flwr.learning.metrics import Metrics, Sums
from comdml_flwr.learning.tasks.told_metrics import Scores, read_metrics, read_scores


def metrics_of(federation: Federation) -> Metrics:
    """Return the metrics that the nodes told when they were greeted.

    Of a task that is none of ours, one node is asked after each round for the values of the sums.

    Raises
    ------
    RunError
        They told of none.
    """
    metrics = read_metrics(federation.metrics, lambda sums: asked.values_of(sums))
    asked = _Nodes(federation, metrics.primary)
    return metrics


class _Nodes:
    """Asks the node that answered last time; where it fails, the others, one after another."""

    def __init__(self, federation: Federation, metric: str) -> None:
        self._federation, self._metric = federation, metric
        self._in_turn: Sequence[int] = federation.ids

    def values_of(self, sums: Sums) -> Scores:
        """Return the metrics that a node makes of sums over all agents' test samples.

        Raises
        ------
        RunError
            No node does; the line is the first one's.
        """
        facts, patience_s = ConfigRecord({"sums": to_json(sums)}), self._federation.hello_s * 2
        failures = []
        for place, agent in enumerate(self._in_turn):
            told, failed = self._federation.ask(
                "query.metrics",
                {agent: facts},
                lambda reply: read_scores(text(reply, "scores"), self._metric),
                what="the task's metrics",
                patience_s=max(SHORTEST_PATIENCE_S, patience_s),
            )
            if agent in told:
                self._in_turn = (*self._in_turn[place:], *self._in_turn[:place])
                return told[agent]
            failures.append(failed[agent])
        raise failures[0]
