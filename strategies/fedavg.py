"""FedAvg under `flwr run`: Flower's own strategy, overridden in two places.

Flower's FedAvg draws nodes without a seed, and sums replies in the order in which they come in. Here the
participants are those that all our methods draw, and replies are sorted by agent; what is drawn and what is
averaged is otherwise Flower's own code. It gives the float weights of methods/fedavg.py to the bit.

The virtual clock is ours, as Flower has none: an agent tells when its upload arrives, the server's clock says
when the mean is back.
"""

import time
from collections.abc import Iterable, Iterator
from typing import cast

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result
from torch import Tensor

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import RunError
from comdml_flwr.core.messages import Report
from comdml_flwr.core.program import agent_failed
from comdml_flwr.flower.records import flower_reason, unpack_report
from comdml_flwr.flower.serverapp.federation import Federation
from comdml_flwr.flower.serverapp.nodes import greet
from comdml_flwr.learning.averaging import is_finite
from comdml_flwr.learning.split import float_state, load_floats
from comdml_flwr.methods.phases.evaluation import report_traffic
from comdml_flwr.methods.phases.server import send_down
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.planning.types import SERVER
from comdml_flwr.runs.assemble import assemble
from comdml_flwr.runs.catalogue import Catalogue
from comdml_flwr.runs.loop import has_ended, last, reductions_after
from comdml_flwr.runs.records import RunRecord, add_up
from comdml_flwr.runs.results import recorded
from comdml_flwr.runs.terminal import Terminal
from comdml_flwr.runs.trained_models import ModelsHere

TIMEOUT_S = 3600.0
"""How long all agents may take for a round's training, or for its evaluation: as Flower's own strategies."""


def run_fedavg(
    grid: Grid, config: RunConfig, fleet_text: str, catalogue: Catalogue, terminal: Terminal
) -> Result:
    """Run all rounds of Flower's FedAvg and write the files that every run writes.

    Raises
    ------
    InputError, RunError
        What is wrong, in one line.
    """
    with greet(grid, fleet_text, terminal) as federation:
        setup = assemble(config, parse_fleet(fleet_text, config.fleet), len(federation.ids), catalogue)
        federation.check_server(setup)
        server = Agent(SERVER, setup)
        strategy = SeededFedAvg(server, federation)
        models = ModelsHere(lambda: [server], models_agree=True)
        rounds = strategy.rounds(grid)
        try:
            last(recorded(rounds, config, len(federation.ids), terminal, models=models))
        finally:
            federation.say_goodbye()
        return strategy.result


