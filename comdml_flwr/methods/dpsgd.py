"""D-PSGD: every agent trains its whole model and mixes it with its neighbours', without a server.

X. Lian, C. Zhang, H. Zhang, C.-J. Hsieh, W. Zhang, J. Liu, "Can Decentralized Algorithms Outperform
Centralized Algorithms? A Case Study for Decentralized Parallel Stochastic Gradient Descent", NeurIPS 2017,
arXiv 1705.09056, Algorithm 1: x_i <- sum over j of W[i, j] x_j - step * gradient_i(x_i).

Deviations: an agent takes all steps of its local epochs before it mixes (the paper mixes after each step,
which would cost a model per neighbour and batch), so that all methods train alike between two exchanges of
models; and the trained model is mixed, not the one before training (adapt, then combine). Samples do not
weigh: W is symmetric, so that the mean over the agents is kept. Where not all take part, an agent that was
absent begins with a present one's model, which may come through the relay.
"""

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.messages import Inbox, Outbox
from comdml_flwr.core.program import Phase, Program, together
from comdml_flwr.methods.phases.evaluation import evaluate
from comdml_flwr.methods.phases.introduction import Introduction, Model, hand_over, introduce, meet
from comdml_flwr.methods.phases.mixing import NeighbourModel, mix, note_neighbours, spread
from comdml_flwr.methods.phases.training import go_back_if_not_finite, train_alone


def program() -> Program[Agent]:
    """Return one round of D-PSGD."""
    return Program(
        phases=(
            Phase(name="introduce", run=introduce),
            Phase(name="train and spread", run=together(train, spread)),
            Phase(name="mix and evaluate", run=together(mix, hand_over, evaluate)),
        ),
        models_agree=False,
        needs_links=True,
        sends=(Introduction, NeighbourModel, Model),
    )


def train(agent: Agent, inbox: Inbox) -> Outbox:
    """Meet the neighbours and train the whole model."""
    note_neighbours(agent, meet(agent, inbox))
    train_alone(agent)
    go_back_if_not_finite(agent)
    return ()
