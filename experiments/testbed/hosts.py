"""What a fleet file asks of each host of the testbed: its share of a core, its address, its links.

A host's CPU quota is its `flops_per_s` over the FLOP/s that stand for one core, 1e9 by default as in our
presets. The quotas of all hosts and `RESERVED_CPUS` for the SuperLink, the ServerApp and the bridge must fit
the machine: quotas only bound what a host may have, and on a machine that has less nobody gets his quota.
Two cores carry quotas of 1.85 at most: then, while all hosts train, the rest is what 0.15 of a core can do,
which is enough to move mail and too little to train on.

Not emulated: latency (`netem` is not in every kernel; the file's latency_ms counts in the forecast alone),
memory, and what changes during a run ([scenario], [[availability]]), which is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.fleet.fleet import Fleet, FleetAgent
from comdml_flwr.planning.types import SERVER, Link

PREFIX = "comdml-tb-"
NETWORK = f"{PREFIX}net"  # the namespace of the bridge, the SuperLink and `flwr run`
SUPERLINK_ADDRESS = "10.77.0.1"
PEER_PORT = 9400
RESERVED_CPUS = 0.15
LOWEST_CPUS = 0.02  # below, a SuperNode takes minutes to start
CPU_FLOPS_PER_S = 1e9
MOST_HOSTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host.

    Parameters
    ----------
    agent : int
        Its agent's id.
    partition : int
        The agent's place among all ids, ascending: Flower's partition-id.
    cpus : float
        Quota, in cores.
    flops_per_s : float
        What the fleet file says.
    links : Mapping[int, Link]
        By the other agent's id; 0 bytes/s: packets are refused.
    superlink : Link
        To and from the SuperLink: the file's [server] link, or the relay.
    bytes_per_s : float or None
        Of its network card, in each direction; None: no bound beside the links'.
    """

    agent: int
    partition: int
    cpus: float
    flops_per_s: float
    links: Mapping[int, Link]
    superlink: Link
    bytes_per_s: float | None

    @property
    def namespace(self) -> str:
        """Name of its network namespace."""
        return f"{PREFIX}{self.agent}"

    @property
    def address(self) -> str:
        """IPv4 address."""
        return f"10.77.0.{10 + self.partition}"

    def node_config(self, num_hosts: int, more: str = "") -> str:
        """Return its `--node-config`; in `more`, {agent} stands for the agent's id."""
        peer = f'p2p-address="{self.address}:{PEER_PORT}"'
        ours = f"partition-id={self.partition} num-partitions={num_hosts} {peer}"
        return f"{ours} {more.replace('{agent}', str(self.agent))}".rstrip()


def hosts_of(fleet: Fleet, *, flops_per_cpu: float, num_cores: int) -> tuple[Host, ...]:
    """Return the hosts of a fleet, in ascending id of their agents.

    Raises
    ------
    InputError
        The fleet changes during a run, lacks a speed, or is too much for this machine.
    """
    for table, value in (("[scenario]", fleet.scenario), ("[[availability]]", fleet.availability)):
        if value is not None:
            raise InputError(fleet.source, table, "must be left out: hosts of a testbed do not change")
    if not 2 <= len(fleet.agents) <= MOST_HOSTS:
        raise InputError(fleet.source, f"{len(fleet.agents)} agents", f"must be 2 to {MOST_HOSTS}")
    links, agents = fleet.links_by_agent(), sorted(fleet.agents, key=lambda agent: agent.id)
    hosts = tuple(
        Host(
            agent=agent.id,
            partition=place,
            cpus=_flops_per_s(fleet, agent) / flops_per_cpu,
            flops_per_s=_flops_per_s(fleet, agent),
            links=links[agent.id],
            superlink=fleet.server_link(agent),
            bytes_per_s=agent.bytes_per_s,
        )
        for place, agent in enumerate(agents)
    )
    _check_quotas(fleet, hosts, num_cores)
    return hosts


def cores_of(hosts: Sequence[Host], cores: Sequence[int]) -> Mapping[int, tuple[int, ...]]:
    """Tell which cores each host, by agent, and the SuperLink run on.

    A host has a core that still holds all of its quota, the largest quota first; all cores if there is none.
    The SuperLink and `flwr run` have those that still hold theirs, so that they disturb nobody who fills his.
    """
    left = dict.fromkeys(cores, 1.0)
    found: dict[int, tuple[int, ...]] = {}
    for host in sorted(hosts, key=lambda host: -host.cpus):
        fitting = [core for core in cores if left[core] >= host.cpus - 1e-9]
        found[host.agent] = tuple(fitting[:1] or cores)
        for core in found[host.agent]:
            left[core] -= host.cpus / len(found[host.agent])
    found[SERVER] = tuple(core for core in cores if left[core] >= RESERVED_CPUS - 1e-9) or tuple(cores)
    return found


def _flops_per_s(fleet: Fleet, agent: FleetAgent) -> float:
    if agent.flops_per_s is None:
        raise InputError(f"{fleet.source}: agent {agent.id}", None, "must have flops_per_s on a testbed")
    return agent.flops_per_s


def _check_quotas(fleet: Fleet, hosts: tuple[Host, ...], num_cores: int) -> None:
    for host in hosts:
        if host.cpus < LOWEST_CPUS:
            rule = f"must be at least {LOWEST_CPUS} of a core; lower --flops-per-cpu"
            raise InputError(f"{fleet.source}: quota of agent {host.agent}", round(host.cpus, 4), rule)
    most, total = num_cores - RESERVED_CPUS, sum(host.cpus for host in hosts)
    if total > most + 1e-9:
        rule = f"must be at most {most:g}, {num_cores} cores less the SuperLink's; raise --flops-per-cpu"
        raise InputError(f"{fleet.source}: sum of CPU quotas", round(total, 4), rule)
