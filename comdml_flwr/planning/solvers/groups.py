"""How long a helper and all the slow agents that it serves take: a *group*.

One helper j serves the slow agents i of a group G, each at a cut of its own. Symbols as in costs.py; the
index i stands for "of slow agent i at its cut"; D is the speed of j's network card (Profile.nic_bytes_per_s,
by default j's fastest link). In ComDML nothing goes back from the helper, so of its card only the downlink is
shared. A slow agent has one helper, so its uplink carries one stream; its card is a part of c_ij already.

The downlink is divided among the streams in proportion to what they send, X = the sum of N_i d_i in all:

    rate of i     at most D N_i d_i / X           hence its N_i d_i bytes take at least X / D, as all others'
    per batch     c_i = max(d_i / c_ij,  X / (N_i D))

No division ends earlier: X bytes cannot come in before X / D, and here all come in by then if links allow.

"overlap": each part works without a pause, beside the others.

    end of the group = max over i of (N_i a_i / p_i,  N_i c_i),   T_j + sum of N_i f_i,     f_i = b_i / p_j

"pipeline": batch k of i is at the helper at A_ik = first_i + (k - 1) g_i, where g_i = max(s_i, c_i) and
first_i = s_i + c_i + l_i (costs.py). The helper trains what is there, and never waits while there is any, so
it ends at

    max over r of  r + (all its work that comes at r or later),        r = 0 or some A_ik:

not earlier, since that work cannot begin before r; and for r = the beginning of its last time without a pause
(something came then, nothing was left) it is just that. For r = 0 this is T_j + the sum of N_i f_i. For r > 0
let R_i(r) be the work of i that comes at r or later, f_i times the number of k with A_ik >= r:

    R_i(r) = N_i f_i                                for r <= first_i
    R_i(r) <= f_i + f_i (last_i - r) / g_i          for first_i < r <= last_i = first_i + (N_i - 1) g_i
    R_i(r) = 0                                      for last_i < r

The second line is a straight line through the steps, exact at each A_ik, and too high by less than f_i in
between. With it, r + the sum of R_i(r) is linear between neighbours of the set {first_i, last_i}, and falls
only by jumps behind a last_i: its largest value is at one of these 2 |G| points.

    end of the group = max( N_i s_i,  T_j + sum of N_i f_i,  r + sum over i of R_i(r) for these r )

This is an upper bound, by less than the sum of f_i too high. For one partner r = first_i gives
s + c + l + N f and r = last_i gives s + c + l + (N - 1) g + f: exactly the pair of costs.py, to the bit,
since then c_i = d_i / c_ij. Fractional N_i: as there, u_i = min(1, N_i) takes the place of the first batch.

A group is never faster with one member more: c_i, first_i, last_i and with them every R_i(r) can only grow.

Not modelled: chains (a slow agent cut for two helpers); sharing.py says why, with figures.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.planning.bounded_queue import helping_bytes
from comdml_flwr.planning.costs import AgentArrays, FloatArray, agent_arrays
from comdml_flwr.planning.types import Cut, Profile

IntArray = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCosts:
    """The numbers of a planning problem from which the end of any group follows.

    Parameters
    ----------
    agents : AgentArrays
        K agents.
    slow_share, fast_share, bytes_per_batch : NDArray[float64], shape [M]
        Of the cuts.
    helping_bytes : NDArray[float64], shape [M]
        Memory that a helper needs for one partner.
    whole_bytes : float
        Memory that it needs for its own model.
    card_bytes_per_s : NDArray[float64], shape [K]
        Speed of the network cards.
    pair_finish_s : NDArray[float64], shape [K, K, M]
        End of each pair; inf where there is none.
    is_pipeline : bool
        The time model.
    """

    agents: AgentArrays
    slow_share: FloatArray
    fast_share: FloatArray
    bytes_per_batch: FloatArray
    helping_bytes: FloatArray
    whole_bytes: float
    card_bytes_per_s: FloatArray
    pair_finish_s: FloatArray
    is_pipeline: bool

    @classmethod
    def of(
        cls, profiles: Sequence[Profile], cuts: Collection[Cut], time_model: str, pair_finish_s: FloatArray
    ) -> "GroupCosts":
        """Prepare the numbers; arguments as in `costs.pair_finish_s`, and its result."""
        agents = agent_arrays(profiles)
        cards = [_card_bytes_per_s(profile) for profile in profiles]
        return cls(
            agents=agents,
            slow_share=np.array([cut.slow_share for cut in cuts]),
            fast_share=np.array([cut.fast_share for cut in cuts]),
            bytes_per_batch=np.array([cut.bytes_per_batch for cut in cuts]),
            helping_bytes=np.array([helping_bytes(cut) for cut in cuts]),
            whole_bytes=max((cut.whole_bytes for cut in cuts), default=0.0),
            card_bytes_per_s=np.array(cards),
            pair_finish_s=pair_finish_s,
            is_pipeline=time_model == "pipeline",
        )

    def finish_s(self, fast: IntArray, slow: IntArray, cut: IntArray) -> FloatArray:
        """Predict the end of groups of equal size.

        Parameters
        ----------
        fast : NDArray[intp], shape [G]
            Position of the helper of each group.
        slow, cut : NDArray[intp], shape [G, n]
            Positions of its partners, and the indices of their cuts; n >= 1. Sums go in this order.

        Returns
        -------
        NDArray[float64], shape [G]
            Seconds; inf where links or memory do not allow the group.
        """
        pairs_s = self.pair_finish_s[slow, fast[:, None], cut]
        held_bytes = self.whole_bytes + _sum(self.helping_bytes[cut])
        fits = (held_bytes <= self.agents.memory_bytes[fast]) & np.isfinite(pairs_s).all(axis=1)
        formula = self._pipeline_s if self.is_pipeline else self._overlap_s
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # 0 bytes/s: overwritten below
            finish_s: FloatArray = formula(fast, slow, cut)
        finish_s[~fits] = np.inf
        return finish_s

    def _overlap_s(self, fast: IntArray, slow: IntArray, cut: IntArray) -> FloatArray:
        num_batches = self.agents.num_batches[slow, 0]
        slow_s = num_batches * self.slow_share[cut] / self.agents.slow_speed[slow, 0]
        num_bytes = num_batches * self.bytes_per_batch[cut]
        transfer_s = num_bytes / self.agents.bytes_per_s[slow, fast[:, None]]
        card_s = _sum(num_bytes) / self.card_bytes_per_s[fast]
        fast_s = num_batches * self.fast_share[cut] / self.agents.fast_speed[0, fast][:, None]
        helper_s = self.agents.fast_solo_s[0, fast] + _sum(fast_s)
        stream_s: FloatArray = np.maximum(slow_s, transfer_s).max(axis=1)
        end_s: FloatArray = np.maximum(stream_s, np.maximum(card_s, helper_s))
        return end_s

    def _pipeline_s(self, fast: IntArray, slow: IntArray, cut: IntArray) -> FloatArray:
        num_batches = self.agents.num_batches[slow, 0]  # N, like all below [G, n]
        slow_speed, fast_speed = self.agents.slow_speed[slow, 0], self.agents.fast_speed[0, fast][:, None]
        slow_s = num_batches * self.slow_share[cut] / slow_speed  # N s
        fast_s = num_batches * self.fast_share[cut] / fast_speed  # N f
        batch_slow_s = self.slow_share[cut] / slow_speed  # s
        batch_fast_s = self.fast_share[cut] / fast_speed  # f
        batch_transfer_s = self._batch_transfer_s(fast, slow, cut, num_batches)  # c
        gap_s = np.maximum(batch_slow_s, batch_transfer_s)  # g
        once = np.minimum(num_batches, 1.0)  # u
        first_s = once * (batch_slow_s + batch_transfer_s) + self.agents.latency_s[slow, fast[:, None]]
        last_s = first_s + (num_batches - once) * gap_s

        r_s = np.concatenate([first_s, last_s], axis=1)[:, :, None]  # [G, 2n, 1], against [G, 1, n]
        first_s, last_s, gap_s, all_s = (x[:, None] for x in (first_s, last_s, gap_s, fast_s))
        rest_s = (once * batch_fast_s)[:, None] + (last_s - r_s) / gap_s * batch_fast_s[:, None]
        left_s = np.where(r_s <= first_s, all_s, np.where(r_s <= last_s, np.minimum(rest_s, all_s), 0.0))
        helper_s = self.agents.fast_solo_s[0, fast] + _sum(fast_s)
        ends_s: FloatArray = (r_s[:, :, 0] + _sum(left_s)).max(axis=1)
        end_s: FloatArray = np.maximum(np.maximum(slow_s.max(axis=1), helper_s), ends_s)
        return end_s

    def _batch_transfer_s(
        self, fast: IntArray, slow: IntArray, cut: IntArray, num_batches: FloatArray
    ) -> FloatArray:
        """Return c_i; X / N_i is written as d_i + (bytes of the others) / N_i: for one, d_i to the bit."""
        batch_bytes = self.bytes_per_batch[cut]
        num_bytes = num_batches * batch_bytes
        others = _sum(num_bytes)[:, None] - num_bytes if slow.shape[1] > 1 else np.zeros_like(num_bytes)
        shared_s = (batch_bytes + others / num_batches) / self.card_bytes_per_s[fast][:, None]
        return np.maximum(batch_bytes / self.agents.bytes_per_s[slow, fast[:, None]], shared_s)


def _card_bytes_per_s(profile: Profile) -> float:
    if profile.nic_bytes_per_s < np.inf:
        return profile.nic_bytes_per_s
    return max((link.bytes_per_s for link in profile.links.values()), default=0.0)


def _sum(values: FloatArray) -> FloatArray:
    """Add up the last axis from left to right: the same bits on every machine."""
    total = values[..., 0]
    for index in range(1, values.shape[-1]):
        total = total + values[..., index]
    return total
