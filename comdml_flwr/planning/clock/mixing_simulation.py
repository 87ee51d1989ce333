"""The virtual clock of whole rounds that end with mixing, without running them; see simulation.py.

The order of a round, as in methods/comdml.py with `averaging = "mixing"`, and without pairs in methods/dpsgd:

    introduce   everybody to everybody, nothing to weigh
    train       as in simulation.py, but a slow agent first sends the weights of its fast side to its helper
    give back   the helper sends the trained fast side to its slow agent, which waits for it
    spread      everybody sends its whole model to its neighbours and waits for theirs
    hand over   the model to those who were absent and take part in the next round
"""

from collections.abc import Mapping, Sequence

from comdml_flwr.core.messages import FLOAT_BYTES
from comdml_flwr.core.sharding import assign_round_robin, staggered_receivers
from comdml_flwr.planning.clock.clock import Clock, new_clock
from comdml_flwr.planning.clock.simulation import RoundTimes, Workload, train_pair
from comdml_flwr.planning.types import Link, Plan, Profile


def simulate_mixing_round(
    profiles: Sequence[Profile],
    relay: Link,
    plan: Plan | None,
    workload: Workload,
    newcomers: Sequence[int] = (),
) -> RoundTimes:
    """Return what a round takes by the virtual clock if it ends with mixing among linked neighbours.

    Parameters
    ----------
    profiles : Sequence[Profile]
        Of the agents that take part, in ascending id.
    relay : Link
        What stands in where there is no direct link.
    plan, workload, newcomers
        As of `simulation.simulate_round`; without a plan the round is one of D-PSGD.

    Returns
    -------
    RoundTimes
        To the bit what a run's `rounds.jsonl` says.
    """
    clocks = {profile.agent: new_clock(profile, relay) for profile in profiles}
    _to_each(clocks, dict.fromkeys(clocks, tuple(clocks)), 0)
    pairs = plan.pairs if plan else ()
    slow_ones = {pair.slow for pair in pairs}
    for profile in profiles:
        if profile.agent not in slow_ones:
            clocks[profile.agent].work(profile.num_batches)
    pair_bytes, given_back = 0.0, {}
    for pair in pairs:
        slow, fast = clocks[pair.slow], clocks[pair.fast]
        rest_bytes = FLOAT_BYTES * workload.fast_floats[pair.cut]
        fast_side_arrives_s = slow.send(pair.fast, rest_bytes)
        fast.wait(fast_side_arrives_s)
        pair_bytes += train_pair(slow, fast, pair.cut, workload) + 2 * rest_bytes
    makespan_s = max(clock.now_s for clock in clocks.values())
    for pair in pairs:
        rest_bytes = FLOAT_BYTES * workload.fast_floats[pair.cut]
        given_back[pair.slow] = clocks[pair.fast].send(pair.slow, rest_bytes)
    for agent, arrives_s in given_back.items():
        clocks[agent].wait(arrives_s)
    model_bytes = FLOAT_BYTES * workload.num_floats
    num_sent = _to_each(clocks, _neighbours(profiles), model_bytes)
    handed_over = [
        clocks[holder].send(receiver, model_bytes)
        for holder, receivers in assign_round_robin(tuple(clocks), newcomers).items()
        for receiver in receivers
    ]
    return RoundTimes(
        makespan_s=makespan_s,
        virtual_time_s=max([*(clock.now_s for clock in clocks.values()), *handed_over]),
        bytes_sent=round(pair_bytes) + (num_sent + len(newcomers)) * model_bytes,
    )


def _neighbours(profiles: Sequence[Profile]) -> dict[int, tuple[int, ...]]:
    agents, links = [profile.agent for profile in profiles], {p.agent: p.links for p in profiles}
    return {
        agent: tuple(o for o in agents if o in links[agent] and links[agent][o].bytes_per_s)
        for agent in agents
    }


def _to_each(clocks: Mapping[int, Clock], receivers: Mapping[int, tuple[int, ...]], num_bytes: float) -> int:
    """Let each agent send as many bytes to each of its receivers, and wait; return how many it were."""
    arrivals, count = dict.fromkeys(receivers, 0.0), 0
    for agent, to in receivers.items():
        for receiver in staggered_receivers(agent, sorted({*to, agent})):
            arrivals[receiver] = max(arrivals[receiver], clocks[agent].send(receiver, num_bytes))
            count += receiver != agent
    for agent in receivers:
        clocks[agent].wait(arrivals[agent])
    return count
