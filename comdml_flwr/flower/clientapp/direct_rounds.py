"""A node's part in rounds that go from peer to peer: one message of Flower's starts many of them.

What a node must be told in its node config: `p2p-address` (HOST:PORT under which the other nodes reach it),
and unless that is a loopback address, `p2p-certificates` (a folder as `comdml certificates` makes it). Where
it listens on another address than it is reached under, `p2p-listen` says on which.

After each round the agent's state and report are on the node's disk, whatever becomes of the SuperLink.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from flwr.app import ConfigRecord, Context

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.measuring.compute import seconds_per_batch
from comdml_flwr.agents.state_files import load_state, read_waiting, save_state, write_waiting
from comdml_flwr.carriers.direct.deadlines import Deadlines
from comdml_flwr.carriers.direct.driver import DirectRounds
from comdml_flwr.carriers.direct.kinds import OF_ROUNDS
from comdml_flwr.carriers.direct.observed import observe_traffic
from comdml_flwr.carriers.transport.credentials import Credentials, load_credentials
from comdml_flwr.carriers.transport.grpc import Transport
from comdml_flwr.carriers.transport.listening import check_listening
from comdml_flwr.carriers.transport.members import Limits, Member, is_loopback, split_address
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.files import append_line, make_folder
from comdml_flwr.core.messages import Report
from comdml_flwr.core.strict_json import to_json
from comdml_flwr.core.user_code import describe_error, show_traceback
from comdml_flwr.flower.clientapp.policy import policy_of
from comdml_flwr.flower.records import NO_STATE, integer, integers, number, text, texts
from comdml_flwr.runs.assemble import program_of


def address_of(context: Context) -> str:
    """Return where a node says that it can be reached.

    Raises
    ------
    InputError
        It does not say it, or it is no address.
    """
    address = context.node_config.get("p2p-address")
    if not isinstance(address, str):
        raise InputError("--node-config p2p-address", address, "must be HOST:PORT for carrier = direct")
    split_address(address, "--node-config p2p-address")
    return address


def check_listening_of(context: Context) -> None:
    """Refuse an address on which this node cannot listen, or not safely, before anything is trained.

    Raises
    ------
    InputError
        With the address and the reason.
    """
    key = "p2p-listen" if "p2p-listen" in context.node_config else "p2p-address"
    if "p2p-certificates" not in context.node_config and not is_loopback(address_of(context)):
        rule = f"must be given where the p2p-address is {address_of(context)}, which others can reach"
        raise InputError("--node-config p2p-certificates", None, rule)
    check_listening(str(context.node_config[key]), f"--node-config {key}")


def run_rounds_of(
    agent: Agent,
    facts: ConfigRecord,
    context: Context,
    folder: Path,
    on_round: Callable[[float | None], None] = lambda score: None,
) -> ConfigRecord:
    """Run the rounds that a message asks for; return this agent's reports of them.

    `on_round` is told of each that has ended here: its metric, where all members have reported it.

    Raises
    ------
    InputError, RunError
        What is wrong, in one line.
    """
    previous = integer(facts, "previous")
    if previous != NO_STATE:
        load_state(agent, folder, previous)
    address = address_of(context)
    listen = context.node_config.get("p2p-listen", address)
    members = map(Member, integers(facts, "agents"), texts(facts, "addresses"))
    reports: dict[int, Report] = {}
    last = integer(facts, "last")
    credentials, token = credentials_of(agent, context), text(facts, "token")
    policy = policy_of(context.node_config)
    policy.check_direct(has_certificates=credentials is not None)
    first = integer(facts, "first")
    present = {*agent.setup.present(first)}
    policy.check_members(len(present - {*integers(facts, "absent")}), first)
    revoked = policy.revoked.agents & {*agent.setup.ids}
    limits = limits_of(agent, number(facts, "start-s"))
    program = program_of(agent.setup)
    kinds = program.kinds | OF_ROUNDS if program.kinds else ()
    with Transport(
        agent.id, str(listen), members, credentials, token, limits=limits, revoked=revoked, kinds=kinds
    ) as transport:
        transport.refuse(policy.revoked.covers)
        rounds = DirectRounds(
            agent,
            program,
            transport,
            Deadlines(limits.patience_s, transfer_s(agent)),
            seconds_per_batch=_seconds_per_batch(agent),
            left_over=read_waiting(folder, agent.id),
            absent=integers(facts, "absent"),
            lacking=integers(facts, "lacking"),
            num_reductions=integer(facts, "num-reductions"),
        )
        stopped = ""
        try:
            for round_, report in rounds.run(first, last):
                reports[round_] = report
                on_round(rounds.score)
                observe_traffic(agent, transport)
                save_state(agent, folder, round_)
                make_folder(folder / "reports")
                line = to_json({"round": round_, **report}).encode()
                append_line(folder / "reports" / f"{agent.id}.jsonl", line)
                if round_ < last:
                    _follow_policy(context, agent, transport, round_ + 1, rounds.gone)
        except Exception as error:  # the rounds before count all the same
            if not (reports or isinstance(error, RunError)):
                raise
            show_traceback(error)
            stopped = describe_error(error)
        write_waiting(folder, agent.id, () if stopped else rounds.left_over())
    if last not in reports:
        save_state(agent, folder, last)
    return ConfigRecord(
        {"reports": to_json(reports), "state": last, "gone": list(rounds.gone), "stopped": stopped}
    )


def _follow_policy(
    context: Context, agent: Agent, transport: Transport, round_: int, gone: Collection[int]
) -> None:
    """Do what the node's owner wrote meanwhile: hang up on who is revoked, leave where too few are left."""
    policy, setup = policy_of(context.node_config), agent.setup
    transport.refuse(policy.revoked.covers)
    for peer in sorted(policy.revoked.agents & {*setup.ids} - {agent.id, *gone}):
        transport.revoke(peer)
    policy.check_members(len({*setup.present(round_)} - {*gone}), round_)


def _seconds_per_batch(agent: Agent) -> float:
    """Return how long an agent trains a batch, by the stopwatch: as its profile has it, or measured now."""
    return 1 / agent.profile.batches_per_s if agent.measured else seconds_per_batch(agent.setup, agent.id)


def limits_of(agent: Agent, patience_s: float) -> Limits:
    """Return the bounds of a run's mail: nothing in it is longer than all that an agent has."""
    setup, limits = agent.setup, Limits(patience_s=patience_s)
    heads = (head_P.nbytes for head_P in setup.initial_aux_heads.values())
    most_bytes = (
        setup.initial_weights_P.nbytes
        + math.ceil(max((cut.bytes_per_batch for cut in setup.cuts), default=0))
        + max(heads, default=0)
    )
    return replace(limits, max_envelope_bytes=limits.max_header_bytes + most_bytes)


def transfer_s(agent: Agent) -> float:
    """Return how long all that an agent sends and gets in a round takes on its slowest link, in seconds."""
    speeds = [link.bytes_per_s for link in agent.profile.links.values() if link.bytes_per_s > 0]
    model_bytes = agent.weights_P.element_size() * len(agent.weights_P)
    most_bytes = max((cut.bytes_per_batch for cut in agent.setup.cuts), default=0)
    slowest = min(speeds, default=agent.setup.relay.bytes_per_s)
    return (4 * model_bytes + agent.setup.most_batches * most_bytes) / slowest


def credentials_of(agent: Agent, context: Context) -> Credentials | None:
    """Return a node's credentials for mutual TLS; None where it is told of none."""
    folder = context.node_config.get("p2p-certificates")
    return None if folder is None else load_credentials(Path(str(folder)).expanduser(), agent.id)
