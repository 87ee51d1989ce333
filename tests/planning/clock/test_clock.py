"""The virtual clock, checked by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comdml_flwr.core.by_cut import ByCut
from comdml_flwr.core.sharding import assign_round_robin, staggered_receivers
from comdml_flwr.planning.clock.clock import Clock, ServerClock, Span, new_clock
from comdml_flwr.planning.clock.mixing_simulation import simulate_mixing_round
from comdml_flwr.planning.clock.simulation import FleetClocks, Workload, simulate_round
from comdml_flwr.planning.costs import pair_finish_s
from comdml_flwr.planning.types import SERVER, Cut, Link, Profile

LAW = settings(max_examples=200)
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
    assert staggered_receivers(5, (3, 5, 9)) == (9, 3, 5)
    assert staggered_receivers(9, (3, 5, 9)) == (3, 5, 9)
    assert staggered_receivers(7, (7,)) == (7,)


@LAW
@given(st.lists(st.integers(0, 50), min_size=1, max_size=9, unique=True).map(sorted))
def test_no_two_agents_send_to_the_same_receiver_at_the_same_turn(agents):
    turns = [staggered_receivers(agent, agents) for agent in agents]
    assert all(sorted(turn) == agents for turn in turns)
    assert all(len(set(receivers)) == len(agents) for receivers in zip(*turns, strict=True))


def test_newcomers_are_dealt_out_in_turn():
    assert assign_round_robin((2, 5), (1, 3, 4)) == {2: (1, 4), 5: (3,)}
    assert assign_round_robin((2, 5), ()) == {2: (), 5: ()}


@LAW
@given(st.integers(1, 6), st.integers(0, 12))
def test_every_newcomer_has_one_holder_and_no_holder_has_two_more_than_another(num_holders, num_newcomers):
    holders, newcomers = range(100, 100 + num_holders), range(num_newcomers)
    dealt = assign_round_robin(holders, newcomers)
    assert list(dealt) == list(holders)
    assert sorted(peer for peers in dealt.values() for peer in peers) == list(newcomers)
    loads = [len(peers) for peers in dealt.values()]
    assert max(loads) - min(loads) <= 1


# Two agents: 0 trains for 10 s, 1 for 4 s. The model has 100 floats: each averages a shard of 200 bytes.
def without_offload(profiles, newcomers=(), num_floats=100):
    clocks, workload = FleetClocks.of(profiles, RELAY), workload_of(num_floats)
    return simulate_round(clocks, None, workload, newcomers).virtual_time_s


def mixing_without_offload(profiles, newcomers=()):
    return simulate_mixing_round(profiles, RELAY, None, workload_of(75), newcomers).virtual_time_s


def workload_of(num_floats):
    return Workload(
        cuts=ByCut(),
        batch_size=1,
        batches={},
        num_floats=num_floats,
        fast_floats=ByCut(),
        head_floats=ByCut(),
    )


def two_agents(bytes_per_s=100.0, latency_s=0.5):
    link = Link(bytes_per_s=bytes_per_s, latency_s=latency_s)
    return [
        Profile(agent=0, batches_per_s=2, num_batches=20, links={1: link}),
        Profile(agent=1, batches_per_s=1, num_batches=4, links={0: link}),
    ]


def test_a_round_without_offload_of_two_agents_by_hand():
    # introduce  0 bytes: both hear of each other at                       0.5
    # train      agent 0 until 10.5, agent 1 until                         4.5
    # scatter    0 -> 1: 200 bytes, on the link 10.5 .. 12.5, there at     13
    #            1 -> 0: 200 bytes, on the link  4.5 ..  6.5, there at     7
    #            agent 0 can average at 10.5, agent 1 at 13
    # gather     0 -> 1: 200 bytes, uplink free at 12.5: .. 14.5, there at 15
    #            1 -> 0: 200 bytes, from 13 on: .. 15, there at            15.5
    assert without_offload(two_agents()) == 15.5


def test_the_same_round_over_the_relay_by_hand():
    # The relay carries 10 bytes/s and adds 0.125 s; no link carries the introduction either.
    # train      until 10.125 and 4.125
    # scatter    0 -> 1: 10.125 .. 30.125, there at 30.25;  1 -> 0: 4.125 .. 24.125, there at 24.25
    # gather     0 -> 1: 30.125 (its uplink) .. 50.125;     1 -> 0: 30.25 .. 50.25, there at 50.375
    assert without_offload(two_agents(bytes_per_s=0.0, latency_s=99)) == 50.375


def test_a_newcomer_gets_the_model_at_the_end_of_the_round_by_hand():
    # as above: agent 0 has all shards at 15.5, its uplink is free at 14.5; the newcomer has no link with it
    # hand over  0 -> 7: 400 bytes over the relay 15.5 .. 55.5, there at   55.625
    assert without_offload(two_agents(), newcomers=[7]) == 55.625
    # of two newcomers agent 1 takes the second, from 15 on; a third is agent 0's again, behind the first
    assert without_offload(two_agents(), newcomers=[7, 8]) == 55.625
    assert without_offload(two_agents(), newcomers=[7, 8, 9]) == 95.625


def test_an_agent_alone_only_trains():
    profile = Profile(agent=3, batches_per_s=2, num_batches=5)
    assert without_offload([profile], num_floats=10**9) == 2.5


def test_a_round_of_mixing_without_offload_by_hand():
    # introduce and train as above: until 10.5 and 4.5; a model has 300 bytes
    # spread     0 -> 1: 10.5 .. 13.5, there at 14;  1 -> 0: 4.5 .. 7.5, there at 8
    assert mixing_without_offload(two_agents()) == 14
    # a newcomer gets agent 0's model: on the relay 13.5 .. 43.5, there at 43.625
    assert mixing_without_offload(two_agents(), newcomers=[7]) == 43.625
    # without a link they only hear of each other over the relay, at 0.125, and mix with nobody
    assert mixing_without_offload(two_agents(bytes_per_s=0.0)) == 10.125


def noting(agent=0, **keys):
    links = {1: Link(bytes_per_s=100), 2: Link(bytes_per_s=50)}
    return Clock(agent=agent, batches_per_s=1.0, links=links, relay=RELAY, spans=[], **keys)


def told(clock):
    return [(span.what, span.start_s, span.end_s, span.peer) for span in clock.timeline()]


def test_what_follows_without_a_pause_is_one_span():
    agent = noting()
    agent.work(2)
    agent.send(1, 100)
    agent.work(1)
    agent.send(1, 50)
    agent.send(1, 50)
    assert told(agent) == [
        ("compute", 0, 3, None),
        ("send", 2, 4, 1),
    ]


def test_a_pause_or_another_receiver_begins_another_span():
    agent = noting()
    agent.send(1, 100)
    agent.send(2, 100)
    agent.send(1, 100)
    agent.work(2)
    agent.wait(7)
    agent.work(1)
    agent.send(1, 100)
    assert told(agent) == [
        ("compute", 0, 2, None),
        ("send", 0, 1, 1),
        ("send", 1, 3, 2),
        ("wait", 2, 7, None),
        ("send", 3, 4, 1),
        ("compute", 7, 8, None),
        ("send", 8, 9, 1),
    ]


def test_what_takes_no_time_is_no_span():
    agent = noting()
    agent.work(0)
    agent.wait(0)
    agent.send(1, 0)
    agent.send(0, 100)
    assert agent.timeline() == ()


def test_who_keeps_no_spans_has_an_empty_timeline():
    agent = clock(0)
    agent.work(2)
    assert agent.timeline() == ()


@LAW
@given(st.lists(st.tuples(st.sampled_from(["work", "wait", 1, 2]), st.floats(0, 100)), max_size=20))
def test_spans_add_up_to_what_was_done(steps):
    agent, plain = noting(), noting()
    plain.spans = None
    for what, amount in steps:
        for one in (agent, plain):
            if isinstance(what, int):
                one.send(what, amount)
            else:
                getattr(one, what)(amount)
    assert (agent.now_s, agent.uplink_free_s) == (plain.now_s, plain.uplink_free_s), "noting changes nothing"
    spans = agent.timeline()
    assert [span.start_s for span in spans] == sorted(span.start_s for span in spans)
    busy_s = sum(span.end_s - span.start_s for span in spans if span.what in ("compute", "wait"))
    assert busy_s == pytest.approx(agent.now_s)
    sent_s = sum(amount / {1: 100, 2: 50}[what] for what, amount in steps if isinstance(what, int))
    assert sum(s.end_s - s.start_s for s in spans if s.what == "send") == pytest.approx(sent_s)


def server(**keys):
    links = {1: Link(bytes_per_s=100, latency_s=0.5), 2: Link(bytes_per_s=50)}
    return ServerClock(agent=SERVER, batches_per_s=2.0, links=links, relay=RELAY, **keys)


def test_the_clock_of_a_server_has_lanes_and_that_of_an_agent_has_none():
    of_server = new_clock(Profile(agent=SERVER, batches_per_s=2, num_batches=0), RELAY)
    of_agent = new_clock(Profile(agent=0, batches_per_s=2, num_batches=1), RELAY, keeps_spans=True)
    assert isinstance(of_server, ServerClock)
    assert of_server.spans is None
    assert type(of_agent) is Clock
    assert of_agent.spans == []


def test_a_server_sends_to_all_at_once():
    clock = server()
    clock.wait(3)
    assert clock.send(1, 100) == 3 + 1 + 0.5
    assert clock.send(2, 100) == 3 + 2, "the mail to 1 is not in its way"
    assert clock.send(1, 100) == 4 + 1 + 0.5, "but that to the same agent is"
    assert clock.send(9, 100) == 3 + 10 + 0.125, "over the relay where there is no link"
    assert clock.send(SERVER, 10**9) == 3
    assert clock.now_s == 3, "sending takes it no time"


def test_lanes_work_side_by_side():
    clock = server()
    for agent, batches in ((1, 4), (2, 10)):
        clock.lane(agent).wait(1)
        clock.lane(agent).work(batches)
    assert [clock.lane(agent).now_s for agent in (1, 2)] == [3, 6]
    assert clock.now_s == 0
    assert clock.send(1, 100) == 3 + 1 + 0.5, "a lane sends what it has made when it has made it"
    clock.wait(10)
    assert clock.send(2, 50) == 11, "and what all have made not before it is there"


def test_a_server_keeps_the_spans_of_all_its_lanes():
    clock = server(spans=[])
    clock.lane(2).work(2)
    clock.lane(1).work(4)
    clock.send(1, 100)
    clock.send(2, 100)
    clock.wait(5)
    assert set(clock.timeline()) == {
        Span(what="compute", start_s=0, end_s=1, peer=2),
        Span(what="compute", start_s=0, end_s=2, peer=1),
        Span(what="send", start_s=2, end_s=3, peer=1),
        Span(what="send", start_s=1, end_s=3, peer=2),
        Span(what="wait", start_s=0, end_s=5),
    }
    assert [span.start_s for span in clock.timeline()] == [0, 0, 0, 1, 2]
