"""The queue of activations between a slow agent and its helper: what it holds, and what its bound costs.

A helper keeps at most Q = QUEUE_BATCHES batches of a partner beside the one that it trains, and a slow agent
at most Q batches that its helper has not taken yet. Plans count both as memory, and the transport of a run
takes its bound from here. Symbols as in costs.py; g = max(s, c) is the time from one batch to the next.

What the bound costs in time
----------------------------
Let the helper train its partner's batches first, and one of its own n batches (o = 1 / p_j each, T_j = n o)
whenever none is there; a batch under way is not interrupted. Let S_k be when the helper begins batch k, and
B_k when batch k begins to come in. That needs room: batch k - Q must be under training. And the slow side
keeps a batch, and does not begin the next one, until the link takes it:

    B_1 = s + l,    B_k = max(B_{k-1} + g, S_{k-Q}),    A_k = B_k + c <= S_k

1. The end. While it has batches of its own, the helper is never idle. If they outlast its partner's, all ends
   at T_j + N f. Otherwise they run out at T_j + m f, when it has trained m of its partner's batches. After
   that it trains batch k when batch k is there and batch k - 1 is done; unrolled

       end  =  max(T_j + N f,  max over k > m of A_k + (N - k + 1) f)

   If the link never waits for room, A_k is that of costs.py, and the end is at most tau.

2. If f >= g, waits for room change nothing. Let j be the last wait up to batch k, and i = j - Q. Then
   A_k = S_i + (k - j) g + c, and the helper has not trained the batches before k until S_i + (k - i) f, which
   is S_i + (k - j) f + Q f. As f >= g >= c and Q >= 1, batch k is there by then. So in step 1 the term of k
   is at most that of k - 1, or T_j + N f. Hence the largest is one with no wait before it, and end <= tau.

3. If f < g, the link waits (B_j = S_i > B_{j-1} + g, with i = j - Q) only for a batch i that begins as one of
   the helper's own batches ends. Otherwise batch i would begin as it comes, at B_i + c <= B_{j-1} + g, or
   behind its predecessor, at S_{i-1} + f <= B_{j-1} + g: no wait.

   That own batch began when batch i was not there, at some u < A_i = B_i + c. So B_{j-1} >= B_i + (Q - 1) g
   > u - c + (Q - 1) g, and the wait is B_j - (B_{j-1} + g) < (u + o) - (u - c + Q g):

       each own batch makes the link wait once at most, for less than  w  =  max(0, o + c - Q g)

   All waits together delay no A_k by more than n w, so end <= tau + n w.

4. Nor do waits cost more than what is left after the last of them, j. From then on A_k = S_i + c + (k - j) g,
   and A_k + (N - k + 1) f is largest at k = N. As S_i follows an own batch, the helper was never idle before:
   S_i <= T_j + (i - 1) f. And j >= Q + 1, since i >= 1:

       end  <=  T_j + (i - 1) f + c + (N - j) g + f  <=  T_j + N f + (N - Q - 1) (g - f) + c - Q f

Together, for whole N and n:

    end  <=  tau + max(0, min(n w,  (N - Q - 1) (g - f) + c - Q f))     if f < g
    end  <=  tau                                                        if f >= g

The time models leave this delay out. It is 0 for every pair of the plans for our presets: an agent that feeds
its helper often enough for that leaves it upper layers that take longer still (f >= g). A delay takes a
partner with more than Q batches, upper layers that are cheap, and own batches longer than about Q g.

Not modelled: where mail does not go from peer to peer, all batches of a chunk come at once, and an end of the
queue holds as many. The key `num-chunks` of a run's configuration says how many chunks there are.
"""

from comdml_flwr.planning.types import Cut

QUEUE_BATCHES = 2
"""How many batches wait at a helper for each partner, and at a slow agent for its helper.

At the helper one waits and one comes in: with one, the link would stand still while the helper trains. At the
slow agent one is under way and one is ready to follow it.
"""


def queue_bytes(cut: Cut) -> float:
    """Tell what one end of the queue between two agents holds."""
    return QUEUE_BATCHES * cut.bytes_per_batch


def helping_bytes(cut: Cut) -> float:
    """Tell what a helper holds for one partner: the fast side, and the batches that wait for it."""
    return cut.fast_bytes + queue_bytes(cut)


def offloading_bytes(cut: Cut) -> float:
    """Tell what a slow agent holds: the slow side, and the batches that its helper has not taken yet."""
    return cut.slow_bytes + queue_bytes(cut)
