"""One helper per slow agent: the greedy pairing of the paper, and an exact one.

`greedy` follows the pairing of S. M. Sajjadi Mohammadabadi, L. Yang, F. Yan, J. Zhang,
"Communication-Efficient Training Workload Balancing for Decentralized Multi-Agent Learning", IEEE ICDCS 2024,
pp. 680-691, as its authors coded it: slowest agent first, each takes the helper and cut that end first.

`exact` is own work: the pairing is a bottleneck matching, so its smallest makespan is found in polynomial
time. For the symbols see costs.py; W_ij = min over m of tau_ij^m.

    Given tau, call U = {v: T_v > tau} the agents that must not train alone.
    Claim: a plan with makespan <= tau exists if and only if each agent of U can be given a helper of its own
    outside U, i -> j only where W_ij <= tau.
    If: these pairs end by tau, and all others, being outside U, train alone by tau.
    Only if: a helper trains its own model too, so tau >= W_ij >= T_j for each pair of the plan. Hence no
    helper is in U, each agent of U is the slow one of a pair, and the pairs of U are such a choice.

An agent whose memory cannot hold the whole model has T_i = inf here, and a pair that memory forbids has
W_ij = inf: the claim holds as it stands.

The right side is a bipartite matching that saturates U (Hopcroft-Karp). It stays possible when tau grows, and
the optimum is one of finitely many values T_i and W_ij: binary search.

A second phase picks one of the plans that reach the optimum tau. Only U offloads: who is in time alone trains
the whole model. Among these plans no pair ends later, and none sends more, than it has to:

    m_ij     the cut of a pair: the m with the least (tau_ij^m, d_m, m), compared in this order
    mu       the matching with the least (sum of W_ij, sum of N_i d_m, sum of T_j + N_i b_m / p_j, ids),
             in this order: early ends, little traffic, helpers that are free early, lowest ids (read by
             ascending slow agent)

    m_ij does not depend on tau, and the pair ends at W_ij there: the pairs that mu may use, W_ij <= tau, are
    those of the first phase.
    For a given matching no other cuts have a smaller sum of ends, since tau_ij^m >= W_ij term by term; those
    with the same sum have tau_ij^m = W_ij in each term, and among them none has a smaller d_m, term by term.
    So mu with the cuts m_ij is the best of all plans in which U offloads, not only of those with these cuts.

Each sum of mu is one linear assignment. To keep exactly its optimal matchings for the next sum we use
duality: there are prices v with c_ij + v_j >= c_i,mu(i) + v_mu(i) for all i and j, and a matching is optimal
if and only if all its arcs reach equality. Costs are rounded to whole numbers (12 digits), on which floating
point is exact: the plan depends on neither the machine nor the version of scipy.

(Why not the least offloaded work? It keeps more of the training where the data are, but a pair that need not
end before tau then keeps its helper, its link and its slow agent busy for longer, and lower cuts send more.)
"""

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.planning.costs import FloatArray
from comdml_flwr.planning.solvers.problem import Arc, Problem, no_memory

_Mask = NDArray[np.bool_]
_Ints = NDArray[np.intp]


def greedy(problem: Problem) -> list[Arc]:
    """Pair slowest first; an agent that finds no faster way trains alone and stays available as a helper.

    Ties go to cut 0 (no offload), then to the lowest id, then to the lowest cut. An agent that cannot hold
    the whole model counts as slower than all that can.
    """
    solo_s, finish_s = problem.solo_s, problem.finish_s
    best_s = finish_s.min(axis=2)
    taken = np.zeros(len(solo_s), dtype=np.bool_)
    arcs: list[Arc] = []
    for slow in np.argsort(-solo_s, kind="stable").tolist():
        if taken[slow]:
            continue
        fast = int(np.where(taken, np.inf, best_s[slow]).argmin())
        if not taken[fast] and best_s[slow, fast] < solo_s[slow]:
            arcs.append((slow, fast, int(finish_s[slow, fast].argmin())))
            taken[[slow, fast]] = True
    return arcs


def exact(problem: Problem) -> list[Arc]:
    """Find pairs with the smallest makespan, and among these those that end earliest and then send least.

    Raises
    ------
    InputError
        Some agents cannot hold the whole model, and there are not helpers for all of them.
    """
    best_s = problem.finish_s.min(axis=2)
    _check_helpers(problem, best_s)
    makespan_s = _smallest_makespan_s(problem.solo_s, best_s)
    arcs = _earliest(problem, makespan_s)
    assert all(problem.finish_s[arc] <= makespan_s for arc in arcs), "a pair ends after the makespan"
    return arcs


def _check_helpers(problem: Problem, best_s: FloatArray) -> None:
    must = np.isinf(problem.solo_s)
    if must.any():
        column = _match(np.isfinite(best_s[must][:, ~must]))
        if (column < 0).any():
            stuck = np.flatnonzero(must)[column < 0].tolist()
            raise no_memory(problem, stuck, "and there are too few helpers to have one each")


def _smallest_makespan_s(solo_s: FloatArray, best_s: FloatArray) -> float:
    bound_s = np.minimum(solo_s, best_s.min(axis=1)).max()
    values = np.unique(np.concatenate([solo_s, best_s[best_s < solo_s[:, None]]]))
    values = values[(values >= bound_s) & (values < np.inf)]
    low, high = 0, len(values) - 1  # values[high] is always possible
    while low < high:
        middle = (low + high) // 2
        if _can_end_by(values[middle], solo_s, best_s):
            high = middle
        else:
            low = middle + 1
    return float(values[low])


