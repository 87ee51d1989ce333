"""Averaging among neighbours, as phases: every agent sends its model to its neighbours and mixes what it
gets.

    x_i <- sum over j of W[i, j] x_j

W has the Metropolis-Hastings weights of the links among those who take part (planning/fleet/topology.py).
Agents know the links from the introductions, so each computes its row for itself. The agents' models differ
after a round; an agent that was absent takes a present one's when it returns (`hand_over`).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.reading import receive, wrong_weights
from comdml_flwr.core.mail import Mail
from comdml_flwr.core.messages import Floats, Inbox, Outbox
from comdml_flwr.core.sharding import staggered_receivers
from comdml_flwr.learning.averaging import weighted_sum
from comdml_flwr.planning.fleet.topology import mixing_matrix, topology_of_links
from comdml_flwr.planning.types import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourModel(Mail):
    """The model that a neighbour has trained: float32, shape (P,)."""

    kind: ClassVar[str] = "neighbour"
    weights: Floats


def note_neighbours(agent: Agent, profiles: tuple[Profile, ...]) -> None:
    """Note this agent's row of the mixing matrix: with whom it mixes, itself included, and the weights."""
    weights = mixing_matrix(topology_of_links(profiles, may_be_disconnected=True))
    ids = [profile.agent for profile in profiles]
    row = zip(ids, weights[ids.index(agent.id)].tolist(), strict=True)
    agent.notes["mixes_with"] = {str(other): weight for other, weight in row if weight > 0}


def spread(agent: Agent, inbox: Inbox) -> Outbox:
    """Send this agent's trained model to its neighbours, and to itself."""
    everybody = staggered_receivers(agent.id, sorted(_row(agent)))
    model = NeighbourModel(weights=agent.tensors["own/body"].numpy())
    return tuple(agent.send(receiver, model) for receiver in everybody)


def mix(agent: Agent, inbox: Inbox) -> Outbox:
    """Make the weighted sum of the neighbours' models and its own this agent's model.

    What a neighbour that sent nothing (or nothing finite) would have weighed goes to this agent's own model.
    """

    def wrong_model(sender: int, model: NeighbourModel) -> str:
        if sender not in _row(agent):
            return "it is no neighbour"
        return wrong_weights(model.weights, len(agent.tensors["own/body"]))

    mail = receive(agent, inbox, NeighbourModel, wrong_model)
    models = {sender: model.weights for sender, model in mail}
    row = {other: weight for other, weight in _row(agent).items() if other in models}
    if row.keys() != _row(agent).keys():
        row[agent.id] = 1 - sum(weight for other, weight in row.items() if other != agent.id)
    ids = sorted(row)
    mixed = weighted_sum([models[other] for other in ids], [row[other] for other in ids])
    agent.tensors["weights"] = torch.from_numpy(mixed)
    return ()


def _row(agent: Agent) -> dict[int, float]:
    row = agent.notes["mixes_with"]
    assert isinstance(row, dict)
    return {int(other): weight for other, weight in row.items() if isinstance(weight, float)}
