"""AllReduce: every agent trains its whole model, then the models are averaged without a server.

It is ComDML without offload, and what ComDML is to be compared with first: the same phases, clock and sums.
The averaging: P. Patarasuk, X. Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations",
Journal of Parallel and Distributed Computing 69(2), 2009; each agent sends 2 (K - 1) / K of the model. They
arrange the sends in a ring; here the pieces go straight to their owners, so that two hops do for all.
"""

from functools import partial

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.messages import Inbox, Outbox
from comdml_flwr.core.program import Phase, Program, together
from comdml_flwr.methods.phases.evaluation import evaluate
from comdml_flwr.methods.phases.introduction import Introduction, Model, hand_over, introduce, meet
from comdml_flwr.methods.phases.outer import TAKE_MEAN, OuterStep
from comdml_flwr.methods.phases.reduction import Average, Contribution, Withdrawal, adopt, gather, scatter
from comdml_flwr.methods.phases.training import train_alone


def program(outer: OuterStep = TAKE_MEAN) -> Program[Agent]:
    """Return one round of AllReduce, in which `outer` says what becomes of the averaged model."""
    return Program(
        phases=(
            Phase(name="introduce", run=introduce),
            Phase(name="train and scatter", run=together(train, contribute), again=contribute),
            Phase(name="gather", run=gather),
            Phase(name="adopt and evaluate", run=together(partial(adopt, outer=outer), hand_over, evaluate)),
        ),
        slots=outer.slots,
        sends=(Introduction, Contribution, Withdrawal, Average, Model),
    )


def train(agent: Agent, inbox: Inbox) -> Outbox:
    """Train the whole model on all batches of the round."""
    meet(agent, inbox)
    train_alone(agent)
    return ()


def contribute(agent: Agent, inbox: Inbox) -> Outbox:
    """Scatter what was trained."""
    weights = agent.tensors["own/body"].numpy()
    whole = Contribution(agent=agent.id, num_samples=agent.num_samples, start=0, weights=weights)
    return scatter(agent, [whole])
