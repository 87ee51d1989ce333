"""The virtual clock of whole rounds without running them: for dry runs of many agents and rounds.

A run moves K (K - 1) envelopes three times a round and each of K agents makes the plan for itself; with 100
agents that is minutes for 200 rounds. Here the same max-plus arithmetic (clock.py) is done for all agents at
once, in the same order of + * / and max, so the result is a real run's to the bit
(tests/runs/test_dry_run.py). The order of a round, as in methods/comdml.py and reduction.py:

    introduce   everybody to everybody, nothing to weigh
    train       a helper or an agent without a pair: its own batches; a slow agent: batch by batch onto the
                link; the helper: each batch when it is there
    scatter     to the owner of each shard its piece of what was trained; a helper's piece of its partner's
                fast side follows its own
    heads       slow agents with the same cut send each other their auxiliary heads
    gather      each owner, when all pieces are there, to everybody
    adopt       when all shards, and the heads, are there
    hand over   the model to those who were absent and take part in the next round

np.add.accumulate adds from left to right, as a clock does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.core.by_cut import ByCut
from comdml_flwr.core.messages import FLOAT_BYTES
from comdml_flwr.core.sharding import assign_round_robin, shard_bounds
from comdml_flwr.planning.clock.clock import Clock, link_or_relay
from comdml_flwr.planning.types import CutTable, Link, Plan, Profile

FloatArray = NDArray[np.float64]

MOST_BATCHES = 20_000
"""Of an agent in an epoch, when a plan is judged: each is walked through, and what an agent tells of its work
may be anything."""

_Pairs = tuple[tuple[int, int, int], ...]  # positions of slow and fast, cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is trained and sent in a round, besides what the profiles tell.

    Parameters
    ----------
    cuts : CutTable
        Cuts 1..M.
    batch_size : int
        Samples in a full batch.
    batches : Mapping[int, tuple[float, ...]]
        Samples in each batch of a round, by agent.
    num_floats : int
        Weights of the model that are averaged; 0 if that is not known: averaging then takes no time.
    fast_floats, head_floats : ByCut[int]
        Those of the fast side and of the auxiliary head, by cut.
    """

    cuts: CutTable
    batch_size: int
    batches: Mapping[int, tuple[float, ...]]
    num_floats: int
    fast_floats: ByCut[int]
    head_floats: ByCut[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTimes:
    """What a round takes: virtual end of training and of the round, and the bytes that all send."""

    makespan_s: float
    virtual_time_s: float
    bytes_sent: int


def simulate_round(
    clocks: "FleetClocks", plan: Plan | None, workload: Workload, newcomers: Sequence[int] = ()
) -> RoundTimes:
    """Return what a round takes by the virtual clock.

    Parameters
    ----------
    clocks : FleetClocks
        Of the agents that take part.
    plan : Plan or None
        Of the round; None: nobody offloads (AllReduce).
    workload : Workload
        What is trained and sent.
    newcomers : Sequence[int]
        Absent agents that take part in the next round.

    Returns
    -------
    RoundTimes
        To the bit what a run's `rounds.jsonl` says.
    """
    pairs, nothing = clocks.places(plan), np.zeros(len(clocks.profiles))
    now, uplink = clocks.to_all(nothing, nothing, nothing)
    pair_bytes = clocks.train(now, uplink, pairs, workload)
    makespan_s = float(now.max())
    now, uplink, reduce_bytes = clocks.average(now, uplink, pairs, workload)
    end_s, hand_bytes = clocks.hand_over(now, uplink, newcomers, FLOAT_BYTES * workload.num_floats)
    bytes_sent = round(pair_bytes + reduce_bytes + hand_bytes)
    return RoundTimes(makespan_s=makespan_s, virtual_time_s=end_s, bytes_sent=bytes_sent)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetClocks:
    """The clocks of all who take part in a round, as arrays [K]: now, and when the uplink is free.

    Parameters
    ----------
    profiles : Sequence[Profile]
        Of the agents that take part, in ascending id; positions follow this order.
    relay : Link
        What stands in where there is no direct link.
    bytes_per_s, latency_s : NDArray[float64], shape [K, K]
        Of the link, or the relay, from the row's agent to the column's.
    turn : NDArray[intp], shape [K, K - 1]
        To whom each agent sends in turn when it sends to all.
    """

    profiles: Sequence[Profile]
    relay: Link
    bytes_per_s: FloatArray
    latency_s: FloatArray
    turn: NDArray[np.intp]

    @classmethod
    def of(cls, profiles: Sequence[Profile], relay: Link) -> "FleetClocks":
        """Look up the links of these agents."""
        links = [
            [link_or_relay(profile.links, other.agent, relay) for other in profiles] for profile in profiles
        ]
        count = len(profiles)
        return cls(
            profiles=profiles,
            relay=relay,
            bytes_per_s=np.array([[link.bytes_per_s for link in row] for row in links]),
            latency_s=np.array([[link.latency_s for link in row] for row in links]),
            turn=(np.arange(count)[:, None] + np.arange(1, count)) % count,
        )

    def places(self, plan: Plan | None) -> _Pairs:
        """Return the pairs of a plan by the positions of their agents."""
        place = {profile.agent: index for index, profile in enumerate(self.profiles)}
        return tuple((place[p.slow], place[p.fast], p.cut) for p in plan.pairs) if plan else ()

    def to_all(
        self, now: FloatArray, uplink: FloatArray, num_bytes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Let each agent with bytes (or each, if all have 0) send as many to all; wait for all mail."""
        sends = (num_bytes > 0) | ~(num_bytes > 0).any()
        durations = num_bytes[:, None] / np.take_along_axis(self.bytes_per_s, self.turn, axis=1)
        free = _accumulate(np.maximum(now, uplink), durations)
        arrives = free[:, 1:] + np.take_along_axis(self.latency_s, self.turn, axis=1)
        later = now.copy()
        np.maximum.at(later, self.turn[sends], arrives[sends])
        return later, np.where(sends, free[:, -1], uplink) if len(now) > 1 else uplink

    def train(self, now: FloatArray, uplink: FloatArray, pairs: _Pairs, workload: Workload) -> float:
        """Advance these clocks to the end of training; return the bytes of activations and labels."""
        slow_ones = {slow for slow, _, _ in pairs}
        for index, profile in enumerate(self.profiles):
            if index not in slow_ones:
                now[index] += profile.num_batches / profile.batches_per_s
        return sum(self._train_pair(now, uplink, pair, workload) for pair in pairs)

    def _train_pair(
        self, now: FloatArray, uplink: FloatArray, pair: tuple[int, int, int], workload: Workload
    ) -> float:
        slow, fast, cut = pair
        sender, helper = self._clock(slow, now, uplink), self._clock(fast, now, uplink)
        num_bytes = train_pair(sender, helper, cut, workload)
        now[slow], uplink[slow], now[fast] = sender.now_s, sender.uplink_free_s, helper.now_s
        return num_bytes

    def average(
        self, now: FloatArray, uplink: FloatArray, pairs: _Pairs, workload: Workload
    ) -> tuple[FloatArray, FloatArray, int]:
        """Scatter, send heads, gather and adopt; return the bytes with the clocks."""
        shards = _shards(workload.num_floats, len(now))
        owns = shards[:, 1] > shards[:, 0]
        mean_bytes = FLOAT_BYTES * (shards[:, 1] - shards[:, 0])
        ready, uplink, piece_bytes = self._scatter(now, uplink, pairs, workload)
        heads, uplink, head_bytes = self._send_heads(now, uplink, pairs, workload)
        now = np.where(owns, np.maximum(now, ready), now)
        if owns.any():
            adopted, uplink = self.to_all(now, uplink, mean_bytes.astype(np.float64))
            now = np.maximum(adopted, np.maximum(now, heads))
        else:
            now = np.maximum(now, heads)
        sent = piece_bytes + head_bytes + int(mean_bytes.sum()) * (len(now) - 1)
        return now, uplink, sent

    def _scatter(
        self, now: FloatArray, uplink: FloatArray, pairs: _Pairs, workload: Workload
    ) -> tuple[FloatArray, FloatArray, int]:
        """Return when each owner has all pieces of its shard; to each owner go own and partner's piece."""
        num_bytes = _piece_bytes(len(now), pairs, workload)
        speed = np.take_along_axis(self.bytes_per_s, self.turn, axis=1)
        in_turn = np.stack([np.take_along_axis(part, self.turn, axis=1) for part in num_bytes], axis=2)
        durations = in_turn / speed[:, :, None]
        free = _accumulate(np.maximum(now, uplink), durations.reshape(len(now), -1))
        latency_s = np.take_along_axis(self.latency_s, self.turn, axis=1)[:, :, None]
        arrives = free[:, 1:].reshape(in_turn.shape) + latency_s
        ready = now.copy()  # its own pieces are there at once
        owners = np.broadcast_to(self.turn[:, :, None], in_turn.shape)
        np.maximum.at(ready, owners[in_turn > 0], arrives[in_turn > 0])
        uplink = np.where((in_turn > 0).any(axis=(1, 2)), free[:, -1], uplink)
        return ready, uplink, int(in_turn.sum())

    def _send_heads(
        self, now: FloatArray, uplink: FloatArray, pairs: _Pairs, workload: Workload
    ) -> tuple[FloatArray, FloatArray, int]:
        """Return when each slow agent has the auxiliary heads of all with its cut."""
        there, uplink, sent = now.copy(), uplink.copy(), 0
        for cut in sorted({cut for _, _, cut in pairs}):
            group = np.array([slow for slow, _, other in pairs if other == cut])
            num_bytes = FLOAT_BYTES * workload.head_floats[cut]
            others = group[:, None] != group
            durations = np.where(others, num_bytes / self.bytes_per_s[np.ix_(group, group)], 0.0)
            free = _accumulate(np.maximum(now, uplink)[group], durations)
            arrives = np.where(others, free[:, 1:] + self.latency_s[np.ix_(group, group)], 0.0)
            there[group] = np.maximum(there[group], arrives.max(axis=0))
            if len(group) > 1:
                uplink[group] = free[:, -1]
            sent += num_bytes * int(np.count_nonzero(others))
        return there, uplink, sent

    def hand_over(
        self, now: FloatArray, uplink: FloatArray, newcomers: Sequence[int], num_bytes: int
    ) -> tuple[float, int]:
        """Return the end of the round, and the bytes that newcomers get."""
        ends, place = [float(now.max())], {profile.agent: n for n, profile in enumerate(self.profiles)}
        for holder, receivers in assign_round_robin(list(place), newcomers).items():
            clock = self._clock(place[holder], now, uplink)
            ends += [clock.send(receiver, num_bytes) for receiver in receivers]
        return max(ends), num_bytes * len(newcomers)

    def _clock(self, index: int, now: FloatArray, uplink: FloatArray) -> Clock:
        profile = self.profiles[index]
        return Clock(
            agent=profile.agent,
            batches_per_s=profile.batches_per_s,
            links=profile.links,
            relay=self.relay,
            now_s=float(now[index]),
            uplink_free_s=float(uplink[index]),
        )


def train_pair(slow: Clock, fast: Clock, cut: int, workload: Workload) -> float:
    """Advance the clocks of a pair to the end of its training, batch by batch; return the bytes sent."""
    costs, total_bytes = workload.cuts[cut], 0.0
    sample_bytes = costs.bytes_per_batch / workload.batch_size
    for num_samples in workload.batches[slow.agent]:
        slow.work(costs.slow_share * num_samples / workload.batch_size)
        fast.wait(slow.send(fast.agent, sample_bytes * num_samples))
        fast.work(costs.fast_share * num_samples / workload.batch_size)
        total_bytes += sample_bytes * num_samples
    return total_bytes


def batch_sizes(
    num_samples: float, batch_size: int, num_epochs: int, smallest: float = 0, most: float = inf
) -> tuple[float, ...]:
    """Return the samples in each batch of a round: full batches, a small one at the end of each epoch.

    One with fewer than `smallest` joins the full one before. Where an epoch has more than `most`, several in
    a row count as one: the work is the same, the pipeline of a pair fills and drains a little later.

    Examples
    --------
    >>> batch_sizes(20, 8, 2)
    (8.0, 8.0, 4.0, 8.0, 8.0, 4.0)
    >>> batch_sizes(80, 8, 1, most=3)
    (32.0, 32.0, 16.0)
    """
    batch_size *= max(1, ceil(num_samples / batch_size / most))
    num_full = int(num_samples // batch_size)
    rest = num_samples - num_full * batch_size
    sizes = (float(batch_size),) * num_full
    if sizes and 0 < rest < smallest:
        return (*sizes[:-1], sizes[-1] + rest) * num_epochs
    return (sizes + ((float(rest),) if rest else ())) * num_epochs


def _piece_bytes(num_agents: int, pairs: _Pairs, workload: Workload) -> NDArray[np.int64]:
    """Return shape [2, K, K]: bytes of own and of the partner's piece, by sender and owner of the shard."""
    bounds, shards = np.zeros((2, num_agents, 2), dtype=np.int64), _shards(workload.num_floats, num_agents)
    bounds[0, :, 1] = workload.num_floats
    for slow, fast, cut in pairs:
        middle = workload.num_floats - workload.fast_floats[cut]
        bounds[0, slow, 1] = middle
        bounds[1, fast] = middle, workload.num_floats
    low = np.maximum(bounds[:, :, None, 0], shards[None, None, :, 0])
    high = np.minimum(bounds[:, :, None, 1], shards[None, None, :, 1])
    num_bytes: NDArray[np.int64] = FLOAT_BYTES * np.maximum(high - low, 0)
    return num_bytes


def _accumulate(start: FloatArray, durations: FloatArray) -> FloatArray:
    return np.add.accumulate(np.concatenate([start[:, None], durations], axis=1), axis=1)


def _shards(num_floats: int, num_shards: int) -> NDArray[np.int64]:
    """Return shape [num_shards, 2]: where each shard starts and stops."""
    return np.array(shard_bounds(num_floats, num_shards), dtype=np.int64)