def _can_end_by(makespan_s: float, solo_s: FloatArray, best_s: FloatArray) -> bool:
    late = solo_s > makespan_s
    return bool((_match(best_s[late][:, ~late] <= makespan_s) >= 0).all())


def _match(allowed: _Mask) -> _Ints:
    """Match as many rows as possible; -1 for a row without a column."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    if 0 in allowed.shape:
        return np.full(len(allowed), -1, dtype=np.intp)
    return np.asarray(maximum_bipartite_matching(csr_array(allowed), perm_type="column"), dtype=np.intp)


def _earliest(problem: Problem, makespan_s: float) -> list[Arc]:
    """Choose among the plans that reach the makespan; see the module docstring.

    Rows of the tables are the late agents U, columns the others. Further rows, which cost nothing and stand
    for "helps nobody", fill them up to squares, so that all matchings are perfect.
    """
    agents, cuts = problem.agents, problem.cuts
    late = problem.solo_s > makespan_s
    slow, fast = np.flatnonzero(late), np.flatnonzero(~late)
    finish_s = problem.finish_s[np.ix_(slow, fast)]  # [U, V, M]
    by_size = np.argsort([cut.bytes_per_batch for cut in cuts], kind="stable")
    index = by_size[finish_s[:, :, by_size].argmin(axis=2)]
    end_s = finish_s.min(axis=2)
    allowed = np.ones((len(fast), len(fast)), dtype=np.bool_)
    allowed[: len(slow)] = end_s <= makespan_s

    num_batches = np.array([[agents[row].num_batches] for row in slow.tolist()]).reshape(-1, 1)
    traffic = num_batches * np.array([cut.bytes_per_batch for cut in cuts])[index]
    work = num_batches * np.array([cut.fast_share for cut in cuts])[index]
    speed = np.array([profile.batches_per_s for profile in agents])[fast]
    helper_s = problem.solo_s[fast] + work / speed
    for cost in (end_s, traffic, helper_s):
        allowed = _cheapest(allowed, cost)
    chosen = _lowest_columns(allowed, len(slow))
    return [
        (int(slow[row]), int(fast[chosen[row]]), int(index[row, chosen[row]])) for row in range(len(slow))
    ]


def _cheapest(allowed: _Mask, cost: FloatArray) -> _Mask:
    """Keep the arcs of the cheapest perfect matchings; the perfect matchings of what is left are these."""
    from scipy.optimize import linear_sum_assignment

    table = np.where(allowed, 0.0, np.inf)
    table[: len(cost)] += _whole_numbers(np.where(allowed[: len(cost)], cost, 0.0))
    rows, columns = linear_sum_assignment(table)
    slack = table - table[rows, columns][:, None]
    price = _prices(slack, columns)
    tight: _Mask = slack + price == price[columns][:, None]
    assert not (tight & ~allowed).any(), "a forbidden arc was kept"
    return tight


def _prices(slack: FloatArray, columns: _Ints) -> FloatArray:
    """Solve price[columns[i]] = min over j of slack[i, j] + price[j] by Bellman and Ford's iteration."""
    price = np.zeros(len(columns))
    while True:
        lower = np.empty_like(price)
        lower[columns] = (slack + price).min(axis=1)
        if (lower == price).all():
            return price
        price = lower


def _whole_numbers(cost: FloatArray) -> FloatArray:
    """Round to whole numbers so small that sums over a path through all columns stay below 2^53."""
    exponent = int(np.frexp(cost.max(initial=0.0))[1])
    whole: FloatArray = np.rint(np.ldexp(cost, 50 - cost.shape[1].bit_length() - exponent))
    return whole


def _lowest_columns(allowed: _Mask, num_rows: int) -> _Ints:
    """Find the perfect matching whose first rows have the lexicographically lowest columns."""
    column = _match(allowed)
    assert (column >= 0).all(), "no perfect matching"
    owner = np.argsort(column)
    for row in range(num_rows):
        last = int(column[row])
        if allowed[row].argmax() == last:
            continue
        onward = _ways_to(last, allowed, column, row + 1)
        move, mover = int((allowed[row] & (onward >= 0)).argmax()), row
        while mover >= 0:
            evicted = -1 if move == last else int(owner[move])
            column[mover], owner[move] = move, mover
            move, mover = int(onward[move]), evicted
    return column[:num_rows]


def _ways_to(last: int, allowed: _Mask, column: _Ints, first_row: int) -> _Ints:
    """Tell for each column where its owner can move on to, in a chain that ends in `last`; -1 if nowhere.

    Only owners from first_row on may move.
    """
    onward = np.full(len(column), -1, dtype=np.intp)
    onward[last] = last
    waiting, reached = np.arange(first_row, len(column)), np.array([last])
    while len(waiting) and len(reached):
        ways = allowed[np.ix_(waiting, reached)]
        can_move = ways.any(axis=1)
        onward[column[waiting[can_move]]] = reached[ways[can_move].argmax(axis=1)]
        reached, waiting = column[waiting[can_move]], waiting[~can_move]
    return onward
