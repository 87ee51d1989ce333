"""AllReduce in pieces: who sent what and when changes nothing; an agent that is not all there is left out."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.messages import Envelope
from comdml_flwr.core.sharding import shard_bounds
from comdml_flwr.learning.averaging import weighted_mean
from comdml_flwr.methods.phases.reduction import (
    Contribution,
    adopt,
    assemble_shard,
    gather,
    scatter,
    withdraw,
)
from comdml_flwr.planning.hysteresis import Pairing
from tests.small import small_config, small_fleet, small_setup

LAW = settings(max_examples=200)


def piece(agent, start, stop, *, num_samples=10):
    """Return the numbers of [start, stop) of a vector that is another one for every agent."""
    weights = (1000 * agent + np.arange(start, stop)).astype(np.float32)
    return Contribution(agent=agent, num_samples=num_samples, start=start, weights=weights)


def shown(contributions):
    """Return contributions as plain values, to compare them."""
    return [(c.agent, c.num_samples, c.start, c.weights.tolist()) for c in contributions]


def test_the_part_within_a_shard_by_hand():
    whole = piece(1, 4, 10)
    assert shown([whole.within(6, 8)]) == [(1, 10, 6, [1006, 1007])]
    assert shown([whole.within(0, 6)]) == [(1, 10, 4, [1004, 1005])]
    assert shown([whole.within(8, 99)]) == [(1, 10, 8, [1008, 1009])]
    assert shown([whole.within(0, 99)]) == shown([whole])
    assert [whole.within(*shard) for shard in ((0, 4), (10, 12), (6, 6), (0, 0))] == [None] * 4


@LAW
@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 30), st.integers(0, 30))
def test_the_part_within_a_shard_is_what_both_hold(start, size, low, high):
    part = piece(2, start, start + size).within(low, high)
    both = [number for number in range(start, start + size) if low <= number < high]
    found = [] if part is None else part.weights.tolist()
    assert found == [2000 + number for number in both]
    assert part is None or (part.start, part.agent, part.num_samples) == (both[0], 2, 10)


def test_a_part_is_a_view_and_no_copy():
    whole = piece(1, 0, 10)
    assert np.shares_memory(whole.within(3, 5).weights, whole.weights)


@LAW
@given(st.data())
def test_pieces_from_two_senders_equal_the_whole_in_whatever_order_they_come(data):
    """The slow side comes from the agent, the fast side from its helper; some agents trained it all."""
    num_floats = data.draw(st.integers(1, 30), "floats")
    cuts = data.draw(st.lists(st.integers(0, num_floats), min_size=1, max_size=5), "cuts")
    num_shards = data.draw(st.integers(1, 6), "shards")
    wholes = [piece(agent, 0, num_floats) for agent in range(len(cuts))]
    sent = [
        part
        for agent, cut in enumerate(cuts)
        for part in (piece(agent, 0, cut), piece(agent, cut, num_floats))
        if len(part.weights)
    ]
    for start, stop in shard_bounds(num_floats, num_shards):
        arrived = [part for part in (one.within(start, stop) for one in sent) if part is not None]
        found = assemble_shard(iter(data.draw(st.permutations(arrived), "order")), start, stop)
        expected = [part for part in (one.within(start, stop) for one in wholes) if part is not None]
        assert shown(found) == shown(expected), "one an agent, in ascending id"


@pytest.mark.parametrize(
    "pieces",
    [
        [(4, 6)],
        [(6, 9)],
        [(4, 6), (7, 9)],
        [(4, 8)],
        [(5, 9)],
        [],
        [(4, 6), (4, 6), (6, 7)],
        [(4, 6), (6, 7), (6, 7), (6, 7)],
        [(4, 7), (5, 7)],
        [(4, 9), (4, 9)],
        [(4, 6), (7, 10)],
    ],
    ids=str,
)
def test_an_agent_whose_pieces_do_not_cover_the_shard_is_left_out(pieces):
    """A sum of lengths that happens to be right is not a cover: no number may come twice or be missing."""
    bad = [piece(1, start, stop) for start, stop in pieces]
    good = [piece(0, 4, 9), piece(2, 4, 7), piece(2, 7, 9)]
    assert shown(assemble_shard([*bad, *good], 4, 9)) == shown([piece(0, 4, 9), piece(2, 4, 9)])


@LAW
@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(1, 8)).map(sorted).filter(lambda p: p[0] < p[1]), max_size=4
    )
)
def test_an_agent_is_in_if_and_only_if_every_number_comes_once(bounds):
    numbers = sorted(number for start, stop in bounds for number in range(start, stop))
    found = assemble_shard([piece(3, start, stop) for start, stop in bounds], 0, 8)
    assert shown(found) == (shown([piece(3, 0, 8)]) if numbers == list(range(8)) else [])


def test_nothing_comes_of_nothing():
    assert assemble_shard([], 0, 5) == ()


@pytest.fixture(scope="module")
def setup():
    return small_setup(small_config(), small_fleet(3))


def agents_of(setup, sizes=(10, 10, 10), pairs=()):
    """Return agents in round 1 that have so many samples, and such a plan: rows of slow, helper and cut."""
    setup = replace(setup, num_samples=dict(zip(setup.ids, sizes, strict=True)))
    agents = [Agent(agent, setup) for agent in setup.ids]
    for agent in agents:
        agent.begin_round(1)
        agent.pairing = Pairing(round=1, pairs=pairs)
    return agents


def deliver(outboxes, receiver):
    return tuple(mail for outbox in outboxes for mail in outbox if mail.receiver == receiver)


def vectors(setup):
    draw = np.random.default_rng(1)
    return [draw.standard_normal(len(setup.initial_weights_P)).astype(np.float32) for _ in setup.ids]


def whole(agent, weights, num_samples):
    return Contribution(agent=agent, num_samples=num_samples, start=0, weights=weights)


def test_scatter_gather_adopt_is_the_weighted_mean_and_sends_the_least_bytes(setup):
    trained, sizes = vectors(setup), [5, 1, 9]
    agents = agents_of(setup, sizes)
    scattered = [scatter(a, [whole(a.id, w, n)]) for a, w, n in zip(agents, trained, sizes, strict=True)]
    gathered = [gather(agent, deliver(scattered, agent.id)) for agent in agents]
    for agent in agents:
        assert adopt(agent, deliver(gathered, agent.id)) == ()
    mean = weighted_mean(trained, sizes)
    assert all(agent.weights_P.numpy().tobytes() == mean.tobytes() for agent in agents)
    assert sum(agent.bytes_sent for agent in agents) == 2 * (len(agents) - 1) * mean.nbytes


def test_a_helper_sends_its_partners_part_under_the_partners_id(setup):
    """Agent 2 trained agent 0's fast side: the mean is the same, to the bit."""
    agents, trained = agents_of(setup, [5, 1, 9], pairs=((0, 2, 1),)), vectors(setup)
    cut = len(trained[0]) - setup.fast_floats[1]
    fast = Contribution(agent=0, num_samples=5, start=cut, weights=trained[0][cut:])
    scattered = [
        scatter(agents[2], [whole(2, trained[2], 9), fast]),
        scatter(agents[0], [whole(0, trained[0][:cut], 5)]),
        scatter(agents[1], [whole(1, trained[1], 1)]),
    ]
    gathered = [gather(agent, deliver(scattered, agent.id)) for agent in agents]
    adopt(agents[1], deliver(gathered, 1))
    assert agents[1].weights_P.numpy().tobytes() == weighted_mean(trained, [5, 1, 9]).tobytes()


