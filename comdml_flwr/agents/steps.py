"""How an agent's steps run: the only way from a carrier into the phases of a method."""

from collections.abc import Sequence

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.reading import distrust, possible
from comdml_flwr.core.errors import PeerFaultError
from comdml_flwr.core.messages import Envelope, Inbox, Outbox, Report
from comdml_flwr.core.program import NOBODY, Absence, Program, Step


def run_steps(
    agent: Agent,
    program: Program[Agent],
    steps: tuple[Step, ...],
    inbox: Inbox,
    absence: Absence = NOBODY,
    faults: Sequence[PeerFaultError] = (),
) -> tuple[Outbox, Report]:
    """Run an agent's steps of one exchange; every carrier calls this and nothing else.

    Sets the number of threads first: two threads in a convolution give other bits than one. The faults are
    of peers whose mail the carrier could not read.
    """
    agent.setup.device.make_deterministic(agent.setup.config.threads_per_agent)
    agent.report, agent.absence = {}, absence
    agent.let_go()
    outbox: list[Envelope] = []
    for number, step in enumerate(steps):
        agent.num_reductions = step.num_reductions
        if step.phase == 0:
            agent.begin_round(step.round)
        if number == 0:  # not before the round begins, which forgets whom the one before distrusted
            inbox = possible(agent, inbox)
            for fault in faults:
                distrust(agent, fault)
        if step.attempt and step.phase == program.return_point:
            agent.tensors.roll_back()
        outbox += program.run(step, agent, inbox)
        if not step.attempt and step.phase == program.return_point:
            agent.tensors.pass_return_point()
        if step.phase == program.last:
            agent.end_round()
    return tuple(outbox), agent.report
