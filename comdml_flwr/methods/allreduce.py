"""AllReduce: every agent trains its whole model, then the models are averaged without a server.

It is ComDML without offload, and what ComDML is to be compared with first: the same phases, clock and sums.
"""

from comdml_flwr.agent import Agent
from comdml_flwr.messages import Inbox, Outbox, Program, together
from comdml_flwr.phases import evaluate, hand_over, introduce, meet, train_whole
from comdml_flwr.reduction import Contribution, adopt, gather, scatter


def program() -> Program[Agent]:
    """Return one round of AllReduce."""
    return (introduce, together(train, contribute), gather, together(adopt, hand_over, evaluate))


def train(agent: Agent, inbox: Inbox) -> Outbox:
    """Train the whole model on all batches of the round."""
    meet(agent, inbox)
    train_whole(agent, range(len(agent.batches())))
    agent.clock.work(agent.profile.num_batches)
    agent.notes["training_end_s"] = agent.clock.now_s
    return ()


def contribute(agent: Agent, inbox: Inbox) -> Outbox:
    """Scatter what was trained."""
    weights = agent.tensors["own/body"].numpy()
    whole = Contribution(agent=agent.id, num_samples=agent.num_samples, start=0, weights=weights)
    return scatter(agent, [whole])
