"""Gossip learning: every agent trains, pushes its model to one random neighbour, and merges by age.

R. Ormándi, I. Hegedűs, M. Jelasity, "Gossip learning with linear models on fully distributed data",
Concurrency and Computation 25(4), 2013; in the form of I. Hegedűs, G. Danner, M. Jelasity, "Decentralized
learning works: An empirical comparison of gossip learning and federated learning", Journal of Parallel and
Distributed Computing 148, 2021, Algorithm 1. A model w has an age t, the number of samples that it was
trained on. Merging what came (w', t') into one's own:

    a = t' / (t + t'),    w <- (1 - a) w + a w',    t <- max(t, t')

    1 train, push    train the whole model, t <- t + samples; send (w, t) to a random neighbour
    2 merge          merge what came, in ascending id of the senders; evaluate the own model

Deviations: rounds, so that methods can be compared (the paper's agents send by their own timers); several
models that come in one round are merged before the next training (the paper trains after each merge); models
travel whole (the paper also subsamples them). The models differ: accuracy is the mean over the agents.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.reading import receive, wrong_weights
from comdml_flwr.core.bounds import wrong_number
from comdml_flwr.core.mail import Mail
from comdml_flwr.core.messages import Floats, Inbox, Outbox
from comdml_flwr.core.program import Phase, Program, together
from comdml_flwr.core.slots import Lifetime, Slot
from comdml_flwr.learning.averaging import weighted_sum
from comdml_flwr.methods.phases.evaluation import evaluate
from comdml_flwr.methods.phases.training import go_back_if_not_finite, train_alone


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelWithAge(Mail):
    """A model, float32 of shape (P,), and how many samples it was trained on."""

    kind: ClassVar[str] = "model with age"
    age: int
    weights: Floats


AGE = Slot(name="age", lifetime=Lifetime.ROUND, shared=True, initial=lambda _: np.zeros(1, np.int64))
"""How many samples the model was trained on: whoever takes over a model takes over its age."""


def program() -> Program[Agent]:
    """Return one round of gossip learning."""
    return Program(
        phases=(
            Phase(name="train and push", run=together(train, push)),
            Phase(name="merge and evaluate", run=together(merge, evaluate)),
        ),
        slots=(AGE,),
        models_agree=False,
        needs_links=True,
        sends=(ModelWithAge,),
    )


def train(agent: Agent, inbox: Inbox) -> Outbox:
    """Train the whole model; it is older by the samples of all local epochs, unless that is undone."""
    train_alone(agent)
    if not go_back_if_not_finite(agent):
        _set_age(agent, age_of(agent) + agent.num_samples * agent.setup.config.local_epochs)
    agent.tensors["weights"] = agent.tensors["own/body"]
    return ()


def push(agent: Agent, inbox: Inbox) -> Outbox:
    """Send the model and its age to one neighbour who takes part; to nobody if there is none."""
    present, links = agent.members, agent.profile.links
    neighbours = [peer for peer in present if peer in links and links[peer].bytes_per_s > 0]
    if not neighbours:
        return ()
    chosen = int(torch.randint(len(neighbours), (1,), generator=agent.generator("neighbour")))
    model = ModelWithAge(age=age_of(agent), weights=agent.weights_P.numpy())
    return (agent.send(neighbours[chosen], model),)


def merge(agent: Agent, inbox: Inbox) -> Outbox:
    """Merge what came into this agent's model, by age; what is not finite is left out."""
    config, most_samples = agent.setup.config, max(agent.setup.num_samples.values())
    oldest = agent.round * config.local_epochs * most_samples

    def wrong_model(sender: int, model: ModelWithAge) -> str:
        if sender not in agent.members:
            return "it takes no part"
        return wrong_number("age", model.age, 0, oldest) or wrong_weights(model.weights, len(agent.weights_P))

    for _, model in receive(agent, inbox, ModelWithAge, wrong_model):
        own = (agent.weights_P.numpy(), age_of(agent))
        weights, age = merge_by_age(own, (model.weights, model.age))
        agent.tensors["weights"] = torch.from_numpy(weights)
        _set_age(agent, age)
    return ()


def merge_by_age(own: tuple[Floats, int], other: tuple[Floats, int]) -> tuple[Floats, int]:
    """Return the merged model and its age; two models of age 0 are worth the same."""
    (w, t), (other_w, other_t) = own, other
    share = other_t / (t + other_t) if t + other_t else 0.5
    return weighted_sum([w, other_w], [1 - share, share]), max(t, other_t)


def age_of(agent: Agent) -> int:
    """Return how many samples this agent's model was trained on."""
    return int(agent.tensors[AGE.name])


def _set_age(agent: Agent, age: int) -> None:
    agent.tensors[AGE.name] = torch.tensor([age])
