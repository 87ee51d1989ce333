"""What hosts and links really give, and the fleet file with the speeds that were measured.

All hosts are measured at the same time, as they will train; training beside an idle SuperNode in the same
quota, which takes 5 to 9 % of a tenth of a core. What a cut's sides take of a batch's time is measured on one
host and holds for all: a quota changes speeds, not shares. Links are measured one after the other, without
the hosts' quotas, because at a tenth of a core Python would be the bottleneck and not the link.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from comdml_flwr.core.errors import RunError
from comdml_flwr.planning.fleet.fleet import Fleet, TimeShares
from comdml_flwr.planning.types import BYTES_PER_S_PER_MBPS, Link
from experiments.testbed.cgroups import Group
from experiments.testbed.hosts import NETWORK, SUPERLINK_ADDRESS, Host
from experiments.testbed.processes import Process, start

SPIN_S, TRAIN_S, TRANSFER_S = 3.0, 8.0, 1.5
_PORT = 9500
SUPERLINK = "SuperLink"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpeed:
    """Bandwidth from one host, or the SuperLink, to another: what the file asks, what was measured."""

    sender: str
    receiver: str
    asked_bytes_per_s: float
    measured_bytes_per_s: float


def measure_quotas(
    hosts: Sequence[Host], groups: Mapping[int, Group], seconds: float = SPIN_S
) -> dict[int, float]:
    """Return how many cores a busy loop gets on each host, by agent."""
    probes = {host.agent: _probe(host.namespace, "spin", seconds) for host in hosts}
    return {agent: found["cpus"] for agent, found in _at_once(probes, groups).items()}


def measure_training(
    hosts: Sequence[Host], groups: Mapping[int, Group], run_config: Path
) -> dict[int, tuple[float, float]]:
    """Return each agent's training speed in batches/s on the run's own model and data, and FLOP/s that it is.

    FLOP/s are in the unit of the fleet file: what the cost model counts for a batch, times batches/s.
    """
    words = (run_config, len(hosts))
    probes = {host.agent: _probe(host.namespace, "train", TRAIN_S, host.agent, *words) for host in hosts}
    found = _at_once(probes, groups)
    return {
        host.agent: (
            found[host.agent]["batches_per_s"],
            host.flops_per_s
            * found[host.agent]["batches_per_s"]
            / found[host.agent]["profile_batches_per_s"],
        )
        for host in hosts
    }


def measure_shares(
    hosts: Sequence[Host], groups: Mapping[int, Group], run_config: Path
) -> tuple[TimeShares, ...]:
    """Return what the sides of each cut take of a batch's time, on the host that has most of a core.

    A share of the time is not one of the FLOPs: small layers take longer than theirs.
    """
    fastest = max(hosts, key=lambda host: host.cpus)
    probe = _probe(fastest.namespace, "shares", fastest.agent, run_config, len(hosts))
    found = _at_once({fastest.agent: probe}, groups)[fastest.agent]
    cuts = range(1, len(found) // 2 + 1)
    return tuple(TimeShares(slow_share=found[f"slow {cut}"], fast_share=found[f"fast {cut}"]) for cut in cuts)


def measure_links(hosts: Sequence[Host], seconds: float = TRANSFER_S) -> tuple[LinkSpeed, ...]:
    """Send for some seconds over each link, in both directions, and to and from the SuperLink."""
    links = []
    for host in hosts:
        for other in hosts:
            asked = _asked(host, other) if other is not host else 0.0
            if asked:
                links.append(_measure(_end(host), _end(other), asked, seconds))
        for ends in ((_end(host), _SUPERLINK_END), (_SUPERLINK_END, _end(host))):
            links.append(_measure(*ends, host.superlink.bytes_per_s, seconds))
    return tuple(links)


def _asked(host: Host, other: Host) -> float:
    """Return the bandwidth of a link, which is at most that of both network cards."""
    return min(host.links[other.agent].bytes_per_s, *(end.bytes_per_s or inf for end in (host, other)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    name: str
    namespace: str
    address: str


_SUPERLINK_END = _End(name=SUPERLINK, namespace=NETWORK, address=SUPERLINK_ADDRESS)


def _end(host: Host) -> _End:
    return _End(name=str(host.agent), namespace=host.namespace, address=host.address)


def _measure(sender: _End, receiver: _End, asked: float, seconds: float) -> LinkSpeed:
    receiving = _probe(receiver.namespace, "receive", receiver.address, _PORT)
    sending = _probe(sender.namespace, "send", receiver.address, _PORT, round(asked * seconds))
    for process in (receiving, sending):
        _wait_until_ready(process)
    _go(receiving)
    _go(sending)
    _result(sending)
    measured = _result(receiving)["bytes_per_s"]
    return LinkSpeed(
        sender=sender.name, receiver=receiver.name, asked_bytes_per_s=asked, measured_bytes_per_s=measured
    )


def _probe(namespace: str, what: str, *words: object) -> Process:
    module = (sys.executable, "-m", "experiments.testbed.probe", what)
    return start(namespace, [*module, *map(str, words)])


def _at_once(probes: Mapping[int, Process], groups: Mapping[int, Group]) -> dict[int, dict[str, float]]:
    for agent, process in probes.items():
        _wait_until_ready(process)
        groups[agent].take(process.pid)
    for process in probes.values():
        _go(process)
    return {agent: _result(process) for agent, process in probes.items()}


def _wait_until_ready(process: Process) -> None:
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise RunError(f"a probe failed: {_error(process)}")


def _go(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def _result(process: Process) -> dict[str, float]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RunError(f"a probe failed: {_error(process)}")
    result: dict[str, float] = json.loads(line)
    process.communicate()
    return result


def _error(process: Process) -> str:
    lines = process.communicate()[1].strip().splitlines()
    return lines[-1] if lines else f"exit status {process.returncode}"


def calibrated_text(
    fleet: Fleet, flops_per_s: Mapping[int, float], about: str, time_shares: Sequence[TimeShares] = ()
) -> str:
    """Write a fleet file for runs: the links of a fleet, and the speeds that were measured.

    A [server] has no speed there: the file's was not measured, and is taken to be the fastest agent's.

    Parameters
    ----------
    fleet : Fleet
        Without [scenario] and [[availability]].
    flops_per_s : Mapping[int, float]
        By agent id.
    about : str
        The first line's comment.
    time_shares : Sequence[TimeShares]
        By cut.
    """
    lines = [f"# {about}", "", "[links]", *_link(fleet.default_link)]
    lines += [f"relay_bandwidth_mbps = {fleet.relay.bytes_per_s / BYTES_PER_S_PER_MBPS!r}", ""]
    if fleet.server is not None:
        lines += ["[server]", *_link(fleet.server.link), ""]
    for cut, share in enumerate(time_shares, start=1):
        lines += [f"[[time_shares]]  # cut {cut}", f"slow_share = {share.slow_share!r}"]
        lines += [f"fast_share = {share.fast_share!r}", ""]
    for agent in fleet.agents:
        lines += ["[[agents]]", f"id = {agent.id}", f"flops_per_s = {flops_per_s[agent.id]!r}"]
        if agent.bytes_per_s is not None:
            lines.append(f"bandwidth_mbps = {agent.bytes_per_s / BYTES_PER_S_PER_MBPS!r}")
        lines.append("")
    for (one, other), link in sorted(fleet.overrides.items()):
        lines += ["[[link]]", f"between = [{one}, {other}]", *_link(link), ""]
    return "\n".join(lines)


def _link(link: Link) -> list[str]:
    mbps, latency_ms = link.bytes_per_s / BYTES_PER_S_PER_MBPS, link.latency_s * 1000
    return [f"bandwidth_mbps = {mbps!r}", f"latency_ms = {latency_ms!r}"]
