"""What if: a fleet like another one, but for a device, its links, or without some agents."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from math import isfinite
from typing import Any

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.fleet.fleet import Fleet, FleetAgent
from comdml_flwr.planning.fleet.toml_tables import LARGEST
from comdml_flwr.planning.types import BYTES_PER_S_PER_MBPS, Link

_DEVICE_FIELDS = ("flops_per_s", "batches_per_s", "num_samples", "num_batches", "memory_bytes")
LINK_FIELDS = ("bandwidth_mbps", "latency_ms")
_WITH_MODEL = {"batches_per_s": "flops_per_s", "num_batches": "num_samples"}
_WITH_CUTS = {other: own for own, other in _WITH_MODEL.items()}


def change_fleet(
    fleet: Fleet,
    agents: Sequence[int] = (),
    changes: Mapping[str, float] | None = None,
    without: Sequence[int] = (),
) -> Fleet:
    """Return the fleet as it would be.

    Parameters
    ----------
    fleet : Fleet
        As it is.
    agents : Sequence[int]
        Whose device or links change; `changes` hold for each of them.
    changes : Mapping[str, float]
        By the names of the fleet file, in its units: a key of [[agents]], or `bandwidth_mbps` or
        `latency_ms`, which hold for all links that the agent has (0 Mbps takes them away; none is added).
    without : Sequence[int]
        Agents that are not there.

    Returns
    -------
    Fleet

    Raises
    ------
    InputError
        For an unknown agent or name, a value out of range, a key that a plan of this fleet does not use, a
        change to the links of an agent that has none, and if nobody is left.
    """
    for agent in (*agents, *without):
        if agent not in {known.id for known in fleet.agents}:
            raise InputError("agent", agent, f"is not in {fleet.source}")
    values = {name: _checked(fleet, name, value) for name, value in (changes or {}).items()}
    for agent in agents:
        for name, value in values.items():
            change = _with_links if name in LINK_FIELDS else _with_device
            fleet = change(fleet, agent, name, value)
    return _without(fleet, set(without))


def device_fields() -> tuple[str, ...]:
    """Return the names of what can change of a device."""
    return tuple(field.name for field in fields(FleetAgent) if field.name in _DEVICE_FIELDS)


def _checked(fleet: Fleet, name: str, value: float) -> float:
    known = (*device_fields(), *LINK_FIELDS)
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        raise InputError(name, value, f"is not known here; {hint}")
    instead, planned_with = (_WITH_CUTS, "[[cuts]]") if fleet.cuts is not None else (_WITH_MODEL, "[model]")
    if name in instead:
        raise InputError(name, value, f"is not used with {planned_with}; change {instead[name]}")
    if not (isfinite(value) and 0 <= value <= LARGEST and (value > 0 or name in LINK_FIELDS)):
        sign = ">=" if name in LINK_FIELDS else ">"
        raise InputError(name, value, f"must be a number {sign} 0, at most {LARGEST:g}")
    if name == "num_samples" and value != int(value):
        raise InputError(name, value, "must be a whole number")
    return value


def _with_device(fleet: Fleet, agent: int, name: str, value: float) -> Fleet:
    changed: dict[str, Any] = {name: int(value) if name == "num_samples" else value}
    agents = tuple(replace(old, **changed) if old.id == agent else old for old in fleet.agents)
    return replace(fleet, agents=agents)


def _with_links(fleet: Fleet, agent: int, name: str, value: float) -> Fleet:
    peers = [peer.id for peer in fleet.agents if peer.id != agent]
    links = {(min(agent, peer), max(agent, peer)): fleet.link(agent, peer) for peer in peers}
    linked = {pair: link for pair, link in links.items() if link.bytes_per_s > 0}
    if not linked:
        raise InputError(name, value, f"agent {agent} has no link; give it one in {fleet.source}")
    changed = {pair: _with_speed(link, name, value) for pair, link in linked.items()}
    return replace(fleet, overrides={**fleet.overrides, **changed})


def _with_speed(link: Link, name: str, value: float) -> Link:
    if name == "latency_ms":
        return replace(link, latency_s=value / 1000)
    return replace(link, bytes_per_s=value * BYTES_PER_S_PER_MBPS)


def _without(fleet: Fleet, agents: set[int]) -> Fleet:
    left = tuple(agent for agent in fleet.agents if agent.id not in agents)
    if not left:
        raise InputError("without", sorted(agents), "must leave at least one agent")
    overrides = {pair: link for pair, link in fleet.overrides.items() if not agents & set(pair)}
    return replace(fleet, agents=left, overrides=overrides)
