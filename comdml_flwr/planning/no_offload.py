"""The virtual time of a round in which nobody offloads: what a method with offload is measured by."""

from collections.abc import Callable, Mapping, Sequence

from comdml_flwr.planning.clock import Clock, deal_out, new_clock, receivers_in_turn
from comdml_flwr.planning.types import Link, Profile


def no_offload_round_s(
    profiles: Sequence[Profile],
    shard_bytes: Sequence[float],
    relay: Link,
    newcomers: Sequence[int] = (),
) -> float:
    """Return the virtual time of a round without offload: introduce, train alone, scatter, gather, hand over.

    Parameters
    ----------
    profiles : Sequence[Profile]
        Of the agents that take part, in ascending id.
    shard_bytes : Sequence[float]
        Size of the shard that each of them averages, in the same order.
    relay : Link
        What stands in where there is no direct link.
    newcomers : Sequence[int]
        Agents that were absent, take part in the next round, and get the model at the end of this one.

    Returns
    -------
    float
        The end of the last agent's round, in virtual seconds; equal to what a run of AllReduce shows.
    """
    agents = tuple(profile.agent for profile in profiles)
    size = dict(zip(agents, shard_bytes, strict=True))
    clocks = _trained_alone(profiles, relay)
    _all_to_all(clocks, agents, lambda _, owner: size[owner])
    _all_to_all(clocks, agents, lambda owner, _: size[owner])
    return _handed_over_s(clocks, agents, newcomers, sum(shard_bytes))


def no_offload_mixing_round_s(
    profiles: Sequence[Profile], model_bytes: float, relay: Link, newcomers: Sequence[int] = ()
) -> float:
    """Return the virtual time of a round without offload that ends with mixing among linked neighbours.

    Parameters
    ----------
    profiles, relay, newcomers
        As of `no_offload_round_s`.
    model_bytes : float
        Size of the model.

    Returns
    -------
    float
        The end of the last agent's round, in virtual seconds; equal to what a run of D-PSGD shows.
    """
    agents = tuple(profile.agent for profile in profiles)
    clocks = _trained_alone(profiles, relay)
    links = {profile.agent: profile.links for profile in profiles}
    neighbours = {
        agent: tuple(o for o in agents if o in links[agent] and links[agent][o].bytes_per_s)
        for agent in agents
    }
    _to_each(clocks, neighbours, lambda _, __: model_bytes)
    return _handed_over_s(clocks, agents, newcomers, model_bytes)


def _trained_alone(profiles: Sequence[Profile], relay: Link) -> dict[int, Clock]:
    clocks = {profile.agent: new_clock(profile, relay) for profile in profiles}
    _all_to_all(clocks, tuple(clocks), lambda _, __: 0.0)
    for profile in profiles:
        clocks[profile.agent].work(profile.num_batches)
    return clocks


def _handed_over_s(
    clocks: Mapping[int, Clock], agents: Sequence[int], newcomers: Sequence[int], model_bytes: float
) -> float:
    handed_over = [
        clocks[agent].send(receiver, model_bytes)
        for agent, receivers in deal_out(agents, newcomers).items()
        for receiver in receivers
    ]
    return max([clock.now_s for clock in clocks.values()] + handed_over)


def _all_to_all(
    clocks: Mapping[int, Clock], agents: tuple[int, ...], num_bytes: Callable[[int, int], float]
) -> None:
    _to_each(clocks, dict.fromkeys(agents, agents), num_bytes)


def _to_each(
    clocks: Mapping[int, Clock],
    receivers: Mapping[int, tuple[int, ...]],
    num_bytes: Callable[[int, int], float],
) -> None:
    arrivals = dict.fromkeys(receivers, 0.0)
    for agent, to in receivers.items():
        for receiver in receivers_in_turn(agent, sorted({*to, agent})):
            arrives_s = clocks[agent].send(receiver, num_bytes(agent, receiver))
            arrivals[receiver] = max(arrivals[receiver], arrives_s)
    for agent in receivers:
        clocks[agent].wait(arrivals[agent])
