"""Topologies and mixing matrices: their laws, known graphs by hand, and one line for what cannot be."""

import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.fleet.topology import (
    TOPOLOGIES,
    build_topology,
    mixing_matrix,
    spectral_gap,
    topology_of_links,
)
from comdml_flwr.planning.types import Link, Profile

IDS = st.lists(st.integers(0, 10**6), min_size=6, max_size=30, unique=True).filter(
    lambda ids: len(ids) % 2 == 0
)


@given(ids=IDS, name=st.sampled_from(sorted(TOPOLOGIES)), seed=st.integers(0, 2**64))
def test_mixing_is_symmetric_and_doubly_stochastic_and_spreads_only_along_links(ids, name, seed):
    graph = build_topology(name, ids, probability=0.6, seed=seed)
    weights = mixing_matrix(graph)
    assert list(graph) == sorted(ids)
    assert np.array_equal(weights, weights.T)
    assert np.allclose(weights.sum(axis=0), 1, atol=1e-12)
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-12)
    assert (np.diag(weights) > 0).all()
    linked = nx.to_numpy_array(graph, nodelist=sorted(ids)) > 0
    assert np.array_equal(weights > 0, linked | np.eye(len(ids), dtype=bool))
    assert 0 < spectral_gap(weights) <= 1


@given(ids=IDS, name=st.sampled_from(sorted(TOPOLOGIES)), seed=st.integers(0, 2**64), order=st.randoms())
def test_same_seed_same_graph_whatever_the_order_of_the_agents(ids, name, seed, order):
    shuffled = order.sample(ids, len(ids))
    one, other = (build_topology(name, agents, probability=0.5, seed=seed) for agents in (ids, shuffled))
    assert list(one.edges) == list(other.edges)


@given(ids=IDS, name=st.sampled_from(sorted(TOPOLOGIES)), seed=st.integers(0, 100))
def test_relabelling_the_agents_relabels_the_graph(ids, name, seed):
    places = build_topology(name, range(len(ids)), probability=0.5, seed=seed)
    named = build_topology(name, ids, probability=0.5, seed=seed)
    ids = sorted(ids)
    assert list(named.edges) == [(ids[i], ids[j]) for i, j in places.edges]


def test_another_seed_another_graph():
    for name in ("erdos-renyi", "random-regular", "watts-strogatz"):
        graphs = [build_topology(name, range(20), probability=0.5, seed=seed) for seed in (1, 2)]
        assert set(graphs[0].edges) != set(graphs[1].edges)


@pytest.mark.parametrize(
    ("name", "num_agents", "gap"),
    [
        ("full", 7, 1.0),
        ("ring", 4, 2 / 3),  # eigenvalues 1/3 + 2/3 cos(2 pi k / 4): 1, 1/3, -1/3, 1/3
        ("ring", 12, 2 / 3 - 2 / 3 * math.cos(2 * math.pi / 12)),
        ("star", 5, 1 / 5),  # leaves that differ keep 1 - 1/5 of their difference
        ("torus", 9, 1 - 2 / 5),  # 1/5 + 2/5 cos + 2/5 cos with cos(120 degrees) = -1/2: 1/5 + 2/5 - 1/5
        ("exponential", 8, 2 / 3),  # (1 + 2 cos(k pi/4) + 2 cos(k pi/2) + cos(k pi)) / 6 at k = 4: 1/3
        ("ring", 2, 1.0),
        ("ring", 1, 1.0),
    ],
)
def test_gaps_of_known_graphs(name, num_agents, gap):
    assert spectral_gap(mixing_matrix(build_topology(name, range(num_agents)))) == pytest.approx(gap)


def test_two_parts_never_agree():
    graph = build_topology("erdos-renyi", range(8), probability=0, may_be_disconnected=True)
    assert spectral_gap(mixing_matrix(graph)) == 0


@pytest.mark.parametrize(
    ("name", "num_agents", "degrees"),
    [
        ("ring", 5, {2}),
        ("torus", 12, {4}),
        ("torus", 10, {3}),
        ("star", 5, {1, 4}),
        ("full", 6, {5}),
        ("random-regular", 10, {4}),
        ("exponential", 16, {7}),
        ("exponential", 7, {6}),
    ],
)
def test_degrees_of_known_graphs(name, num_agents, degrees):
    assert {degree for _, degree in build_topology(name, range(num_agents)).degree} == degrees


def test_the_papers_sparse_graph_has_a_fifth_of_the_links():
    links = build_topology("erdos-renyi", range(100), seed=1).number_of_edges()
    assert links == pytest.approx(0.2 * 100 * 99 / 2, rel=0.1)


def profiles(*links):
    speed = {frozenset((i, j)): Link(bytes_per_s=bytes_per_s) for i, j, bytes_per_s in links}
    ids = sorted({agent for pair in speed for agent in pair})
    return [
        Profile(
            agent=agent,
            batches_per_s=1,
            num_batches=1,
            links={next(iter(pair - {agent})): link for pair, link in speed.items() if agent in pair},
        )
        for agent in ids
    ]


def test_a_fleets_links_are_a_topology():
    graph = topology_of_links(profiles((0, 5, 10), (5, 9, 1), (0, 9, 0)))
    assert sorted(graph.edges) == [(0, 5), (5, 9)]


def test_a_link_that_only_one_end_knows_is_none():
    one = Profile(agent=0, batches_per_s=1, num_batches=1, links={1: Link(bytes_per_s=1)})
    other = Profile(agent=1, batches_per_s=1, num_batches=1)
    assert topology_of_links([one, other], may_be_disconnected=True).number_of_edges() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build_topology("rng", range(4)), "topology = 'rng': must be one of ring, torus, star"),
        (lambda: build_topology("ring", []), "agents = []: must hold at least one agent"),
        (lambda: build_topology("ring", [1, 1]), "agents = [1, 1]: must be different"),
        (lambda: build_topology("torus", range(7)), "agents = '7 agents': must make two rows"),
        (lambda: build_topology("random-regular", range(5), degree=3), "degree = 3: must be below"),
        (lambda: build_topology("random-regular", range(4), degree=4), "degree = 4: must be below"),
        (lambda: build_topology("watts-strogatz", range(9), degree=3), "degree = 3: must be even"),
        (lambda: build_topology("watts-strogatz", range(4), degree=4), "degree = 4: must be even"),
        (lambda: build_topology("erdos-renyi", range(4), probability=1.1), "probability = 1.1: must be in"),
        (
            lambda: build_topology("erdos-renyi", range(4), probability=math.nan),
            "probability = nan: must be in [0, 1]",
        ),
        (
            lambda: build_topology("erdos-renyi", range(9), probability=0.01),
            "topology = 'erdos-renyi': is not connected in 100 draws",
        ),
        (
            lambda: topology_of_links(profiles((0, 5, 10), (7, 9, 1))),
            "links = '2 links': do not connect all agents: no way from agent 0 to agent 7",
        ),
    ],
)
def test_what_cannot_be_is_one_line(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
