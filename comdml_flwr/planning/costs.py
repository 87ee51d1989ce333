"""How long a pair takes: the two time models, and the bound that no plan can beat.

The method is that of S. M. Sajjadi Mohammadabadi, L. Yang, F. Yan, J. Zhang, "Communication-Efficient
Training Workload Balancing for Decentralized Multi-Agent Learning", IEEE ICDCS 2024, pp. 680-691. Symbols in
the formulas and their names in the code:

=========  =====================================  ====================================================
symbol     code                                   meaning
=========  =====================================  ====================================================
K, M       len(profiles), len(cuts)               number of agents, number of cuts
i, j, m    slow, fast, cut                        slow agent, fast agent, cut (0 = no offload, 1..M)
N_i        Profile.num_batches                    batches that agent i trains in the round
p_i        Profile.batches_per_s                  its speed on the whole model
T_i        Profile.solo_s                         N_i / p_i, its time alone
c_ij       Link.bytes_per_s                       bandwidth between i and j; 0 means no link; at most what
                                                  the network cards of both can (Profile.nic_bytes_per_s)
l_ij       Link.latency_s                         time that an empty message takes
a_m, b_m   Cut.slow_share, Cut.fast_share         shares of the whole model's time per batch
d_m        Cut.bytes_per_batch                    activations and labels of one batch
tau_ij^m   pair_finish_s(...)[i, j, m - 1]        end of the pair's training
tau        Plan.makespan_s                        end of everybody's training
=========  =====================================  ====================================================

The model "overlap" is the published one. The slow side, the transfer and the fast side of a pair each work
without a pause and side by side; the helper first trains its own model:

    slow side    N_i a_m / p_i
    transfer     N_i d_m / c_ij
    fast side    T_j + N_i b_m / p_j
    tau_ij^m  =  the largest of the three

The model "pipeline" (own derivation) adds fill, drain and latency. Per batch the slow side takes
s = a_m / p_i, the link c = d_m / c_ij, the fast side f = b_m / p_j; the batch k = 1, 2, ..., N

    leaves the slow side at                  k s
    leaves the link at                       s + c + (k - 1) max(s, c)    (two stages in a row, equal batches)
    is at the helper at        A_k        =  s + c + l + (k - 1) max(s, c)
    is trained at              F_k        =  max(F_{k-1}, A_k) + f,  where F_0 = T_j

    unrolled:  F_N = max(T_j + N f,  max over k of A_k + (N - k + 1) f)
    A_k + (N - k + 1) f is linear in k, so the largest is at k = 1 or at k = N:

    tau_ij^m  =  max(N s,  T_j + N f,  s + c + l + N f,  s + c + l + (N - 1) max(s, c) + f)

(N s never exceeds the last term but for rounding; it is kept so that a cut with a_m = 1 never looks faster
than training alone.) N may be fractional. Let u = min(1, N) be the size of the first batch; it fills the
pipeline in u (s + c) + l, and N - u = max(N - 1, 0) batches follow it:

    tau_ij^m  =  max(N s,  T_j + N f,  u (s + c) + l + N f,  u (s + c) + l + (N - u) max(s, c) + u f)

This is exact for whole N and for N <= 1 (one small batch). For other N the last, small batch is counted in
fill and drain as a full one: an upper bound, too high by less than one batch's time, that never falls with N.

Memory bounds who may do what, and changes no time. Let w be what training the whole model takes, x_m and y_m
what its slow and fast side take at cut m (weights, gradients, optimizer state, activations of a batch):

    i trains alone              w <= memory of i; otherwise T_i counts as infinite
    i is slow at cut m          x_m + Q d_m <= memory of i
    j helps at cuts m1, m2, ... w + the sum of (y_m + Q d_m) <= memory of j

where Q = QUEUE_BATCHES is how many batches wait at each end. bounded_queue.py derives how much such a queue
delays a pair at most: not at all unless f < max(s, c) and Q max(s, c) < c + 1 / p_j. Where it does, the
formulas leave the delay out.

Not modelled: the copy of the weights that an agent keeps for averaging, noise, the exchange of models (the
virtual clock of a run adds averaging), and in "overlap" also latency. For helpers that serve several slow
agents see groups.py.

Only + - * / and max are used, element by element, so that every machine finds the same table to the bit.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.bounded_queue import helping_bytes, offloading_bytes
from comdml_flwr.planning.types import NO_LINK, Cut, Profile

FloatArray = NDArray[np.float64]

TIME_MODELS = ("overlap", "pipeline")


def pair_finish_s(profiles: Sequence[Profile], cuts: Collection[Cut], time_model: str) -> FloatArray:
    """Predict when each possible pair has finished its training, for each cut.

    Parameters
    ----------
    profiles : Sequence[Profile]
        The agents; positions in the result follow their order. Links to agents that are not among them are
        ignored; where two agents tell different things of their link, the slower value counts.
    cuts : Collection[Cut]
        Cuts 1..M.
    time_model : str
        One of TIME_MODELS; see the module docstring.

    Returns
    -------
    NDArray[float64], shape [K, K, M]
        Entry [i, j, m - 1]: seconds until slow agent i and helper j have both finished at cut m; inf where
        they are not linked, their memory does not suffice or the cut is not possible, and for i = j.

    Raises
    ------
    InputError
        For an unknown time model.
    """
    if time_model not in TIME_MODELS:
        raise InputError("time_model", time_model, f"must be one of {', '.join(TIME_MODELS)}")
    agents = agent_arrays(profiles)
    formula = _overlap_s if time_model == "overlap" else _pipeline_s
    finish_s = np.full((len(profiles), len(profiles), len(cuts)), np.inf)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # 0 bytes/s: overwritten below
        for index, cut in enumerate(cuts):
            finish_s[:, :, index] = formula(agents, cut)
    finish_s[agents.bytes_per_s == 0] = np.inf
    for index, cut in enumerate(cuts):
        if not cut.is_possible:
            finish_s[:, :, index] = np.inf
        finish_s[offloading_bytes(cut) > agents.memory_bytes, :, index] = np.inf
        finish_s[:, cut.whole_bytes + helping_bytes(cut) > agents.memory_bytes, index] = np.inf
    return finish_s


def solo_times_s(profiles: Sequence[Profile], cuts: Iterable[Cut]) -> FloatArray:
    """Tell how long each agent trains alone: T_i, or inf where its memory cannot hold the whole model.

    Parameters
    ----------
    profiles, cuts
        The agents; cuts 1..M.

    Returns
    -------
    NDArray[float64], shape [K]
        Seconds.
    """
    whole_bytes = max((cut.whole_bytes for cut in cuts), default=0.0)
    times_s = [profile.solo_s if whole_bytes <= profile.memory_bytes else np.inf for profile in profiles]
    return np.array(times_s, dtype=np.float64)


def lower_bound_s(profiles: Sequence[Profile], finish_s: FloatArray, cuts: Iterable[Cut] = ()) -> float:
    """Bound the makespan of every plan from below: max over i of min(T_i, min over j, m of tau_ij^m).

    Parameters
    ----------
    profiles : Sequence[Profile]
        The agents, at least one.
    finish_s : NDArray[float64], shape [K, K, M]
        What `pair_finish_s` gives for them.
    cuts : Iterable[Cut]
        Tell what the whole model takes, for agents with a bound on their memory.

    Returns
    -------
    float
        Seconds. Reached by some plan only if every agent can have its favourite helper. It holds for shared
        helpers too: no slow agent ends earlier because its helper has other partners.
    """
    solo_s = solo_times_s(profiles, cuts)
    return float(np.minimum(solo_s, finish_s.min(axis=(1, 2), initial=np.inf)).max())


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentArrays:
    """The profiles as arrays: columns [K, 1] for the slow agent, rows [1, K] for the fast one."""

    num_batches: FloatArray  # [K, 1]
    slow_speed: FloatArray  # [K, 1], batches/s
    fast_speed: FloatArray  # [1, K], batches/s
    fast_solo_s: FloatArray  # [1, K]
    bytes_per_s: FloatArray  # [K, K], 0 on the diagonal
    latency_s: FloatArray  # [K, K]
    memory_bytes: FloatArray  # [K]


def agent_arrays(profiles: Sequence[Profile]) -> AgentArrays:
    """Lay out the profiles as arrays, in their order."""
    ids = [profile.agent for profile in profiles]
    links = [[profile.links.get(agent, NO_LINK) for agent in ids] for profile in profiles]
    bytes_per_s = np.array([[link.bytes_per_s for link in row] for row in links], dtype=np.float64)
    latency_s = np.array([[link.latency_s for link in row] for row in links], dtype=np.float64)
    np.fill_diagonal(bytes_per_s, 0.0)
    speed = np.array([profile.batches_per_s for profile in profiles], dtype=np.float64)
    card = np.array([profile.nic_bytes_per_s for profile in profiles], dtype=np.float64)
    cards = np.minimum(card[:, None], card[None, :])
    return AgentArrays(
        num_batches=np.array([[profile.num_batches] for profile in profiles], dtype=np.float64),
        slow_speed=speed[:, None],
        fast_speed=speed[None, :],
        fast_solo_s=np.array([[profile.solo_s for profile in profiles]], dtype=np.float64),
        bytes_per_s=np.minimum(np.minimum(bytes_per_s, bytes_per_s.T), cards),
        latency_s=np.maximum(latency_s, latency_s.T),
        memory_bytes=np.array([profile.memory_bytes for profile in profiles], dtype=np.float64),
    )


def _overlap_s(agents: AgentArrays, cut: Cut) -> FloatArray:
    slow_s = agents.num_batches * cut.slow_share / agents.slow_speed
    transfer_s = agents.num_batches * cut.bytes_per_batch / agents.bytes_per_s
    fast_s = agents.fast_solo_s + agents.num_batches * cut.fast_share / agents.fast_speed
    return np.maximum(np.maximum(slow_s, transfer_s), fast_s)


def _pipeline_s(agents: AgentArrays, cut: Cut) -> FloatArray:
    slow_s = agents.num_batches * cut.slow_share / agents.slow_speed  # N s
    fast_s = agents.num_batches * cut.fast_share / agents.fast_speed  # N f
    batch_slow_s = cut.slow_share / agents.slow_speed  # s
    batch_transfer_s = cut.bytes_per_batch / agents.bytes_per_s  # c
    batch_fast_s = cut.fast_share / agents.fast_speed  # f
    first = np.minimum(agents.num_batches, 1.0)  # u
    fill_s = first * (batch_slow_s + batch_transfer_s) + agents.latency_s
    feed_s = (agents.num_batches - first) * np.maximum(batch_slow_s, batch_transfer_s)
    helper_s = np.maximum(agents.fast_solo_s + fast_s, fill_s + fast_s)
    return np.maximum(np.maximum(slow_s, helper_s), fill_s + feed_s + first * batch_fast_s)
