"""How an agent's steps run: the only way from a carrier into the phases of a method."""

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.reading import possible
from comdml_flwr.core.messages import Envelope, Inbox, Outbox, Report
from comdml_flwr.core.program import NOBODY, Absence, Program, Step


def run_steps(
    agent: Agent,
    program: Program[Agent],
    steps: tuple[Step, ...],
    inbox: Inbox,
    absence: Absence = NOBODY,
) -> tuple[Outbox, Report]:
    """Run an agent's steps of one exchange; every carrier calls this and nothing else.

    Sets the number of threads first: two threads in a convolution give other bits than one.
    """
    agent.setup.device.make_deterministic(agent.setup.config.threads_per_agent)
    agent.report, agent.absence = {}, absence
    agent.let_go()
    inbox = possible(agent, inbox)
    outbox: list[Envelope] = []
    for step in steps:
        agent.num_reductions = step.num_reductions
        if step.phase == 0:
            agent.begin_round(step.round)
        if step.attempt and step.phase == program.return_point:
            agent.tensors.roll_back()
        outbox += program.run(step, agent, inbox)
        if not step.attempt and step.phase == program.return_point:
            agent.tensors.pass_return_point()
        if step.phase == program.last:
            agent.end_round()
    return tuple(outbox), agent.report
