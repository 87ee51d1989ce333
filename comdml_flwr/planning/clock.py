"""The virtual clock: when an agent would be where in its round, by the cost model.

Theory of operation
-------------------
Every agent keeps a clock of its own, and every envelope carries the time at which it arrives, so no one needs
to see the whole fleet (a Lamport clock with durations). The arithmetic is max-plus:

* work:      now      = now + batches * share / batches_per_s
* sending:   leaves   = max(now, uplink is free);  uplink is free = leaves + bytes / bandwidth
             arrives  = uplink is free + latency
* receiving: now      = max(now, arrives)          "the later of I am free and my mail is here"

For a pair with constant batches this gives the three-stage flow shop of `costs.py` ("pipeline"): batch n
leaves the slow agent at n s, is over the link at s + c + (n - 1) max(s, c), and the helper, which does its
own batches first (any order that never idles ends at the same time), is done with the last one at max(T_j +
N f, s + c + N f, s + c + (N - 1) max(s, c) + f).

A round starts at 0 for all who take part. Not modelled: the receiver's downlink when several send to it
at once, envelope headers, averaging arithmetic, evaluation, and the planner's own time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from comdml_flwr.planning.types import Link, Profile


@dataclass(slots=True, kw_only=True)
class Clock:
    """Virtual time of one agent in one round.

    Parameters
    ----------
    agent : int
        Its id; mail to itself takes no time.
    batches_per_s : float
        Training speed on the whole model.
    links : Mapping[int, Link]
        Direct links by the other's id; absent or 0 bytes/s: mail goes through the relay.
    relay : Link
        What stands in where there is no direct link.
    now_s, uplink_free_s : float
        Virtual seconds since the round began.
    """

    agent: int
    batches_per_s: float
    links: Mapping[int, Link]
    relay: Link
    now_s: float = 0.0
    uplink_free_s: float = 0.0

    def work(self, num_batches: float) -> None:
        """Spend the time of so many batches of the whole model; a share of a batch is a fraction."""
        self.now_s += num_batches / self.batches_per_s

    def wait(self, arrives_s: float) -> None:
        """Do nothing before this mail is here."""
        self.now_s = max(self.now_s, arrives_s)

    def send(self, receiver: int, num_bytes: float) -> float:
        """Put mail on the uplink, behind what is on it already, and return when it arrives."""
        if receiver == self.agent:
            return self.now_s
        link = link_or_relay(self.links, receiver, self.relay)
        self.uplink_free_s = max(self.now_s, self.uplink_free_s) + num_bytes / link.bytes_per_s
        return self.uplink_free_s + link.latency_s


def link_or_relay(links: Mapping[int, Link], receiver: int, relay: Link) -> Link:
    """Return the direct link to an agent; where there is none, or one of 0 bytes/s, the relay."""
    link = links.get(receiver, relay)
    return link if link.bytes_per_s else relay


def receivers_in_turn(agent: int, agents: Sequence[int]) -> tuple[int, ...]:
    """Return all agents beginning with the one after `agent`: no two agents begin with the same receiver."""
    start = agents.index(agent) + 1
    return (*agents[start:], *agents[:start])


def shard_bounds(num_floats: int, num_shards: int) -> tuple[tuple[int, int], ...]:
    """Return where each of `num_shards` contiguous shards of a vector starts and stops.

    Examples
    --------
    >>> shard_bounds(10, 3)
    ((0, 3), (3, 6), (6, 10))
    """
    marks = [num_floats * shard // num_shards for shard in range(num_shards + 1)]
    return tuple(pairwise(marks))


def deal_out(holders: Sequence[int], newcomers: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Return which newcomers each holder of the current model sends it to: they are dealt out in turn."""
    return {holder: tuple(newcomers[place :: len(holders)]) for place, holder in enumerate(holders)}


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
    clocks = {
        profile.agent: Clock(
            agent=profile.agent, batches_per_s=profile.batches_per_s, links=profile.links, relay=relay
        )
        for profile in profiles
    }
    _all_to_all(clocks, agents, lambda _, __: 0.0)
    for profile in profiles:
        clocks[profile.agent].work(profile.num_batches)
    _all_to_all(clocks, agents, lambda _, owner: size[owner])
    _all_to_all(clocks, agents, lambda owner, _: size[owner])
    handed_over = [
        clocks[agent].send(receiver, sum(shard_bytes))
        for agent, receivers in deal_out(agents, newcomers).items()
        for receiver in receivers
    ]
    return max([clock.now_s for clock in clocks.values()] + handed_over)


def _all_to_all(
    clocks: Mapping[int, Clock], agents: tuple[int, ...], num_bytes: Callable[[int, int], float]
) -> None:
    arrivals = dict.fromkeys(agents, 0.0)
    for agent in agents:
        for receiver in receivers_in_turn(agent, agents):
            arrives_s = clocks[agent].send(receiver, num_bytes(agent, receiver))
            arrivals[receiver] = max(arrivals[receiver], arrives_s)
    for agent in agents:
        clocks[agent].wait(arrivals[agent])
