"""What was measured stands for what the fleet file tells, and for nothing else."""

import json
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comdml_flwr.planning.measured import Measured, SpeedEstimate
from comdml_flwr.planning.types import Link, Profile

TOLD = Profile(
    agent=3,
    batches_per_s=5,
    num_batches=12.5,
    links={1: Link(bytes_per_s=1e6), 2: Link(bytes_per_s=2e6)},
    memory_bytes=1e9,
    nic_bytes_per_s=1e6,
)
SPEED = SpeedEstimate(batch_s=0.5)
positive = st.floats(1e-6, 1e12)


def test_speed_and_links_are_the_measured_ones_and_the_work_is_the_datas():
    link = Link(bytes_per_s=7, latency_s=0.1)
    profile = Measured(speed=SPEED, links={2: link}).instead_of(TOLD)
    assert (profile.batches_per_s, profile.num_batches, profile.agent) == (2, 12.5, 3)
    assert profile.links == {1: TOLD.links[1], 2: link}
    assert profile.nic_bytes_per_s == inf


def test_no_link_appears_that_the_topology_does_not_have():
    assert 9 not in Measured(speed=SPEED, links={9: Link(bytes_per_s=7)}).instead_of(TOLD).links


@pytest.mark.parametrize(("free", "bound"), [(inf, 1e9), (2e9, 1e9), (5e8, 5e8)])
def test_the_smaller_bound_on_memory_holds(free, bound):
    assert Measured(speed=SPEED, memory_bytes=free).instead_of(TOLD).memory_bytes == bound
    assert (
        Measured(speed=SPEED, memory_bytes=free).instead_of(replace(TOLD, memory_bytes=inf)).memory_bytes
        == free
    )


def test_an_observation_moves_the_speed_half_way_and_leaves_the_rest():
    before = Measured(speed=SPEED, memory_bytes=7, links={1: Link(bytes_per_s=1)})
    after = before.observe(15.0, num_batches=10)  # 1.5 s a batch
    assert after.speed.batch_s == 1.0
    assert replace(after, speed=SPEED) == before


@given(
    batch_s=positive,
    memory_bytes=positive | st.just(inf),
    links=st.dictionaries(st.integers(0, 99), st.builds(Link, bytes_per_s=positive, latency_s=positive)),
)
def test_it_comes_back_from_json_as_it_was(batch_s, memory_bytes, links):
    one = Measured(speed=SpeedEstimate(batch_s=batch_s), memory_bytes=memory_bytes, links=links)
    assert Measured.from_json(json.loads(json.dumps(one.to_json(), allow_nan=False))) == one


@pytest.mark.parametrize(
    "table",
    [
        None,
        [],
        {},
        {"batch_s": 1, "links": {}},
        {"batch_s": "x", "links": []},
        {"batch_s": 1, "links": [[1, 2]]},
    ],
)
def test_anything_else_is_no_measurement(table):
    with pytest.raises(TypeError):
        Measured.from_json(table)


def test_a_link_that_carried_slower_moves_half_way_in_its_time_per_byte():
    before = Measured(speed=SPEED, links={1: Link(bytes_per_s=1000, latency_s=0.1), 2: Link(bytes_per_s=7)})
    after = before.observe_link(1, num_bytes=900, busy_s=2.7)  # 3 ms a byte, where it was 1 ms
    assert after.links[1].bytes_per_s == pytest.approx(500)
    assert after.links[1].latency_s == 0.1
    assert replace(after, links=before.links) == before
    assert after.links[2] == before.links[2]


@pytest.mark.parametrize(("peer", "busy_s"), [(3, 1.0), (1, 0.0)])
def test_what_tells_nothing_of_a_known_link_changes_nothing(peer, busy_s):
    before = Measured(speed=SPEED, links={1: Link(bytes_per_s=1000)})
    assert before.observe_link(peer, 10, busy_s) == before
