"""What is decided before the first round: who moves the mail, and what the plans are made of.

`carrier = "auto"`: peer to peer if every node reaches every other one under its `p2p-address`, or else
through Flower (a relay). `profiles = "auto"`: measured on SuperNodes; in Flower's simulation, whose nodes
share one machine, the fleet file's. With a relay the plan prices every link as what it is: the fleet file's
relay or, where profiles are measured, what an echo through the SuperLink has taken.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from flwr.app import ConfigRecord
from flwr.serverapp import Grid

from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.program import agent_failed
from comdml_flwr.core.units import human_bandwidth
from comdml_flwr.flower.records import content_of, floats, integers, number, text, texts
from comdml_flwr.flower.serverapp.federation import Federation

ECHO_BYTES = 1 << 21  # up and down at 10 Mbit/s: 3.4 s, where an exchange takes 4 to 6 s whatever it carries
_LEAST_PATIENCE_S, _OF_HELLO = 10.0, 2.0

_Decided: TypeAlias = dict[str, str | list[float]]


@dataclass(frozen=True, slots=True)
class _Answer:
    facts: ConfigRecord
    on_the_way_s: float  # there and back, with the start of a process; without what was done in it

    @property
    def exchange_s(self) -> float:
        """What an exchange takes in which nothing is done: a new process loads the run's data and model."""
        return self.on_the_way_s + number(self.facts, "loading-s")


def is_simulated(grid: Grid) -> bool:
    """Tell whether Flower's simulation engine plays the nodes.

    It alone gives the ServerApp a grid that holds the SuperLink's state in this process.
    """
    return type(grid).__name__ == "InMemoryGrid"


def without_choice(config: RunConfig) -> RunConfig:
    """Return the configuration of a method with a server: its mail goes through Flower, and it plans nothing.

    Raises
    ------
    InputError
        It asks for something else.
    """
    if config.carrier not in ("grid", "auto"):
        raise InputError("carrier", config.carrier, f"must be 'grid' for {config.method}")
    if config.profiles == "measured":
        raise InputError("profiles", config.profiles, f"must be 'fleet' (or 'auto') for {config.method}")
    return config.model_copy(update={"carrier": "grid", "profiles": "fleet"})


def choose(federation: Federation, config: RunConfig) -> tuple[RunConfig, Federation]:
    """Decide what is `auto`, let the nodes measure, and say in a line each what came out.

    Returns
    -------
    tuple[RunConfig, Federation]
        Without `auto`, and with the decisions among the facts that go with every message.

    Raises
    ------
    InputError, RunError
        Measured profiles are asked for in a simulation; a node failed.
    """
    display = federation.messenger.display
    asked, is_measured = _asked(config, is_simulated(federation.messenger.grid))
    nowhere = [agent for agent in federation.ids if agent not in federation.addresses]
    meets = not nowhere and (asked == "auto" or (asked == "direct" and is_measured))
    answers: dict[int, _Answer] = {}
    if meets or is_measured:
        answers = _probe(federation, meets=meets, is_measured=is_measured)
    trouble = "" if asked == "grid" else _trouble(nowhere, answers)
    carrier = asked if asked != "auto" else "grid" if trouble else "direct"
    if asked == "auto":
        reached = f"direct: all {len(federation.ids)} agents reach each other"
        display.say(f"carrier = auto -> {f'relay: {trouble}' if trouble else reached}")
    elif trouble:
        display.say(f"  {trouble}")
    decided: _Decided = {
        "carrier": carrier,
        "profiles": "measured" if is_measured else "fleet",
        "relay": "fleet" if carrier == "grid" and asked == "auto" else "",
    }
    if carrier == "grid" and is_measured:
        decided |= _measure_relay(federation, answers)
    display.say(_what_profiles(answers, decided) if is_measured else "profiles: those of the fleet file")
    return (
        config.model_copy(update={"carrier": carrier, "profiles": decided["profiles"]}),
        replace(federation, common=ConfigRecord({**federation.common, **decided})),
    )


