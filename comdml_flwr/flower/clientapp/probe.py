"""A node before the first round: whom it reaches, how fast it trains, and how fast its links are."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from flwr.app import ConfigRecord, Context

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.measuring.node import keep_measured, kept_measured, measure_node
from comdml_flwr.agents.setup import Setup
from comdml_flwr.carriers.direct.links import MOST_BYTES
from comdml_flwr.carriers.direct.meeting import OF_MEETINGS, Met, meet_peers
from comdml_flwr.carriers.transport.grpc import Transport
from comdml_flwr.carriers.transport.members import Limits, Member
from comdml_flwr.core.errors import ComdmlError
from comdml_flwr.flower.clientapp.direct_rounds import address_of, credentials_of
from comdml_flwr.flower.records import integers, number, text, texts


def probe(agent: Agent, facts: ConfigRecord, context: Context, folder: Path) -> ConfigRecord:
    """Meet the peers that the message names, measure what it asks for, and tell of both.

    What is measured is kept in the folder, as the agent's own; the ServerApp is told enough to say it.
    """
    began, setup, is_measured = time.monotonic(), agent.setup, bool(facts["measure"])
    trouble, met = "", Met()
    if integers(facts, "agents"):
        linked = _linked(setup, agent.id) if is_measured else ()
        try:
            met = _meet(agent, facts, context, linked)
        except ComdmlError as error:
            trouble = str(error)
    batch_s = 0.0
    if is_measured:
        measured = replace(measure_node(setup, agent.id), links=met.links)
        keep_measured(folder, agent.id, measured)
        batch_s = 1 / measured.speed.batches_per_s
    return ConfigRecord(
        {
            "trouble": trouble,
            "missing": list(met.missing),
            "reasons": list(met.missing.values()),
            "batch-s": batch_s,
            "bytes-per-s": [link.bytes_per_s for link in met.links.values()],
            "handled-s": time.monotonic() - began,
        }
    )


def load_measured(agent: Agent, folder: Path) -> None:
    """Let an agent begin with what this node has measured; one that came late does so now."""
    measured = kept_measured(folder, agent.id)
    if measured is None:
        measured = measure_node(agent.setup, agent.id)
        keep_measured(folder, agent.id, measured)
    agent.measured = measured


def _linked(setup: Setup, agent: int) -> tuple[int, ...]:
    return tuple(peer for peer, link in setup.profiles_at(1)[agent].links.items() if link.bytes_per_s)


def _meet(agent: Agent, facts: ConfigRecord, context: Context, linked: Sequence[int]) -> Met:
    ids, patience_s = integers(facts, "agents"), number(facts, "patience-s")
    members = map(Member, ids, texts(facts, "addresses"))
    listen = context.node_config.get("p2p-listen", address_of(context))
    token = f"{text(facts, 'token')}-probe"  # mail of the one is not for the other
    limits = Limits(patience_s=2 * patience_s, max_envelope_bytes=2 * MOST_BYTES)
    credentials = credentials_of(agent, context)
    with Transport(
        agent.id, str(listen), members, credentials, token, limits=limits, kinds=OF_MEETINGS
    ) as transport:
        return meet_peers(transport, ids, linked, patience_s)
