"""The profiles of a run's agents, round by round: speeds and links of the fleet, work of the real data.

Only the links that the configuration's topology has are there; a method with a server also has the server's
profile, and every agent a link with it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from math import inf

from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.seeds import SHARED, derive_seed
from comdml_flwr.planning.fleet.dynamics import fleet_at, unchanged_since
from comdml_flwr.planning.fleet.fleet import Fleet
from comdml_flwr.planning.fleet.topology import build_topology, topology_of_links
from comdml_flwr.planning.participation import draw_participants
from comdml_flwr.planning.types import SERVER, Link, Profile

ALL_LINKS = "fleet"

Edges = frozenset[tuple[int, int]]


def profiles_by_round(
    config: RunConfig,
    fleet: Fleet,
    sizes: Mapping[int, int],
    *,
    ids: Sequence[int],
    batch_flops: float,
    has_server: bool,
    needs_links: bool,
) -> Callable[[int], Mapping[int, Profile]]:
    """Return the function that tells all profiles of a round.

    Parameters
    ----------
    config : RunConfig
        Of the run.
    fleet : Fleet
        Of the run.
    sizes : Mapping[int, int]
        How many training samples agents have, by id, ascending; there are profiles of these agents.
    ids : Sequence[int]
        All agents, ascending.
    batch_flops : float
        FLOPs to train the whole model on a full batch.
    has_server : bool
        Whether the method has a server.
    needs_links : bool
        Whether the links must connect all agents: in the first round, as a scenario may draw other links.

    Raises
    ------
    InputError
        What the fleet file lacks, or a topology that cannot be: before any training.
    """
    ids = tuple(ids)
    edges = edges_of(config, ids)
    server_speed = _server_speed(fleet, batch_flops) if has_server else None
    first = _profiles(config, fleet, ids, sizes, batch_flops, edges, server_speed)
    if needs_links and len(sizes) == len(ids):
        topology_of_links([first[agent] for agent in ids])  # raises where they do not connect all
    for round_ in range(1, config.num_rounds + 1):
        draw_participants(ids, config.participation, config.seed, round_, fleet.availability)

    @lru_cache(maxsize=2)
    def since(round_: int) -> Mapping[int, Profile]:
        now = fleet_at(fleet, config.seed, round_)
        return _profiles(config, now, ids, sizes, batch_flops, edges, server_speed)

    return lambda round_: since(unchanged_since(fleet, round_))


def through_relay(
    profiles_at: Callable[[int], Mapping[int, Profile]], relay: Callable[[int, int], Link]
) -> Callable[[int], Mapping[int, Profile]]:
    """Return the profiles where all mail goes through a relay: the same pairs are linked, at its price.

    Parameters
    ----------
    profiles_at : Callable[[int], Mapping[int, Profile]]
        All profiles of a round, with direct links.
    relay : Callable[[int, int], Link]
        The way from one agent to another; the same in both directions.
    """

    def priced(profile: Profile) -> Profile:
        links = {
            peer: relay(profile.agent, peer)
            if link.bytes_per_s and SERVER not in (peer, profile.agent)
            else link
            for peer, link in profile.links.items()
        }
        return replace(profile, links=links, nic_bytes_per_s=inf)

    @lru_cache(maxsize=2)
    def at(round_: int) -> Mapping[int, Profile]:
        return {agent: priced(profile) for agent, profile in profiles_at(round_).items()}

    return at


def up_and_down(ways: Mapping[int, Link]) -> Callable[[int, int], Link]:
    """Return the way between two agents that lies over a third place, which takes all before it hands it on.

    Bytes go up one agent's way and then down the other's: 1 / bandwidth = 1 / up + 1 / down. A latency is
    there and back, so that of two of them half counts.
    """

    def way(one: int, other: int) -> Link:
        up, down = ways[one], ways[other]
        return Link(
            bytes_per_s=1 / (1 / up.bytes_per_s + 1 / down.bytes_per_s),
            latency_s=(up.latency_s + down.latency_s) / 2,
        )

    return way


def edges_of(config: RunConfig, ids: Sequence[int]) -> Edges | None:
    """Return the pairs that the topology links, the smaller id first; None for all that the fleet has."""
    if config.topology == ALL_LINKS:
        return None
    graph = build_topology(
        config.topology,
        ids,
        degree=config.topology_degree,
        probability=config.topology_probability,
        seed=derive_seed(config.seed, SHARED, SHARED, "topology"),
    )
    return frozenset((min(edge), max(edge)) for edge in graph.edges)


def _profiles(
    config: RunConfig,
    fleet: Fleet,
    ids: Sequence[int],
    sizes: Mapping[int, int],
    batch_flops: float,
    edges: Edges | None,
    server_speed: float | None,
) -> dict[int, Profile]:
    devices, links = {agent.id: agent for agent in fleet.agents}, fleet.links_by_agent()
    profiles = {}
    for agent, size in sizes.items():
        device = devices[agent]
        speed = _speed(device.flops_per_s, device.batches_per_s, batch_flops)
        if speed is None:
            raise InputError(f"{fleet.source}: agent {agent}", None, "must have flops_per_s or batches_per_s")
        own = {peer: links[agent][peer] for peer in ids if peer != agent and has_edge(edges, agent, peer)}
        profiles[agent] = Profile(
            agent=agent,
            batches_per_s=speed,
            num_batches=size * config.local_epochs / config.batch_size,
            links=own if server_speed is None else {SERVER: fleet.server_link(device), **own},
            memory_bytes=device.memory_bytes,
            nic_bytes_per_s=device.bytes_per_s or inf,
        )
    if server_speed is not None:
        to_agents = {agent: profile.links[SERVER] for agent, profile in profiles.items()}
        server = Profile(agent=SERVER, batches_per_s=server_speed, num_batches=0, links=to_agents)
        profiles[SERVER] = server
    return profiles


def _server_speed(fleet: Fleet, batch_flops: float) -> float:
    """Return the server's speed: that of the file's fastest agent if the file does not tell it."""
    speed = None
    if fleet.server is not None:
        speed = _speed(fleet.server.flops_per_s, fleet.server.batches_per_s, batch_flops)
    speeds = (_speed(a.flops_per_s, a.batches_per_s, batch_flops) for a in fleet.agents)
    return speed or max(fastest for fastest in speeds if fastest is not None)


def _speed(flops_per_s: float | None, batches_per_s: float | None, batch_flops: float) -> float | None:
    return batches_per_s if flops_per_s is None else flops_per_s / batch_flops


def has_edge(edges: Edges | None, one: int, other: int) -> bool:
    """Tell whether a topology links two agents; None is the fleet's own, which links whom it links."""
    return edges is None or (min(one, other), max(one, other)) in edges