class SeededFedAvg(FedAvg):
    """Flower's FedAvg with the participants of our seed, and replies in ascending agent id.

    Parameters
    ----------
    server : Agent
        The server's end of the run: its clock, and the set-up that tells who takes part.
    federation : Federation
        Which node is which agent.

    Attributes
    ----------
    result : Result
        What Flower keeps of a run: the last model, and each round's metrics.
    """

    def __init__(self, server: Agent, federation: Federation) -> None:
        super().__init__(min_train_nodes=1, min_evaluate_nodes=1, min_available_nodes=1)
        self._server, self._federation = server, federation
        self._display = federation.messenger.display
        self._agents = {node: agent for agent, node in federation.nodes.items()}
        self._reports: dict[int, Report] = {}
        self.result = Result()

    def rounds(self, grid: Grid) -> Iterator[RunRecord]:
        """Run the rounds as Flower's `start` does, up to the one that reaches `target-metric`.

        Yields
        ------
        RunRecord
            After each round, all rounds so far.
        """
        setup, record = self._server.setup, RunRecord()
        for_training, for_evaluation = (ConfigRecord(dict(self._federation.common)) for _ in range(2))
        model = setup.learners.model
        load_floats(model, setup.initial_weights_P)
        arrays = ArrayRecord(model.state_dict())
        began = time.monotonic()
        for round_ in range(1, setup.config.num_rounds + 1):
            # 1. Flower's training, at the rate of the round
            self._server.num_reductions = reductions_after(record.rounds, setup.config)
            for told in (for_training, for_evaluation):
                told["num-reductions"] = self._server.num_reductions
            messages = self.configure_train(round_, arrays, for_training, grid)
            mean, metrics = self.aggregate_train(round_, grid.send_and_receive(messages, timeout=TIMEOUT_S))
            if mean is not None:
                self.result.arrays = arrays = mean
            if metrics is not None:
                self.result.train_metrics_clientapp[round_] = metrics
            # 2. Flower's evaluation
            messages = self.configure_evaluate(round_, arrays, for_evaluation, grid)
            metrics = self.aggregate_evaluate(round_, grid.send_and_receive(messages, timeout=TIMEOUT_S))
            if metrics is not None:
                self.result.evaluate_metrics_clientapp[round_] = metrics
            # 3. Our record of it
            elapsed_s = time.monotonic() - began
            ended = add_up(round_, self._reports, elapsed_s, metrics=setup.task.metrics)
            record = record.with_round(ended, self._reports)
            self._server.end_round()
            yield record
            if has_ended(record.rounds, setup.config):
                return
            began = time.monotonic()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Let Flower draw all of those whom our seed draws."""
        self._display.exchange_begins(server_round, "train", len(self._present(server_round)))
        return super().configure_train(server_round, arrays, config, self._drawn(server_round))

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Let those evaluate who trained."""
        self._display.exchange_begins(server_round, "evaluate", len(self._present(server_round)))
        return super().configure_evaluate(server_round, arrays, config, self._drawn(server_round))

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Let Flower average the replies whose weights are finite, in ascending id; set the clocks.

        Where there are none, the model stays as it was.
        """
        ordered = self._in_order(server_round, replies, "train")
        whole = {agent: reply for agent, reply in ordered.items() if self._is_finite(reply)}
        arrays, metrics = super().aggregate_train(server_round, list(whole.values()))
        self._reports = {agent: _report(reply) for agent, reply in ordered.items()}
        self._send_down(server_round, arrays, ordered.keys() - whole.keys())
        return arrays, metrics

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Let Flower average the metrics, in ascending id."""
        ordered = self._in_order(server_round, replies, "evaluate")
        metrics = super().aggregate_evaluate(server_round, list(ordered.values()))
        for agent, reply in ordered.items():
            self._reports[agent] |= _report(reply)
        return metrics

    def _present(self, round_: int) -> tuple[int, ...]:
        return self._server.setup.present(round_)

    def _drawn(self, round_: int) -> Grid:
        return cast(Grid, _GridOf([self._federation.nodes[agent] for agent in self._present(round_)]))

    def _in_order(self, round_: int, replies: Iterable[Message], phase: str) -> dict[int, Message]:
        by_agent: dict[int, Message] = {}
        for reply in replies:
            if reply.has_error():  # its sender may be the SuperLink, so the agent is not known
                raise RunError(f"an agent failed in round {round_}, {phase}: {flower_reason(reply)}")
            agent = self._agents[reply.metadata.src_node_id]
            facts = reply.content.config_records["facts"]
            if "failure" in facts:
                raise agent_failed(agent, f"round {round_}, {phase}", RunError(str(facts["failure"])))
            by_agent[agent] = reply
        missing = [agent for agent in self._present(round_) if agent not in by_agent]
        if missing:
            raise RunError(f"round {round_}, {phase}: no reply from agents {missing}")
        return dict(sorted(by_agent.items()))

    def _is_finite(self, reply: Message) -> bool:
        """Tell whether a reply holds a model, and no NaN or infinity in it."""
        arrays = reply.content.array_records["arrays"]
        return bool(arrays) and is_finite(_flat(arrays, self._server).numpy())

    def _send_down(self, round_: int, arrays: ArrayRecord | None, not_finite: Iterable[int]) -> None:
        """Set the server's clock, and find out when each agent has the mean."""
        server = self._server
        server.report = {}
        server.begin_round(round_)
        for report in self._reports.values():
            arrives_s = report.pop("arrives_s")
            assert isinstance(arrives_s, float)
            server.clock.wait(arrives_s)
        server.note_not_finite(not_finite)
        if arrays is not None:
            server.tensors["weights"] = _flat(arrays, server)
        mail = send_down(server, {"weights": server.weights_P.numpy()})
        for envelope in mail:
            if envelope.receiver in self._reports:
                _wait_for_mean(self._reports[envelope.receiver], envelope.arrives_s)
        report_traffic(server)
        self._reports[SERVER] = server.report


class _GridOf:
    """What Flower's draw looks at of a grid, as if it had these nodes alone."""

    def __init__(self, nodes: list[int]) -> None:
        self._nodes = nodes

    def get_node_ids(self) -> Iterable[int]:
        return list(self._nodes)


def _report(reply: Message) -> Report:
    return unpack_report(str(reply.content.config_records["facts"]["report"]))


def _flat(arrays: ArrayRecord, server: Agent) -> Tensor:
    """Return the floats of the model's arrays as one tensor, in the model's order."""
    names = [name for name, _ in float_state(server.setup.learners.model)]
    return torch.from_numpy(np.concatenate([arrays[name].numpy().reshape(-1) for name in names]))


def _wait_for_mean(report: Report, arrives_s: float) -> None:
    now_s, timeline = report["now_s"], report.get("timeline")
    assert isinstance(now_s, float)
    report["end_s"] = max(now_s, arrives_s)
    if isinstance(timeline, list) and arrives_s > now_s:
        timeline.append({"what": "wait", "start_s": now_s, "end_s": arrives_s, "peer": None})
