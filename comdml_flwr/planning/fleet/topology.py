"""Who is linked with whom, and how agents mix their models where they do not average over all of them.

A topology is an undirected graph whose nodes are agent ids. A mixing matrix W says how an agent averages with
its neighbours: x_i <- sum over j of W[i, j] x_j. The weights are those of Metropolis and Hastings,

    W[i, j] = 1 / (1 + max(degree i, degree j))   for neighbours i, j
    W[i, i] = 1 - the sum of the others

(L. Xiao, S. Boyd, S.-J. Kim, "Distributed average consensus with least-mean-square deviation", Journal of
Parallel and Distributed Computing 67(1), 2007, pp. 33-46): symmetric and doubly stochastic, so the mean over
all agents stays what it was, and each agent can compute its row from its neighbours' degrees. Repeated mixing
brings all agents to that mean; per step the distance shrinks at least by the factor 1 - gap, where the
spectral gap is 1 minus the second largest of the absolute eigenvalues (1: one step is the mean; 0: never,
the graph is not connected).
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.types import Profile

MAX_DRAWS = 100
"""How often a random graph is drawn before it is said that it does not connect."""

_Builder = Callable[[int, int, float, random.Random], "nx.Graph[int]"]


def build_topology(
    name: str,
    agents: Sequence[int],
    *,
    degree: int = 4,
    probability: float = 0.2,
    seed: int = 0,
    may_be_disconnected: bool = False,
) -> "nx.Graph[int]":
    """Link agents with each other.

    Parameters
    ----------
    name : str
        One of `TOPOLOGIES`: "ring", "torus" (as square as their number allows), "star" (around the lowest
        id), "full", "exponential" (agents 1, 2, 4, 8, ... places away), and three random ones:
        "random-regular" (all have `degree` neighbours), "erdos-renyi" (each link exists with `probability`;
        the ComDML paper's sparse experiment has 20 %), "watts-strogatz" (a ring with the nearest `degree`
        neighbours, each link rewired with `probability`).
    agents : Sequence[int]
        Ids in any order; places in the graph follow the ascending ids.
    degree, probability
        Of the random ones; the others ignore them.
    seed : int
        Same seed, same graph.
    may_be_disconnected : bool
        Take the first draw as it comes. Otherwise a random graph is drawn up to `MAX_DRAWS` times until it is
        connected.

    Returns
    -------
    nx.Graph
        Its nodes are the ids, in ascending order.

    Raises
    ------
    InputError
        For an unknown name, ids that repeat, parameters that no graph has, or a graph that is not connected.

    Examples
    --------
    >>> sorted(build_topology("ring", [7, 3, 5, 1]).edges)
    [(1, 3), (1, 7), (3, 5), (5, 7)]
    """
    if name not in TOPOLOGIES:
        raise InputError("topology", name, f"must be one of {', '.join(TOPOLOGIES)}")
    ids = _ascending(agents)
    if not 0 <= probability <= 1:
        raise InputError("probability", probability, "must be in [0, 1]")
    dice = random.Random(seed)
    for _ in range(1 if may_be_disconnected else MAX_DRAWS):
        graph = _relabelled(TOPOLOGIES[name](len(ids), degree, probability, dice), ids)
        if may_be_disconnected or nx.is_connected(graph):
            return graph
    raise InputError("topology", name, f"is not connected in {MAX_DRAWS} draws: raise degree or probability")


def topology_of_links(profiles: Sequence[Profile], *, may_be_disconnected: bool = False) -> "nx.Graph[int]":
    """Return the graph of a fleet's links: an edge where both ends know a link of more than 0 bytes/s.

    Raises
    ------
    InputError
        For ids that repeat, or if the links do not connect all agents and that was not asked for.
    """
    by_id = {profile.agent: profile for profile in profiles}
    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from(_ascending([profile.agent for profile in profiles]))
    for agent in graph:
        peers = sorted(peer for peer in by_id[agent].links if peer > agent and peer in by_id)
        graph.add_edges_from((agent, peer) for peer in peers if _are_linked(by_id[agent], by_id[peer]))
    if not may_be_disconnected and not nx.is_connected(graph):
        alone = min(min(part) for part in list(nx.connected_components(graph))[1:])
        rule = f"do not connect all agents: no way from agent {min(graph)} to agent {alone}"
        raise InputError("links", f"{graph.number_of_edges()} links", rule)
    return graph


def mixing_matrix(graph: "nx.Graph[int]") -> NDArray[np.float64]:
    """Return the Metropolis-Hastings weights of a graph.

    Parameters
    ----------
    graph : nx.Graph
        Its nodes are agent ids.

    Returns
    -------
    NDArray[float64], shape [K, K]
        W[i, j]: weight that agent i gives to agent j, positions in ascending id; symmetric, rows and columns
        sum to 1. Neighbours are the nonzero entries outside the diagonal, which is positive.

    Examples
    --------
    >>> mixing_matrix(build_topology("star", [0, 1, 2])).round(3).tolist()
    [[0.333, 0.333, 0.333], [0.333, 0.667, 0.0], [0.333, 0.0, 0.667]]
    """
    place = {agent: index for index, agent in enumerate(sorted(graph))}
    weights = np.zeros((len(place), len(place)))
    for one, other in graph.edges:
        if one != other:
            weight = 1 / (1 + max(graph.degree(one), graph.degree(other)))
            weights[place[one], place[other]] = weights[place[other], place[one]] = weight
    np.fill_diagonal(weights, 1 - weights.sum(axis=1))
    return weights


def spectral_gap(weights: NDArray[np.float64]) -> float:
    """Return 1 minus the second largest absolute eigenvalue of a symmetric mixing matrix, in [0, 1].

    Examples
    --------
    >>> round(spectral_gap(mixing_matrix(build_topology("full", range(5)))), 12)
    1.0
    """
    eigenvalues = np.sort(np.abs(np.linalg.eigvalsh(weights)))
    second = float(eigenvalues[-2]) if len(eigenvalues) > 1 else 0.0
    return min(1.0, max(0.0, 1 - second))


def _ascending(agents: Sequence[int]) -> list[int]:
    ids = sorted(agents)
    if not ids:
        raise InputError("agents", list(agents), "must hold at least one agent")
    if len(set(ids)) < len(ids):
        raise InputError("agents", ids, "must be different")
    return ids


def _relabelled(graph: "nx.Graph[int]", ids: Sequence[int]) -> "nx.Graph[int]":
    relabelled: nx.Graph[int] = nx.Graph()
    relabelled.add_nodes_from(ids)
    edges = sorted((min(edge), max(edge)) for edge in graph.edges if edge[0] != edge[1])
    relabelled.add_edges_from((ids[one], ids[other]) for one, other in edges)
    return relabelled


def _are_linked(one: Profile, other: Profile) -> bool:
    there, back = one.links[other.agent], other.links.get(one.agent)
    return there.bytes_per_s > 0 and back is not None and back.bytes_per_s > 0


def _torus(num_agents: int, degree: int, probability: float, dice: random.Random) -> "nx.Graph[int]":
    rows = max(rows for rows in range(1, math.isqrt(num_agents) + 1) if num_agents % rows == 0)
    if rows == 1:
        raise InputError("agents", f"{num_agents} agents", "must make two rows of two or more on a torus")
    grid = nx.grid_2d_graph(rows, num_agents // rows, periodic=True)
    return nx.convert_node_labels_to_integers(grid, ordering="sorted")


def _random_regular(num_agents: int, degree: int, probability: float, dice: random.Random) -> "nx.Graph[int]":
    if not 0 <= degree < num_agents or degree * num_agents % 2:
        rule = f"must be below the number of agents ({num_agents}), and one of the two must be even"
        raise InputError("degree", degree, rule)
    graph: nx.Graph[int] = nx.random_regular_graph(degree, num_agents, dice)
    return graph


def _watts_strogatz(num_agents: int, degree: int, probability: float, dice: random.Random) -> "nx.Graph[int]":
    if not 2 <= degree < num_agents or degree % 2:
        rule = f"must be even, at least 2, and below the number of agents ({num_agents})"
        raise InputError("degree", degree, rule)
    graph: nx.Graph[int] = nx.watts_strogatz_graph(num_agents, degree, probability, dice)
    return graph


def _exponential(num_agents: int, degree: int, probability: float, dice: random.Random) -> "nx.Graph[int]":
    return nx.circulant_graph(num_agents, [2**power for power in range((num_agents - 1).bit_length())])


TOPOLOGIES: Mapping[str, _Builder] = {
    "ring": lambda num_agents, degree, probability, dice: nx.cycle_graph(num_agents),
    "torus": _torus,
    "star": lambda num_agents, degree, probability, dice: nx.star_graph(num_agents - 1),
    "full": lambda num_agents, degree, probability, dice: nx.complete_graph(num_agents),
    "exponential": _exponential,
    "random-regular": _random_regular,
    "erdos-renyi": lambda num_agents, degree, probability, dice: nx.gnp_random_graph(
        num_agents, probability, dice
    ),
    "watts-strogatz": _watts_strogatz,
}
