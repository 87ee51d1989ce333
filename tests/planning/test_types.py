"""A profile is one value, whoever writes it down: for its peers, for the digest of a plan, for a file."""

import json
from dataclasses import fields, replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.hysteresis import plan_digest
from comdml_flwr.planning.pairing import pair_agents
from comdml_flwr.planning.types import Cut, Link, Pair, Profile

ONE = Profile(agent=0, batches_per_s=2, num_batches=6, links={1: Link(bytes_per_s=1e6)}, memory_bytes=5e9)
OTHER = {  # another value of each field
    "agent": 3,
    "batches_per_s": 2.5,
    "num_batches": 6.5,
    "links": {1: Link(bytes_per_s=1e6, latency_s=0.1)},
    "memory_bytes": inf,
    "nic_bytes_per_s": 1e7,
}
positive = st.floats(1e-3, 1e12)
links = st.dictionaries(
    st.integers(0, 99), st.builds(Link, bytes_per_s=st.just(0.0) | positive, latency_s=positive), max_size=4
)
profiles = st.builds(
    Profile,
    agent=st.integers(0, 99),
    batches_per_s=positive,
    num_batches=positive,
    links=links,
    memory_bytes=positive | st.just(inf),
    nic_bytes_per_s=positive | st.just(inf),
)


@given(profiles)
def test_a_profile_comes_back_from_json_as_it_was(profile):
    assert Profile.from_json(json.loads(json.dumps(profile.to_json(), allow_nan=False))) == profile


@pytest.mark.parametrize("name", [field.name for field in fields(Profile)])
def test_every_field_of_a_profile_is_written_and_is_in_the_digest(name):
    other = replace(ONE, **{name: OTHER[name]})
    assert Profile.from_json(other.to_json()) == other != ONE
    plan = pair_agents(
        [replace(ONE, memory_bytes=inf)], (Cut(slow_share=0.5, fast_share=0.5, bytes_per_batch=1),)
    )
    assert plan_digest((other,), plan) != plan_digest((ONE,), plan)


@given(profiles)
def test_the_order_in_which_links_are_known_changes_nothing_that_is_written(profile):
    turned = replace(profile, links=dict(reversed(profile.links.items())))
    assert json.dumps(turned.to_json()) == json.dumps(profile.to_json())


WRITTEN = ONE.to_json()


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {},
        {name: value for name, value in WRITTEN.items() if name != "links"},
        {**WRITTEN, "gpu": 1},
        {**WRITTEN, "agent": "0"},
        {**WRITTEN, "links": [[1, 2]]},
        {**WRITTEN, "links": {"1": 5}},
        {**WRITTEN, "memory_bytes": "5 GB"},
        {**WRITTEN, "num_batches": True},
    ],
)
def test_anything_else_is_no_profile(told):
    with pytest.raises(TypeError) as caught:
        Profile.from_json(told)
    assert "\n" not in str(caught.value)


def test_a_value_that_no_profile_may_have_is_refused_where_it_is_read():
    with pytest.raises(InputError, match=r"profile\.batches_per_s"):
        Profile.from_json({**WRITTEN, "batches_per_s": None})


def test_a_pair_comes_back_from_json_as_it_was():
    pair = Pair(slow=1, fast=0, cut=3, finish_s=2.5, traffic_bytes=7.0)
    assert Pair.from_json(json.loads(json.dumps(pair.to_json()))) == pair
