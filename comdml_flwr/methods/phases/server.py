"""What the methods with a server share: who runs a phase, and what goes up to the server and down from it.

The server is one more participant of a round, under the id SERVER, with speed and links from the fleet file's
[server] table. It has no data of its own and is not among those who are drawn.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.messages import Array, Envelope, Inbox, Outbox
from comdml_flwr.core.program import Run
from comdml_flwr.learning.averaging import is_finite, weighted_mean
from comdml_flwr.methods.phases.evaluation import report_traffic
from comdml_flwr.planning.types import SERVER


def at_agents(run: Run[Agent]) -> Run[Agent]:
    """Return what does the same at the agents and nothing at the server."""
    return lambda agent, inbox: () if agent.is_server else run(agent, inbox)


def at_server(run: Run[Agent]) -> Run[Agent]:
    """Return what does the same at the server and nothing at the agents."""
    return lambda agent, inbox: run(agent, inbox) if agent.is_server else ()


def upload(agent: Agent, weights: NDArray[np.float32]) -> Envelope:
    """Return mail to the server with weights, and how many samples stand behind them.

    Weights that hold NaN or infinity stay at home: the server hears that there are none.
    """
    arrays = {"weights": weights} if is_finite(weights) else {}
    return agent.send(SERVER, "upload", {"num_samples": agent.num_samples}, arrays)


def finite_uploads(agent: Agent, inbox: Inbox) -> Inbox:
    """Wait for all uploads and return those with weights, all finite; the others are left out and noted."""
    mail = agent.receive(inbox, "upload")
    whole = tuple(m for m in mail if m.arrays and is_finite(m.floats("weights")))
    agent.note_not_finite({m.sender for m in mail} - {m.sender for m in whole})
    return whole


def mean_of_uploads(uploads: Inbox) -> NDArray[np.float32]:
    """Return the mean of what came up, weighed by samples, in ascending id."""
    weights = [upload.floats("weights") for upload in uploads]
    return weighted_mean(weights, [upload.integer("num_samples") for upload in uploads])


def send_down(agent: Agent, arrays: Mapping[str, Array]) -> Outbox:
    """Send the current model to all who took part, and to those who were absent and take part next.

    The round is over when the latter have it, too.
    """
    present, newcomers = agent.members, agent.newcomers
    outbox = tuple(agent.send(peer, "model", {}, arrays) for peer in (*present, *newcomers))
    agent.notes["end_s"] = max(envelope.arrives_s for envelope in outbox)
    return outbox


def report_of_server(agent: Agent, inbox: Inbox) -> Outbox:
    """Report the server's traffic; it evaluates nothing and its model is the agents'."""
    report_traffic(agent)
    return ()
