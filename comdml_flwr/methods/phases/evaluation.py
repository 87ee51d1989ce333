"""Phases that several methods share: introduce, catch up, train alone, hand over, evaluate."""

import time
from itertools import chain
from math import isfinite
from typing import TypeAlias

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.messages import Inbox, Outbox, Report
from comdml_flwr.core.round_metrics import Combine, pack_metric
from comdml_flwr.core.sharding import shard_bounds
from comdml_flwr.core.typed_json import read_table
from comdml_flwr.learning.data.source import Samples, in_parts
from comdml_flwr.learning.global_generator import global_generator
from comdml_flwr.learning.metrics import OWN_SCORE
from comdml_flwr.learning.schedule import is_scheduled

TestPart: TypeAlias = tuple[Samples, int, int]
"""Test samples, and which of them: [start, stop)."""

METRICS = "metrics"
"""Note that holds a method's own numbers."""

_REPORTED = (
    "training_end_s",
    "end_s",
    "refused",
    "taken_back",
    "not_finite",
    "distrusted",
    "predicted_s",
    "lower_bound_s",
    "no_offload_makespan_s",
    "no_offload_virtual_time_s",
    METRICS,
)
"""What of its notes an agent reports."""


def evaluate(agent: Agent, inbox: Inbox) -> Outbox:
    """Evaluate this agent's model on its test samples, or its share of those of all, and report the round.

    Where the agents' models differ (gossip, mixing), the sum of these is the mean accuracy over the agents,
    each judged by its own share.
    """
    report_round(agent, (agent.data.test, *share_of_test_set(agent)))
    return ()


def share_of_test_set(agent: Agent) -> tuple[int, int]:
    """Return which test samples, [start, stop), this agent evaluates its model on.

    All its own, if it has some; else the members that have none share out those that all have alike.
    """
    num_test = len(agent.data.test)
    if not agent.data.all_have_test:
        return 0, num_test
    sharing = [member for member in agent.members if member not in agent.setup.num_own_tests]
    return shard_bounds(num_test, len(sharing))[sharing.index(agent.id)]


def report_round(agent: Agent, *parts: TestPart) -> None:
    """Evaluate this agent's model on parts of test samples and report the round."""
    began = time.monotonic()
    sums = evaluate_parts(agent, *parts)
    agent.report["evaluation_s"] = time.monotonic() - began
    told = {name: x if isfinite(x) else None for name, x in sums.items()}  # a report is JSON
    agent.report |= told
    is_own = not agent.is_server and not agent.data.all_have_test
    if is_own and any(start < stop for _, start, stop in parts):
        metrics = agent.setup.task.metrics
        agent.report[OWN_SCORE] = metrics.of(told)[metrics.primary]
    agent.report["weights_sha256"] = agent.weights_sha256()
    report_traffic(agent)


def evaluate_parts(agent: Agent, *parts: TestPart) -> dict[str, float]:
    """Return the task's sums over parts of test samples."""
    learner = agent.learners.whole()
    learner.load(agent.weights_P)
    draws = agent.draws("evaluation", in_evaluation=True)
    with global_generator(draws, agent.setup.device.generators):
        return learner.evaluate(chain.from_iterable(in_parts(*part) for part in parts))


def tell(agent: Agent, name: str, value: float, combine: Combine) -> None:
    """Tell a number of the method's own; the round's record, the terminal and trackers show it by its name.

    Parameters
    ----------
    agent : Agent
        Whose number it is; what it has told in this round under the same name is replaced.
    name : str
        As people see it: a noun in snake_case, with its unit at the end.
    value : float
        Of this agent in this round.
    combine : "sum", "mean" or "max"
        How the numbers of all agents that tell one become the round's.
    """
    told = read_table(agent.notes.get(METRICS, {}))
    agent.notes[METRICS] = {**told, name: pack_metric(value, combine)}


def report_traffic(agent: Agent) -> None:
    """Report what this agent sent and noted; in the first round also its data, speed and timeline.

    Who evaluated nothing, as a server that only averages, adds nothing to the round's metrics.
    """
    if is_scheduled(agent.setup.config):
        tell(agent, "learning_rate", agent.learning_rate, "max")
    agent.notes = {"training_end_s": 0.0, "end_s": agent.clock.now_s, **agent.notes}
    nothing: Report = {**agent.setup.task.metrics.nothing, "evaluation_s": 0.0}
    noted = {name: agent.notes[name] for name in _REPORTED if name in agent.notes}
    agent.report = {**nothing, **agent.report, "bytes_sent": agent.bytes_sent, **noted}
    if agent.round == 1:
        spans = agent.clock.timeline()
        agent.report |= {
            "data": agent.describe_data(),
            "device": agent.setup.device.name,
            "batches_per_s": agent.profile.batches_per_s,
            "timeline": [
                {"what": span.what, "start_s": span.start_s, "end_s": span.end_s, "peer": span.peer}
                for span in spans
            ],
        }
