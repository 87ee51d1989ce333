"""FedAvg: every agent trains its whole model, a server averages.

H. B. McMahan, E. Moore, D. Ramage, S. Hampson, B. Agüera y Arcas, "Communication-Efficient Learning of Deep
Networks from Decentralized Data", AISTATS 2017, arXiv 1602.05629, Algorithm 1.

    1 train       an agent trains from the current model and sends the result up
    2 average     the server averages, weighed by samples, and sends the mean down
    3 adopt       the agents have it; each evaluates its share of the test set

Under `flwr run` this method is Flower's own FedAvg (strategies/fedavg.py), with the same float weights to the
bit. Deviations: all begin from the seed, so the first round sends no model down; the model goes down at the
end of a round (to those who took part, who evaluate it, and to those who are drawn next and were absent)
instead of at the beginning of the next one, which is the same traffic wherever all take part.
"""

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.reading import receive
from comdml_flwr.core.messages import Inbox, Outbox
from comdml_flwr.core.program import Phase, Program, together
from comdml_flwr.methods.phases.evaluation import evaluate
from comdml_flwr.methods.phases.introduction import Model, catch_up
from comdml_flwr.methods.phases.server import (
    Upload,
    at_agents,
    at_server,
    finite_uploads,
    mean_of_uploads,
    report_of_server,
    send_down,
    upload,
)
from comdml_flwr.methods.phases.training import train_alone


def program() -> Program[Agent]:
    """Return one round of FedAvg."""
    return Program(
        phases=(
            Phase(name="train", run=at_agents(train)),
            Phase(name="average", run=at_server(average)),
            Phase(name="adopt and evaluate", run=together(at_agents(adopt), at_server(report_of_server))),
        ),
        has_server=True,
        sends=(Upload, Model),
    )


def train(agent: Agent, inbox: Inbox) -> Outbox:
    """Train the whole model and send it up."""
    catch_up(agent, inbox)
    train_alone(agent)
    return (upload(agent, agent.tensors["own/body"].numpy()),)


def average(agent: Agent, inbox: Inbox) -> Outbox:
    """Average what came up and send it down; where nothing did that is finite, the model stays as it was."""
    if uploads := finite_uploads(agent, inbox, len(agent.weights_P)):
        agent.keep("weights", mean_of_uploads(uploads))
    return send_down(agent, agent.tensors.shared_arrays())


def adopt(agent: Agent, inbox: Inbox) -> Outbox:
    """Take the mean as this agent's model and evaluate it."""
    receive(agent, inbox, Model)
    catch_up(agent, inbox)
    return evaluate(agent, inbox)
