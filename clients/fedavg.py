"""The ClientApp's part in Flower's own FedAvg: train the model that comes, evaluate the model that comes."""

from collections.abc import Callable
from functools import partial
from math import nan

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.user_code import describe_error, show_traceback
from comdml_flwr.flower.clientapp.session import NodeSession
from comdml_flwr.flower.records import failure, integer, pack_report
from comdml_flwr.learning.metrics import read_sums
from comdml_flwr.learning.split import load_floats, write_floats
from comdml_flwr.methods.phases.evaluation import evaluate, report_traffic, share_of_test_set
from comdml_flwr.methods.phases.server import upload
from comdml_flwr.methods.phases.training import train_alone
from comdml_flwr.runs.catalogue import Catalogue

Handler = Callable[[Agent, Message], dict[str, ArrayRecord | MetricRecord]]


def add_fedavg(app: ClientApp, catalogue: Catalogue | None = None) -> ClientApp:
    """Let a ClientApp also answer the messages of Flower's FedAvg, and return it."""
    for register, handler in ((app.train(), _train), (app.evaluate(), _evaluate)):
        register(partial(_reply, handler, catalogue or Catalogue()))
    return app


def _reply(handler: Handler, catalogue: Catalogue, message: Message, context: Context) -> Message:
    """Run a handler; whatever goes wrong comes back as one line."""
    facts = message.content.config_records["config"]
    try:
        session = NodeSession(catalogue, facts, context)
        session.policy.check_method("fedavg")  # whatever the run's configuration says
        agent, round_ = session.agent, integer(facts, "server-round")
        session.policy.check_members(len(agent.setup.present(round_)), round_)
        agent.setup.device.make_deterministic(agent.setup.config.threads_per_agent)
        agent.num_reductions = integer(facts, "num-reductions")
        agent.begin_round(round_)
        content = handler(agent, message)
    except Exception as error:
        show_traceback(error)
        return Message(RecordDict({"facts": failure(describe_error(error))}), reply_to=message)
    told = ConfigRecord({"report": pack_report(agent.report)})
    return Message(RecordDict({**content, "facts": told}), reply_to=message)


def _train(agent: Agent, message: Message) -> dict[str, ArrayRecord | MetricRecord]:
    _take_model(agent, message)
    train_alone(agent)
    envelope = upload(agent, agent.tensors["own/body"].numpy())
    report_traffic(agent)
    agent.report |= {"arrives_s": envelope.arrives_s, "now_s": agent.clock.now_s}
    arrays = ArrayRecord()  # what is not finite is not sent
    if envelope.arrays:
        model = agent.setup.learners.model
        load_floats(model, agent.tensors["own/body"])
        arrays = ArrayRecord(model.state_dict())
    return {"arrays": arrays, "metrics": MetricRecord({"num-examples": agent.num_samples})}


def _evaluate(agent: Agent, message: Message) -> dict[str, ArrayRecord | MetricRecord]:
    _take_model(agent, message)
    evaluate(agent, ())
    report = agent.report
    metrics = agent.setup.task.metrics
    agent.report = {name: report[name] for name in (*metrics.nothing, "evaluation_s", "weights_sha256")}
    start, stop = share_of_test_set(agent)
    unknown = nan if start < stop else 0.0  # Flower's mean wants each metric from everybody
    found = {name: unknown if x is None else x for name, x in metrics.of(read_sums(report, metrics)).items()}
    return {"metrics": MetricRecord({"num-examples": stop - start, **found})}


def _take_model(agent: Agent, message: Message) -> None:
    model = agent.setup.learners.model
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    agent.tensors["weights"] = write_floats(model)
