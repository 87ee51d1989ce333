"""What the methods with a server share: who runs a phase, and what goes up to the server and down from it.

The server is one more participant of a round, under the id SERVER, with speed and links from the fleet file's
[server] table. It has no data of its own and is not among those who are drawn.
"""

from collections.abc import Mapping

from comdml_flwr.agent import Agent
from comdml_flwr.learning.averaging import weighted_mean
from comdml_flwr.messages import Array, Envelope, Inbox, Outbox, Phase, phase_name
from comdml_flwr.phases import report_traffic
from comdml_flwr.planning.types import SERVER


def at_agents(phase: Phase[Agent]) -> Phase[Agent]:
    """Return a phase that does nothing at the server."""
    return _only(phase, server=False)


def at_server(phase: Phase[Agent]) -> Phase[Agent]:
    """Return a phase that does nothing at the agents."""
    return _only(phase, server=True)


def _only(phase: Phase[Agent], *, server: bool) -> Phase[Agent]:
    def run(agent: Agent, inbox: Inbox) -> Outbox:
        return phase(agent, inbox) if agent.is_server == server else ()

    run.__name__ = phase_name(phase)
    return run


def upload(agent: Agent, weights: Array) -> Envelope:
    """Return mail to the server with weights, and how many samples stand behind them."""
    return agent.send(SERVER, "upload", {"num_samples": agent.num_samples}, {"weights": weights})


def average_uploads(agent: Agent, inbox: Inbox) -> Array:
    """Wait for all uploads and return their mean, weighed by samples, in ascending id."""
    mail = agent.receive(inbox, "upload")
    return weighted_mean([m.floats("weights") for m in mail], [m.integer("num_samples") for m in mail])


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
