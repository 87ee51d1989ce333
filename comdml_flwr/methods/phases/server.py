"""What the methods with a server share: who runs a phase, and what goes up to the server and down from it.

The server is one more participant of a round, under the id SERVER, with speed and links from the fleet file's
[server] table. It has no data of its own and is not among those who are drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.reading import receive, wrong_length, wrong_samples
from comdml_flwr.core.mail import Mail
from comdml_flwr.core.messages import Array, Envelope, Floats, Inbox, Outbox
from comdml_flwr.core.program import Run
from comdml_flwr.learning.averaging import is_finite, weighted_mean
from comdml_flwr.methods.phases.evaluation import report_traffic
from comdml_flwr.methods.phases.introduction import Model
from comdml_flwr.planning.types import SERVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload(Mail):
    """Trained weights (float32) and how many samples stand behind them; none where they were not finite."""

    kind: ClassVar[str] = "upload"
    num_samples: int
    weights: Floats | None = None


def at_agents(run: Run[Agent]) -> Run[Agent]:
    """Return what does the same at the agents and nothing at the server."""
    return lambda agent, inbox: () if agent.is_server else run(agent, inbox)


def at_server(run: Run[Agent]) -> Run[Agent]:
    """Return what does the same at the server and nothing at the agents."""
    return lambda agent, inbox: run(agent, inbox) if agent.is_server else ()


def upload(agent: Agent, weights: Floats) -> Envelope:
    """Return mail to the server with weights, and how many samples stand behind them.

    Weights that hold NaN or infinity stay at home: the server hears that there are none.
    """
    sent = weights if is_finite(weights) else None
    return agent.send(SERVER, Upload(num_samples=agent.num_samples, weights=sent))


def finite_uploads(agent: Agent, inbox: Inbox, num_floats: int) -> dict[int, tuple[Floats, int]]:
    """Wait for all uploads; return weights and samples of the finite ones, by agent, and note the others.

    `num_floats` is how many weights go up.
    """

    def wrong_upload(sender: int, sent: Upload) -> str:
        if sender not in agent.members:
            return "it takes no part"
        return wrong_samples(agent, sender, sent.num_samples) or (
            "" if sent.weights is None else wrong_length(sent.weights, num_floats)
        )

    mail = dict(receive(agent, inbox, Upload, wrong_upload))
    whole = {
        sender: (sent.weights, sent.num_samples)
        for sender, sent in mail.items()
        if sent.weights is not None and is_finite(sent.weights)
    }
    agent.note_not_finite(mail.keys() - whole.keys())
    return whole


def mean_of_uploads(uploads: Mapping[int, tuple[Floats, int]]) -> Floats:
    """Return the mean of what came up, weighed by samples, in ascending id."""
    weights, counts = zip(*(uploads[agent] for agent in sorted(uploads)), strict=True)
    return weighted_mean(weights, counts)


def send_down(agent: Agent, arrays: Mapping[str, Array]) -> Outbox:
    """Send the current model to all who took part, and to those who were absent and take part next.

    The round is over when the latter have it, too.
    """
    present, newcomers = agent.members, agent.newcomers
    outbox = tuple(agent.send(peer, Model(tensors=arrays)) for peer in (*present, *newcomers))
    agent.notes["end_s"] = max(envelope.arrives_s for envelope in outbox)
    return outbox


def report_of_server(agent: Agent, inbox: Inbox) -> Outbox:
    """Report the server's traffic; it evaluates nothing and its model is the agents'."""
    report_traffic(agent)
    return ()
