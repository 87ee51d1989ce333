"""Agents that mail each other directly: each in a thread of its own, over real sockets on loopback."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.steps import run_steps
from comdml_flwr.carriers.direct.deadlines import Deadlines
from comdml_flwr.carriers.direct.driver import DirectRounds
from comdml_flwr.carriers.transport.grpc import Transport
from comdml_flwr.carriers.transport.members import Limits, Member
from comdml_flwr.core.errors import OverdueError, PeerGoneError, RunError
from comdml_flwr.flower.serverapp.direct_run import last_of_message
from comdml_flwr.runs.assemble import participants_of, program_of
from comdml_flwr.runs.loop import reductions_after
from comdml_flwr.runs.records import RunRecord, add_up
from tests.ports import free_address
from tests.small import small_setup


def free_addresses(count):
    """Return addresses that nobody listens on."""
    return [free_address() for _ in range(count)]


def run_direct(config, fleet, *, rounds_per_message=100, setup=None, lies=None):
    """Run all rounds, so many in each message; return the records and the digest of all weights.

    `lies`: by agent, what it sends in place of an envelope; there are no reports of such agents.
    """
    config = config.model_copy(update={"carrier": "direct"})
    setup = setup or small_setup(config, fleet)
    agents = {agent.id: agent for agent in participants_of(setup)}
    config = config.model_copy(update={"rounds_per_message": rounds_per_message})
    reports, left_over = {}, dict.fromkeys(agents, ())
    for first, last, num_reductions in messages(setup, config, reports):
        told_by = _message(setup, agents, first, last, left_over, num_reductions, lies or {})
        for agent, (told, left) in told_by.items():
            left_over[agent] = left
            for round_, report in told:
                reports.setdefault(round_, {})[agent] = report
    records, digest = added_up(setup, reports)
    return records, digest, list(agents.values())


def messages(setup, config, reports):
    """Yield first and last round of each message, and how often the rate was reduced before it."""
    last = 0
    while (first := last + 1) <= config.num_rounds:
        last = last_of_message(first, config)
        yield first, last, reductions_after(added_up(setup, reports)[0], config)


def added_up(setup, reports):
    """Return the records of rounds, of the reports by round and agent, and the digest of all weights."""
    agree = program_of(setup).models_agree
    record = RunRecord()
    for round_, told in sorted(reports.items()):
        ended = add_up(round_, told, 0.0, models_agree=agree, metrics=setup.task.metrics)
        record = record.with_round(ended, told)
    return list(record.rounds), record.weights_sha256


def _message(setup, agents, first, last, left_over, num_reductions, lies):
    members = [
        Member(agent, address) for agent, address in zip(agents, free_addresses(len(agents)), strict=True)
    ]

    def rounds(member):
        agent = agents[member.agent]
        with Transport(agent.id, member.address, members, None, "run-1") as transport:
            direct = DirectRounds(
                agent,
                program_of(setup),
                transport,
                Deadlines(60.0, 1.0),
                seconds_per_batch=0.01,
                left_over=left_over[agent.id],
                num_reductions=num_reductions,
            )
            if agent.id in lies:
                _let_lie(transport, lies[agent.id])
                with suppress(RunError):  # it may be left behind at the end
                    list(direct.run(first, last))
                return [], ()
            return list(direct.run(first, last)), direct.left_over()

    with ThreadPoolExecutor(len(members)) as pool:
        return dict(zip(agents, pool.map(rounds, members), strict=True))


def _let_lie(transport, lie):
    """Let a transport send something else than it is given."""
    send = transport.send

    def send_lies(envelope, timeout_s=60.0):
        for one in lie(envelope):
            send(one, timeout_s)

    transport.send = send_lies


class CrashError(Exception):
    """An agent dies, as a process does."""


def run_direct_with(config, fleet, faults, *, rounds_per_message=100, start_s=20.0):
    """Run while agents die; return the records of those who are left, their digests, and all agents.

    A process that dies takes its memory along; its sockets are closed. One that is back in a later message
    begins anew.
    """

    def run_or_die(agent, program, steps, inbox, absence):
        if any(fault.hits(agent.id, steps) for fault in faults):
            raise CrashError
        return run_steps(agent, program, steps, inbox, absence)

    config = config.model_copy(update={"carrier": "direct"})
    setup = small_setup(config, fleet)
    agents = {agent.id: agent for agent in participants_of(setup)}
    reports, absent, left_over = {}, set(), dict.fromkeys(agents, ())
    for first in range(1, config.num_rounds + 1, rounds_per_message):
        last = min(config.num_rounds, first + rounds_per_message - 1)
        told = _message_with(setup, agents, first, last, left_over, absent, start_s, run_or_die)
        died = {agent for agent in told if told[agent] is None}
        absent = set(died)
        for agent, outcome in told.items():
            if outcome is None:
                agents[agent] = Agent(agent, setup)
                continue
            rounds, left_over[agent], gone = outcome
            absent |= {*gone}
            for round_, report in rounds:
                reports.setdefault(round_, {})[agent] = report
    digests = {agent: agents[agent].weights_sha256() for agent in agents if agent not in absent}
    return reports, digests, agents


def _message_with(setup, agents, first, last, left_over, absent, start_s, run):
    addresses = free_addresses(len(agents))
    members = [Member(agent, address) for agent, address in zip(agents, addresses, strict=True)]

    def rounds(member):
        agent = agents[member.agent]
        limits = Limits(patience_s=start_s)
        with Transport(agent.id, member.address, members, None, "run-1", limits=limits) as transport:
            direct = DirectRounds(
                agent,
                program_of(setup),
                transport,
                Deadlines(start_s, 0.1),
                seconds_per_batch=0.01,
                left_over=left_over[agent.id],
                absent=absent,
                run_steps=run,
            )
            try:
                return list(direct.run(first, last)), direct.left_over(), direct.gone
            except CrashError:  # what its earlier phases sent has come, as on the local carrier
                with suppress(PeerGoneError, OverdueError):
                    transport.flush(start_s)
                return None

    with ThreadPoolExecutor(len(members)) as pool:
        return dict(zip(agents, pool.map(rounds, members), strict=True))
