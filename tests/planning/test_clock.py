"""The virtual clock, checked by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comdml_flwr.planning.clock import Clock, deal_out, receivers_in_turn
from comdml_flwr.planning.costs import pair_finish_s
from comdml_flwr.planning.no_offload import no_offload_round_s
from comdml_flwr.planning.types import Cut, Link, Profile

LAW = settings(max_examples=200, deadline=None, derandomize=True)
RELAY = Link(bytes_per_s=10.0, latency_s=0.125)
SLOW, FAST = 0, 1


def clock(agent, batches_per_s=1.0, links=None, relay=RELAY):
    return Clock(agent=agent, batches_per_s=batches_per_s, links=links or {}, relay=relay)


def train_pair(slow, fast, cut, num_batches, own_batches):
    """Let a pair train whole batches, batch by batch as `methods.comdml` does; return when each was trained.

    The slow side trains and sends; the helper does its own batches first, then takes the activations in turn.
    """
    mail = []
    for _ in range(num_batches):
        slow.work(cut.slow_share)
        mail.append(slow.send(fast.agent, cut.bytes_per_batch))
    fast.work(own_batches)
    trained = []
    for arrives_s in mail:
        fast.wait(arrives_s)
        fast.work(cut.fast_share)
        trained.append(fast.now_s)
    return mail, trained


# All three by hand: 3 batches; the slow agent needs 2 s for a whole batch and keeps half of it: s = 1 s.
# The helper needs 1 s for a whole batch. The link carries 1000 bytes/s and adds a latency of 0.25 s.
HAND_LINK = Link(bytes_per_s=1000, latency_s=0.25)


def hand_pair():
    return clock(SLOW, 0.5, {FAST: HAND_LINK}), clock(FAST, 1.0, {SLOW: HAND_LINK})


def test_a_pair_that_is_bound_by_the_transfer_by_hand():
    slow, fast = hand_pair()
    cut = Cut(slow_share=0.5, fast_share=0.5, bytes_per_batch=2000)  # s = 1 s, c = 2 s, f = 0.5 s
    mail, trained = train_pair(slow, fast, cut, num_batches=3, own_batches=4)
    # slow side done   1         2               3
    # link             1 .. 3    3 .. 5          5 .. 7         (behind what is on it already)
    # at the helper    3.25      5.25            7.25           (+ latency)
    assert mail == [1 + 2 + 0.25, 3 + 2 + 0.25, 5 + 2 + 0.25]
    # helper           own 0..4  waits to 5.25   waits to 7.25
    # trained          4.5       5.75            7.75
    assert trained == [4 + 0.5, 5.25 + 0.5, 7.25 + 0.5]
    assert slow.now_s == 3, "the slow agent does not wait for the link"
    assert slow.uplink_free_s == 7, "latency does not keep the link busy"


def test_a_pair_that_is_bound_by_the_helpers_own_work_by_hand():
    slow, fast = hand_pair()
    cut = Cut(slow_share=0.5, fast_share=0.5, bytes_per_batch=2000)
    mail, trained = train_pair(slow, fast, cut, num_batches=3, own_batches=10)
    assert mail == [3.25, 5.25, 7.25], "the helper's work holds up nothing before it"
    # own batches until 10, when all three are there: 3 * 0.5 s without a pause
    assert trained == [10.5, 11.0, 11.5]


def test_a_pair_that_is_bound_by_the_fast_side_by_hand():
    slow, fast = hand_pair()
    cut = Cut(slow_share=0.5, fast_share=3.0, bytes_per_batch=500)  # s = 1 s, c = 0.5 s, f = 3 s
    mail, trained = train_pair(slow, fast, cut, num_batches=3, own_batches=1)
    # slow side done   1         2         3
    # link             1..1.5    2..2.5    3..3.5               (idle in between)
    assert mail == [1.75, 2.75, 3.75]
    # helper           own 0..1, waits to 1.75, then never again
    assert trained == [1.75 + 3, 1.75 + 6, 1.75 + 9]


def test_a_pair_that_is_bound_by_the_slow_side_by_hand():
    slow, fast = hand_pair()
    cut = Cut(slow_share=2.0, fast_share=0.5, bytes_per_batch=1000)  # s = 4 s, c = 1 s, f = 0.5 s
    mail, trained = train_pair(slow, fast, cut, num_batches=3, own_batches=0)
    assert mail == [4 + 1 + 0.25, 8 + 1 + 0.25, 12 + 1 + 0.25]
    assert trained == [5.75, 9.75, 13.75]


SECONDS = st.floats(0.01, 10)


@LAW
@given(
    num_batches=st.integers(1, 30),
    own_batches=st.floats(0.01, 40),
    speeds=st.tuples(st.floats(0.05, 20), st.floats(0.05, 20)),
    shares=st.tuples(st.floats(0, 2), st.floats(0, 2)),
    transfer=st.tuples(st.floats(0, 1e5), st.floats(1, 1e5), st.floats(0, 5)),
)
def test_the_clock_of_a_pair_ends_when_the_planner_says(num_batches, own_batches, speeds, shares, transfer):
    num_bytes, bytes_per_s, latency_s = transfer
    link = Link(bytes_per_s=bytes_per_s, latency_s=latency_s)
    cut = Cut(slow_share=shares[0], fast_share=shares[1], bytes_per_batch=num_bytes)
    profiles = [
        Profile(agent=SLOW, batches_per_s=speeds[0], num_batches=num_batches, links={FAST: link}),
        Profile(agent=FAST, batches_per_s=speeds[1], num_batches=own_batches, links={SLOW: link}),
    ]
    predicted_s = pair_finish_s(profiles, (cut,), "pipeline")[SLOW, FAST, 0]
    slow, fast = (clock(profile.agent, profile.batches_per_s, profile.links) for profile in profiles)
    train_pair(slow, fast, cut, num_batches, own_batches)
    assert max(slow.now_s, fast.now_s) == pytest.approx(predicted_s, rel=1e-9)


def test_work_takes_the_time_of_its_share_of_a_batch():
    agent = clock(0, batches_per_s=4)
    agent.work(10)
    agent.work(0.5)
    assert agent.now_s == 2.5 + 0.125


def test_waiting_never_turns_the_clock_back():
    agent = clock(0)
    agent.wait(3)
    agent.wait(2)
    assert agent.now_s == 3


def test_the_uplink_is_serial_whoever_the_mail_is_for():
    agent = clock(
        0, links={1: Link(bytes_per_s=100), 2: Link(bytes_per_s=50, latency_s=7), 3: Link(bytes_per_s=100)}
    )
    assert agent.send(1, 200) == 2
    assert agent.send(2, 200) == 2 + 4 + 7
    assert agent.send(3, 100) == 6 + 1, "behind the bytes to 2, but not behind their latency"
    assert agent.now_s == 0, "sending takes the agent no time"
    agent.wait(20)
    assert agent.send(1, 100) == 21, "a free uplink starts at once"


def test_empty_mail_takes_its_latency_and_waits_for_its_turn():
    agent = clock(0, links={1: Link(bytes_per_s=100, latency_s=0.5)})
    assert agent.send(1, 0) == 0.5
    agent.send(1, 100)
    assert agent.send(1, 0) == 1.5


def test_mail_to_itself_is_free_and_does_not_wait_for_the_uplink():
    agent = clock(0, links={1: Link(bytes_per_s=1)})
    agent.send(1, 1000)
    agent.wait(3)
    assert agent.send(0, 10**9) == 3
    assert agent.uplink_free_s == 1000


@pytest.mark.parametrize("links", [{}, {1: Link(bytes_per_s=0.0, latency_s=99)}], ids=["absent", "0 bytes/s"])
def test_the_relay_stands_in_for_a_link_that_is_missing(links):
    agent = clock(0, links={2: Link(bytes_per_s=100), **links}, relay=Link(bytes_per_s=10, latency_s=0.125))
    assert agent.send(1, 20) == 2 + 0.125
    assert agent.send(2, 100) == 2 + 1, "a link that is there is used, behind the relay's bytes"


def test_receivers_in_turn_begin_after_the_sender_and_end_with_it():
    assert receivers_in_turn(5, (3, 5, 9)) == (9, 3, 5)
    assert receivers_in_turn(9, (3, 5, 9)) == (3, 5, 9)
    assert receivers_in_turn(7, (7,)) == (7,)


@LAW
@given(st.lists(st.integers(0, 50), min_size=1, max_size=9, unique=True).map(sorted))
def test_no_two_agents_send_to_the_same_receiver_at_the_same_turn(agents):
    turns = [receivers_in_turn(agent, agents) for agent in agents]
    assert all(sorted(turn) == agents for turn in turns)
    assert all(len(set(receivers)) == len(agents) for receivers in zip(*turns, strict=True))


def test_newcomers_are_dealt_out_in_turn():
    assert deal_out((2, 5), (1, 3, 4)) == {2: (1, 4), 5: (3,)}
    assert deal_out((2, 5), ()) == {2: (), 5: ()}


@LAW
@given(st.integers(1, 6), st.integers(0, 12))
def test_every_newcomer_has_one_holder_and_no_holder_has_two_more_than_another(num_holders, num_newcomers):
    holders, newcomers = range(100, 100 + num_holders), range(num_newcomers)
    dealt = deal_out(holders, newcomers)
    assert list(dealt) == list(holders)
    assert sorted(peer for peers in dealt.values() for peer in peers) == list(newcomers)
    loads = [len(peers) for peers in dealt.values()]
    assert max(loads) - min(loads) <= 1


# Two agents: 0 trains for 10 s, 1 for 4 s. Agent 0 averages a shard of 200 bytes, agent 1 one of 100 bytes.
SHARDS = (200, 100)


def two_agents(bytes_per_s=100.0, latency_s=0.5):
    link = Link(bytes_per_s=bytes_per_s, latency_s=latency_s)
    return [
        Profile(agent=0, batches_per_s=2, num_batches=20, links={1: link}),
        Profile(agent=1, batches_per_s=1, num_batches=4, links={0: link}),
    ]


def test_a_round_without_offload_of_two_agents_by_hand():
    # introduce  0 bytes: both hear of each other at                       0.5
    # train      agent 0 until 10.5, agent 1 until                         4.5
    # scatter    0 -> 1: 100 bytes, on the link 10.5 .. 11.5, there at     12
    #            1 -> 0: 200 bytes, on the link  4.5 ..  6.5, there at     7
    #            agent 0 can average at 10.5, agent 1 at 12
    # gather     0 -> 1: 200 bytes, uplink free at 11.5: .. 13.5, there at 14
    #            1 -> 0: 100 bytes, from 12 on: .. 13, there at            13.5
    assert no_offload_round_s(two_agents(), SHARDS, RELAY) == 14


def test_the_same_round_over_the_relay_by_hand():
    # The relay carries 10 bytes/s and adds 0.125 s; no link carries the introduction either.
    # train      until 10.125 and 4.125
    # scatter    0 -> 1: 10.125 .. 20.125, there at 20.25;  1 -> 0: 4.125 .. 24.125, there at 24.25
    # gather     0 -> 1: 24.25 .. 44.25, there at 44.375;   1 -> 0: from 24.125 (its uplink) .. 34.125
    assert no_offload_round_s(two_agents(bytes_per_s=0.0, latency_s=99), SHARDS, RELAY) == 44.375


def test_a_newcomer_gets_the_model_at_the_end_of_the_round_by_hand():
    # as above: agent 0 has all shards at 13.5, its uplink is free at 13.5; the newcomer has no link with it
    # hand over  0 -> 7: 300 bytes over the relay 13.5 .. 43.5, there at   43.625
    assert no_offload_round_s(two_agents(), SHARDS, RELAY, newcomers=[7]) == 43.625
    # with two newcomers agent 1 hands over to the second: from 14 on, .. 44, there at 44.125
    assert no_offload_round_s(two_agents(), SHARDS, RELAY, newcomers=[7, 8]) == 44.125


def test_an_agent_alone_only_trains():
    profile = Profile(agent=3, batches_per_s=2, num_batches=5)
    assert no_offload_round_s([profile], [1e9], RELAY) == 2.5
