"""Walk through one round of a method phase by phase: all mail is seen, and may be changed on its way."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.setup import Setup
from comdml_flwr.agents.steps import run_steps
from comdml_flwr.core.messages import Envelope, Inbox, Mailboxes, Outbox
from comdml_flwr.core.program import Run, Step
from comdml_flwr.learning.data.source import AgentData, TensorSamples
from comdml_flwr.planning.types import SERVER
from comdml_flwr.runs.assemble import participants_of, program_of


def walk(
    setup: Setup,
    change: Callable[[Envelope], Envelope] = lambda envelope: envelope,
    *,
    weights: Mapping[int, Tensor] | None = None,
) -> tuple[dict[int, Agent], list[Envelope]]:
    """Run the first round; return all who took part, by id, and all mail in the order of sending.

    `weights` are those that agents begin with, where not with those of the set-up.
    """
    present = (SERVER, *setup.present(1))
    agents = {agent.id: agent for agent in participants_of(setup) if agent.id in present}
    for agent, begin_with in (weights or {}).items():
        agents[agent].tensors["weights"] = begin_with
    program, mail = program_of(setup), Mailboxes[Envelope]()
    seen: list[Envelope] = []
    for phase in range(len(program.phases)):
        sent: list[Envelope] = []
        for agent in agents.values():
            outbox, _ = run_steps(agent, program, (Step(1, phase),), mail.take(agent.id))
            sent += map(change, outbox)
        mail.put(sent)
        seen += sent
    return agents, seen


def deliver(run: Run[Agent], agents: Iterable[Agent], mail: Outbox = ()) -> Outbox:
    """Let each agent run once on the mail that is for it; return what they send."""
    return tuple(envelope for agent in agents for envelope in run(agent, _inbox(agent, mail)))


def _inbox(agent: Agent, mail: Outbox) -> Inbox:
    return tuple(envelope for envelope in mail if envelope.receiver == agent.id)


def samples(number: int) -> TensorSamples:
    """Return as many samples, of nothing but their number."""
    return TensorSamples(x=torch.zeros(number, 1), targets=torch.zeros(number, dtype=torch.int64))


def data_of(number: int) -> AgentData:
    """Return what an agent has that trains on as many samples and tests on none."""
    return AgentData(train=samples(number), test=samples(0), all_have_test=True)
