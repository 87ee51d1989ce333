"""A fleet: the devices and links that the planner and the virtual clock use. The file: fleet_file.py."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.fleet.scenario import (
    Availability,
    Scenario,
)
from comdml_flwr.planning.types import CutTable, Link, Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetModel:
    """The model that a fleet is planned for: name, shape of one sample, samples in a full batch, classes."""

    name: str
    input: tuple[int, ...]
    batch_size: int
    num_classes: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetAgent:
    """One device: its speed, its share of the data, its memory, and its own network's bandwidth.

    None or inf where the file is silent; an agent without a bandwidth of its own has that of [links].
    """

    id: int
    flops_per_s: float | None
    batches_per_s: float | None
    num_samples: int | None
    num_batches: float | None
    memory_bytes: float = inf
    bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetServer:
    """The server of the methods that have one: its speed, and its link with each agent.

    An agent with a network of its own has the slower of the two. A server's links carry mail side by side.
    A speed of None is that of the fastest agent.
    """

    flops_per_s: float | None
    batches_per_s: float | None
    link: Link


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeShares:
    """What the two sides of a cut take of the whole model's time per batch, as measured on a device."""

    slow_share: float
    fast_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What a fleet file says.

    Parameters
    ----------
    source : str
        The file, for messages.
    model, cuts : FleetModel or None, CutTable or None
        What is planned for: one of the two, or neither in a file that is only for runs.
    agents : tuple[FleetAgent, ...]
        In the order of the file.
    default_link : Link
        Of each pair without an override, unless an agent of the pair has a bandwidth of its own.
    overrides : Mapping[tuple[int, int], Link]
        By pair of ids, the smaller one first.
    relay : Link
        Between two agents without a direct link; only for the clock of averaging, never for offload.
    server : FleetServer or None
        Of the methods that have one; None: as fast as the fastest agent, at the end of the relay's link.
    time_shares : tuple[TimeShares, ...]
        By cut; they stand in for the shares of the FLOPs. Empty: not measured.
    scenario : Scenario or None
        How devices change during a run.
    availability : Availability or None
        Who leaves and returns.
    """

    source: str
    model: FleetModel | None
    cuts: CutTable | None
    agents: tuple[FleetAgent, ...]
    default_link: Link
    overrides: Mapping[tuple[int, int], Link]
    relay: Link
    scenario: Scenario | None = None
    availability: Availability | None = None
    server: FleetServer | None = None
    time_shares: tuple[TimeShares, ...] = ()

    def server_link(self, agent: FleetAgent) -> Link:
        """Return the link between an agent and the server; one without a network of its own has the relay."""
        link = self.relay if self.server is None else self.server.link
        if agent.bytes_per_s is None or agent.bytes_per_s >= link.bytes_per_s:
            return link
        return Link(bytes_per_s=agent.bytes_per_s, latency_s=link.latency_s)

    def link(self, i: int, j: int) -> Link:
        """Look up the link between two agents of the fleet (0 bytes/s: not connected).

        Raises
        ------
        InputError
            If one is not in the fleet, or i = j.
        """
        own = self._own_links()
        for agent in (i, j):
            if agent not in own:
                raise InputError(f"{self.source}: agent", agent, "is not in the fleet")
        if i == j:
            raise InputError(f"{self.source}: agent", i, "has no link with itself")
        return self.overrides.get((min(i, j), max(i, j)), _slower(own[i], own[j]))

    def profiles(self, *, batch_flops: float | None = None) -> tuple[Profile, ...]:
        """Tell what the planner needs of each agent, in the order of the file.

        Parameters
        ----------
        batch_flops : float or None
            Needed with [model]: FLOPs to train the whole model on one full batch. Ignored with [[cuts]].

        Returns
        -------
        tuple[Profile, ...]
            With [[cuts]]: batches_per_s and num_batches. With [model]: flops_per_s / batch_flops and
            num_samples / batch_size.

        Raises
        ------
        InputError
            If the file does not say what is needed.
        """
        if self.cuts is None and self.model is None:
            raise InputError(f"{self.source}: model", None, "give [model] or [[cuts]] to plan")
        if self.cuts is None and not (batch_flops is not None and batch_flops > 0):
            raise InputError("batch_flops", batch_flops, "must be a number > 0 with [model]")
        links, profiles = self.links_by_agent(), []
        for index, agent in enumerate(self.agents):
            speed, batches = self._speed_and_batches(index, batch_flops)
            profiles.append(
                Profile(
                    agent=agent.id,
                    batches_per_s=speed,
                    num_batches=batches,
                    links=links[agent.id],
                    memory_bytes=agent.memory_bytes,
                    nic_bytes_per_s=agent.bytes_per_s or inf,
                )
            )
        return tuple(profiles)

    def _speed_and_batches(self, index: int, batch_flops: float | None) -> tuple[float, float]:
        agent, place = self.agents[index], f"{self.source}: agents[{index}]"
        if self.model is None or batch_flops is None:
            speed = _given(agent.batches_per_s, f"{place}.batches_per_s", "[[cuts]]")
            return speed, _given(agent.num_batches, f"{place}.num_batches", "[[cuts]]")
        speed = _given(agent.flops_per_s, f"{place}.flops_per_s", "[model]") / batch_flops
        return speed, _given(agent.num_samples, f"{place}.num_samples", "[model]") / self.model.batch_size

    def _own_links(self) -> dict[int, Link]:
        latency_s = self.default_link.latency_s
        return {
            agent.id: self.default_link
            if agent.bytes_per_s is None
            else Link(bytes_per_s=agent.bytes_per_s, latency_s=latency_s)
            for agent in self.agents
        }

    def links_by_agent(self) -> dict[int, dict[int, Link]]:
        """Return every agent's links, by its id and the other's."""
        own = self._own_links()
        links = {i: {j: _slower(mine, theirs) for j, theirs in own.items()} for i, mine in own.items()}
        for (i, j), link in self.overrides.items():
            links[i][j] = links[j][i] = link
        for agent in own:
            del links[agent][agent]
        return links


def _slower(one: Link, other: Link) -> Link:
    return other if other.bytes_per_s < one.bytes_per_s else one


def _given(value: float | None, what: str, where: str) -> float:
    if value is None:
        raise InputError(what, value, f"is needed to plan with {where}")
    return value