def test_a_contribution_that_is_withdrawn_is_left_out_even_where_it_is_whole(setup):
    agents, trained = agents_of(setup, pairs=((0, 2, 1),)), vectors(setup)
    mail = [scatter(a, [whole(a.id, w, 10)]) for a, w in zip(agents, trained, strict=True)]
    mail.append(withdraw(agents[2], 0))
    gathered = [gather(agent, deliver(mail, agent.id)) for agent in agents]
    adopt(agents[1], deliver(gathered, 1))
    assert agents[1].weights_P.numpy().tobytes() == weighted_mean(trained[1:], [10, 10]).tobytes()


def test_where_nobody_contributed_a_shard_stays_what_it_was(setup):
    agent = agents_of(setup)[1]
    start, stop = shard_bounds(len(setup.initial_weights_P), len(setup.ids))[1]
    sent = gather(agent, ())
    assert {envelope.receiver for envelope in sent} == set(setup.ids)
    assert all(np.array_equal(e.arrays["weights"], setup.initial_weights_P[start:stop]) for e in sent)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_left_out_of_all_shards(setup, value):
    agents = agents_of(setup)
    trained = [np.full(len(setup.initial_weights_P), agent.id, np.float32) for agent in agents]
    trained[0][-1] = value  # in the last shard only
    sent = [
        envelope
        for agent in agents
        for envelope in scatter(
            agent, [Contribution(agent=agent.id, num_samples=10, start=0, weights=trained[agent.id])]
        )
    ]
    assert agents[0].notes["not_finite"] == [0]
    averages = [gather(agent, deliver([sent], agent.id)) for agent in agents]
    for agent in agents:
        adopt(agent, deliver(averages, agent.id))
    mean = weighted_mean(trained[1:], [10] * (len(agents) - 1))
    assert all(np.array_equal(agent.weights_P.numpy(), mean) for agent in agents)


