"""Which links and which server the profiles of a run have."""

import pytest

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.planning.types import SERVER
from tests.small import fleet_text, run_local, small_config, small_fleet, small_setup

RING = {(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 5)}
ALL = {(one, other) for other in range(6) for one in range(other)}


def profiles(fleet, round_=1, **keys):
    return small_setup(small_config(**keys), fleet).profiles_at(round_)


def edges(found):
    """Return the pairs that have a link, both ends' views agreeing, without the server."""
    pairs = {(agent, peer) for agent, profile in found.items() for peer in profile.links}
    assert pairs == {(other, one) for one, other in pairs}
    return {(one, other) for one, other in pairs if one < other and SERVER not in (one, other)}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ALL),
        ({"topology": "fleet"}, ALL),
        ({"topology": "full"}, ALL),
        ({"topology": "ring"}, RING),
        ({"topology": "star"}, {(0, agent) for agent in range(1, 6)}),
        ({"topology": "torus"}, {(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5), (0, 3), (1, 4), (2, 5)}),
        ({"topology": "watts-strogatz", "topology_degree": 2, "topology_probability": 0}, RING),
        ({"topology": "erdos-renyi", "topology_probability": 1}, ALL),
        ({"topology": "random-regular", "topology_degree": 5}, ALL),
    ],
    ids=lambda value: value.get("topology", "nothing said") if isinstance(value, dict) else "",
)
def test_a_topology_keeps_its_links_and_no_others(keys, expected):
    assert edges(profiles(small_fleet(6), **keys)) == expected


def test_a_kept_link_is_the_fleets():
    text = fleet_text(6) + "[[link]]\nbetween = [1, 2]\nbandwidth_mbps = 8\nlatency_ms = 30\n"
    found = profiles(parse_fleet(text, "test fleet"), topology="ring")
    assert found[1].links[2] == found[2].links[1]
    assert (found[1].links[2].bytes_per_s, found[1].links[2].latency_s) == (1e6, 0.03)
    assert found[1].links[0].bytes_per_s == 12.5e6


def test_a_random_topology_is_drawn_once_from_the_seed():
    keys = {"topology": "random-regular", "topology_degree": 3}
    drawn = {seed: edges(profiles(small_fleet(8), seed=seed, **keys)) for seed in range(1, 5)}
    assert all(len(found) == 12 for found in drawn.values())
    assert len({frozenset(found) for found in drawn.values()}) > 1
    changing = parse_fleet(fleet_text(8) + "[scenario]\nshare = 1\nevery = 1\n", "test fleet")
    assert edges(profiles(changing, round_=9, **keys)) == drawn[1]


def test_a_server_is_linked_with_all_whatever_the_topology():
    found = profiles(small_fleet(6), method="fedavg", topology="ring")
    assert edges(found) == RING
    assert sorted(found[SERVER].links) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"topology": "mesh"}, r"^topology = 'mesh': must be one of ring, .*$"),
        ({"topology": "random-regular", "topology_degree": 6}, r"^degree = 6: must be below .*$"),
        ({"topology": "watts-strogatz", "topology_degree": 3}, r"^degree = 3: must be even.*$"),
        (
            {"topology": "erdos-renyi", "topology_probability": 0},
            r"^topology = 'erdos-renyi': is not .*$",
        ),
        ({"topology": "ring", "topology_probability": 2}, r"^topology-probability = 2: must be .*$"),
    ],
    ids=["unknown", "degree too high", "odd degree", "never connected", "no probability"],
)
def test_an_impossible_topology_is_refused_in_one_line(keys, line):
    with pytest.raises(InputError, match=line):
        profiles(small_fleet(6), **keys)


def test_offload_stays_on_the_links_of_the_topology():
    config = small_config(topology="ring", num_rounds=1, local_epochs=1, batch_size=16)
    pairs = run_local(config, small_fleet(6))[0].rounds[0].plan["pairs"]
    assert pairs
    assert all(tuple(sorted((pair["slow"], pair["fast"]))) in RING for pair in pairs)
