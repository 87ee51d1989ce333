"""Link speeds observed while a round's mail goes from peer to peer."""

from comdml_flwr.agents.agent import Agent
from comdml_flwr.carriers.transport.grpc import Transport

ENOUGH_BYTES = 1 << 20  # of a round's mail to a peer; less tells little of a link


def observe_traffic(agent: Agent, transport: Transport) -> None:
    """Let an agent that has measured its links take in what sending of the last round's mail took."""
    measured, traffic = agent.measured, transport.take_traffic()
    if measured is None:
        return
    for peer, sent in traffic.items():
        if peer in measured.links and sent.num_bytes >= ENOUGH_BYTES:
            round_trips_s = 2 * measured.links[peer].latency_s * sent.num_starts
            busy_s = max(sent.busy_s - round_trips_s, sent.busy_s / 10)
            measured = measured.observe_link(peer, sent.num_bytes, busy_s)
    agent.measured = measured