def averages(setup, starts):
    """Return the shards' averages as mail to agent 0, saying that they begin at `starts`."""
    bounds = shard_bounds(len(setup.initial_weights_P), len(setup.ids))
    return tuple(
        Envelope(
            sender=owner,
            receiver=0,
            round=1,
            kind="average",
            about={"start": begins},
            arrays={"weights": np.full(stop - start, owner, np.float32)},
        )
        for owner, ((start, stop), begins) in enumerate(zip(bounds, starts, strict=True))
    )


def test_shards_are_adopted_in_the_order_of_their_places(setup):
    agent = agents_of(setup)[0]
    bounds = shard_bounds(len(setup.initial_weights_P), 3)
    adopt(agent, averages(setup, [start for start, _ in bounds])[::-1])
    expected = np.repeat(np.float32([0, 1, 2]), [stop - start for start, stop in bounds])
    assert np.array_equal(agent.weights_P.numpy(), expected)


@pytest.mark.parametrize("places", [[1, 2], [1, 1, 2]], ids=["missing", "in the place of another one's"])
def test_a_shard_of_which_no_average_comes_stays_as_it_was_and_its_owner_is_named(setup, places):
    agent = agents_of(setup)[0]
    bounds = shard_bounds(len(setup.initial_weights_P), 3)
    came = averages(setup, [start for start, _ in bounds])
    mail = tuple(came[1:]) if len(places) == 2 else averages(setup, [bounds[place][0] for place in places])
    adopt(agent, mail)
    (_, stop), weights = bounds[0], agent.weights_P.numpy()
    assert np.array_equal(weights[:stop], setup.initial_weights_P[:stop])
    assert np.array_equal(weights[stop:], np.repeat(np.float32([1, 2]), [b - a for a, b in bounds[1:]]))
    assert (agent.notes["distrusted"], agent.notes["lacking"]) == ([0], [0])


def test_nobody_speaks_for_another_agent(setup):
    """It neither gives nor takes back its weights; and it does not boast of its own number of samples."""
    agents, trained = agents_of(setup), vectors(setup)
    mail = [scatter(a, [whole(a.id, w, 10)]) for a, w in zip(agents, trained, strict=True)]
    mail.append(scatter(agents[2], [whole(1, trained[2], 10), whole(7, trained[2], 10)]))
    mail.append(withdraw(agents[2], 0))
    gathered = [gather(agent, deliver(mail, agent.id)) for agent in agents]
    adopt(agents[1], deliver(gathered, 1))
    assert agents[1].weights_P.numpy().tobytes() == weighted_mean(trained, [10] * 3).tobytes()
    assert all(agent.notes["distrusted"] == [2] for agent in agents)
    boasts = [scatter(agents[2], [whole(2, trained[2], 11)])]
    gather(agents[0], deliver(boasts, 0))
    assert agents[0].notes["distrusted"] == [2]
