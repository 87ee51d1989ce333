"""What the ServerApp has decided (choices.py), as a node reads it in the facts that go with every message."""

from dataclasses import replace
from typing import TypeAlias

from flwr.app import ConfigRecord

from comdml_flwr.agents.setup import Setup
from comdml_flwr.flower.records import floats, integers, text
from comdml_flwr.planning.fleet.profiles import through_relay, up_and_down
from comdml_flwr.planning.types import Link

Relay: TypeAlias = tuple[Link, ...] | None
"""Each agent's own way to the relay, measured, in ascending id; empty: the fleet file's; None: no relay."""


def chosen(facts: ConfigRecord) -> dict[str, str]:
    """Return the keys of the run configuration that were decided; none before the nodes were greeted."""
    return {key: text(facts, key) for key in ("carrier", "profiles") if key in facts}


def relay_told(facts: ConfigRecord) -> Relay:
    """Return what the relay is like, where links are to be priced as one."""
    if not facts.get("relay"):
        return None
    if facts["relay"] == "fleet":
        return ()
    told = zip(floats(facts, "relay-bytes-per-s"), floats(facts, "relay-latency-s"), strict=True)
    return tuple(Link(bytes_per_s=speed, latency_s=latency_s) for speed, latency_s in told)


def samples_told(facts: ConfigRecord) -> tuple[int, ...]:
    """Return how many training samples each agent has, in ascending id; none before all have told."""
    return tuple(integers(facts, "num-samples")) if "num-samples" in facts else ()


def own_tests_told(facts: ConfigRecord) -> tuple[int | None, ...]:
    """Return how many test samples of its own each agent has, in ascending id, once all have told.

    None where an agent evaluates a share of the test samples that all have alike.
    """
    told = integers(facts, "own-tests") if "own-tests" in facts else ()
    return tuple(number if number >= 0 else None for number in told)


def by_way_of_relay(setup: Setup, relay: Relay) -> Setup:
    """Return a set-up whose profiles have the relay's price on every link."""
    if relay is None:
        return setup
    way = up_and_down(dict(zip(setup.ids, relay, strict=True))) if relay else lambda one, other: setup.relay
    return replace(setup, profiles_at=through_relay(setup.profiles_at, way))