def _asked(config: RunConfig, is_simulated: bool) -> tuple[str, bool]:
    """Return the carrier, "auto" where the nodes must look for each other, and whether they measure."""
    if not is_simulated:
        return config.carrier, config.profiles != "fleet"
    if config.profiles == "measured":
        rule = "must be 'fleet' (or 'auto') in Flower's simulation, on one machine"
        raise InputError("profiles", config.profiles, rule)
    return "grid" if config.carrier == "auto" else config.carrier, False


def _probe(federation: Federation, *, meets: bool, is_measured: bool) -> dict[int, _Answer]:
    addresses = federation.addresses if meets else {}
    facts: Mapping[str, bool | float | list[int] | list[str]] = {
        "agents": sorted(addresses),
        "addresses": [addresses[agent] for agent in sorted(addresses)],
        "measure": is_measured,
        "patience-s": _LEAST_PATIENCE_S + _OF_HELLO * federation.hello_s,
    }
    return _ask(federation, "probe", "nodes measure and look for each other", facts)


def _measure_relay(federation: Federation, answers: Mapping[int, _Answer]) -> _Decided:
    """Return each node's bytes per second and latency by way of the SuperLink, from an echo of known size.

    What is less than a tenth of the exchange cannot be told from its own ups and downs: a faster way counts
    as one that takes so long. The latency is that of a whole exchange.
    """
    bits = {"bits": secrets.token_bytes(ECHO_BYTES)}
    echoes = _ask(federation, "echo", "nodes echo through the SuperLink", bits)
    bytes_per_s, latency_s = [], []
    for agent, echo in sorted(echoes.items()):
        for_bits_s = max(echo.on_the_way_s - answers[agent].on_the_way_s, echo.on_the_way_s / 10)
        bytes_per_s.append(2 * ECHO_BYTES / for_bits_s)
        latency_s.append(answers[agent].exchange_s)
    return {"relay": "measured", "relay-bytes-per-s": bytes_per_s, "relay-latency-s": latency_s}


def _ask(
    federation: Federation,
    name: str,
    what: str,
    facts: Mapping[str, bool | bytes | float | list[int] | list[str]],
) -> dict[int, _Answer]:
    messenger = federation.messenger
    messenger.display.exchange_begins(0, what, len(federation.ids))
    began = time.monotonic()
    content = ConfigRecord({**federation.common, **facts})
    contents = dict.fromkeys(federation.nodes.values(), content_of(content))
    replies = messenger.exchange(f"query.{name}", contents, group=name)
    answers = {}
    for agent, node in sorted(federation.nodes.items()):
        try:
            told = replies[node].facts
        except RunError as error:
            raise agent_failed(agent, name, error) from None
        here_s = number(told, "loading-s") + number(told, "handled-s")
        answers[agent] = _Answer(told, max(replies[node].arrived_s - began - here_s, 1e-6))
    return answers


def _trouble(nowhere: list[int], answers: Mapping[int, _Answer]) -> str:
    """Return in words why not all agents reach each other; empty if they do."""
    if nowhere:
        return f"agent {nowhere[0]} has no p2p-address in its --node-config"
    for agent, answer in answers.items():
        if said := text(answer.facts, "trouble"):
            return f"agent {agent} cannot be reached ({said})"
    for agent, answer in answers.items():
        for peer, reason in zip(
            integers(answer.facts, "missing"), texts(answer.facts, "reasons"), strict=True
        ):
            return f"agent {agent} cannot reach agent {peer} ({reason})"
    return ""


def _what_profiles(answers: Mapping[int, _Answer], decided: _Decided) -> str:
    speeds = [1 / number(answer.facts, "batch-s") for answer in answers.values()]
    links = [speed for answer in answers.values() for speed in floats(answer.facts, "bytes-per-s")]
    relay = decided.get("relay-bytes-per-s")
    told = f"profiles: measured: {_range(speeds, '{:.3g}'.format)} batches/s"
    if isinstance(relay, list):
        return f"{told}, {_range(relay, human_bandwidth)} through the SuperLink"
    return f"{told}, links of {_range(links, human_bandwidth)}" if links else told


def _range(values: Sequence[float], show: Callable[[float], str]) -> str:
    least, most = show(min(values)), show(max(values))
    return least if least == most else f"{least} to {most}"
