"""The ServerApp, which has no task, makes metrics of the nodes' sums as the nodes would."""

import pytest
from flwr.app import ConfigRecord, Error, Message

from comdml_flwr.core.errors import RunError
from comdml_flwr.flower.clientapp.peer_client_app import peer_client_app
from comdml_flwr.flower.serverapp.nodes import told_alike
from comdml_flwr.flower.serverapp.serverless_run import run_serverless
from comdml_flwr.learning.tasks.regression import Regression
from comdml_flwr.learning.tasks.told_metrics import pack_metrics
from tests.flower.loop_grid import LoopGrid, grid_config, quiet_terminal
from tests.learning.tasks.small_tasks import OWN, TASKS
from tests.small import fleet_text, small_config

NUM = 3


class DeafGrid(LoopGrid):
    """A grid some of whose nodes die when they are asked for metrics; it notes who is asked."""

    deaf, asked = (), ()

    def _handle(self, message):
        if message.metadata.message_type != "query.metrics":
            return super()._handle(message)
        agent = 1000 - message.metadata.dst_node_id
        self.asked = (*self.asked, agent)
        name = super()._handle(message)
        if agent in self.deaf:
            self._replies[name] = Message(error=Error(code=5, reason="the node is dead"), reply_to=message)
        return name


def run_with(deaf, folder):
    _, data_for, build = TASKS["own"]
    app = peer_client_app(models={"tiny": build}, datasets={"tiny": lambda config: data_for(OWN)})
    keys = {"model": "tiny", "dataset": "tiny", "method": "allreduce", "num_rounds": 3}
    config = grid_config(small_config(**keys), folder)
    grid = DeafGrid(app, NUM, config.with_defaults_named())
    grid.deaf = deaf
    return run_serverless(grid, config, fleet_text(NUM), quiet_terminal(3)), grid.asked


def test_one_node_is_asked_for_the_metrics_of_a_task_of_its_own(tmp_path):
    record, asked = run_with((), tmp_path / "all")
    assert asked == (0, 0, 0)
    other, asked = run_with((0,), tmp_path / "deaf")
    assert asked == (0, 1, 1, 1)
    assert [line.scores for line in record.rounds] == [line.scores for line in other.rounds]
    assert record.last.scores["mae"] > 0


def test_a_run_whose_nodes_give_no_metric_ends_in_one_line(tmp_path):
    with pytest.raises(RunError, match=r"^agent 0 .*the node is dead$"):
        run_with(range(NUM), tmp_path)


def test_nodes_whose_tasks_differ_are_named(tmp_path):
    tasks = (OWN, OWN, Regression(num_outputs=2))
    told = {agent: (9, ConfigRecord({"metrics": pack_metrics(task)})) for agent, task in enumerate(tasks)}
    with pytest.raises(RunError, match=r'^metrics of agent 0 is .*"mae".*, and of agent 2 .*"regression"'):
        told_alike(told, "metrics")
    assert told_alike({0: told[0], 1: told[1]}, "metrics") == {"metrics": pack_metrics(OWN)}
