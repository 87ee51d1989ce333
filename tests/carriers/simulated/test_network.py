"""The simulated network behaves as the transport does: order, reach, patience, and what a death leaves."""

import random
from math import inf

import pytest

from comdml_flwr.carriers.simulated.history import Cut, History, Partition
from comdml_flwr.carriers.simulated.network import Network
from comdml_flwr.core.errors import InputError, PeerGoneError
from comdml_flwr.core.messages import Envelope

PATIENCE_S = 2.0


def network(*faults, seed=0):
    history = History(seed=seed, faults=faults)
    return Network(range(3), history, random.Random(seed), PATIENCE_S)


def mail(sender, receiver, number, round_=1):
    return Envelope(sender=sender, receiver=receiver, round=round_, kind=str(number))


def taken(net, agent):
    """Return the kinds of all that has arrived at an agent."""
    found = []
    while (envelope := net.take(agent)) is not None:
        found.append(envelope.kind)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_mail_of_one_sender_comes_in_order(seed):
    net = network(seed=seed)
    for number in range(9):
        net.send(mail(0, 1, number))
    net.advance(1.0)
    assert taken(net, 1) == [*"012345678"]
    assert not net.waits_for_arrival(0, 1)


@pytest.mark.parametrize("seed", range(20))
def test_mail_of_one_sender_comes_in_order_when_a_cut_ends(seed):
    net = network(Cut(0, 1, 0.0, 0.02), seed=seed)
    for number in range(9):
        net.send(mail(0, 1, number))
        net.advance(0.005 * number)
    net.advance(1.0)
    assert taken(net, 1) == [*"012345678"]


def test_what_a_cut_holds_up_comes_when_it_is_over_if_the_sender_is_patient():
    net = network(Cut(0, 1, 0.0, 1.9), Cut(0, 2, 0.0, 2.1))
    net.send(mail(0, 1, "patient"))
    net.send(mail(0, 2, "dropped"))
    net.advance(1.5)
    assert taken(net, 1) == []
    assert net.gone(0) == {}
    net.advance(5.0)
    assert taken(net, 1) == ["patient"]
    assert taken(net, 2) == []
    assert net.gone(0) == {2: "nothing of it for 2 s"}
    with pytest.raises(PeerGoneError, match="agent 2 is gone: nothing of it for 2 s"):
        net.send(mail(0, 2, "more"))
    net.watch(0, [2])
    net.send(mail(0, 2, "again"))
    net.advance(6.0)
    assert taken(net, 2) == ["again"]


def test_a_one_way_cut_lets_mail_through_the_other_way_and_both_find_the_other_out_of_reach():
    net = network(Cut(0, 1, 0.0, inf))
    net.watch(0, [1])
    net.watch(1, [0])
    net.send(mail(1, 0, "heard"))
    net.send(mail(0, 1, "not heard"))
    net.advance(1.0)
    assert (taken(net, 0), taken(net, 1)) == (["heard"], [])
    net.advance(3.0)
    assert (net.gone(0).keys(), net.gone(1).keys()) == ({1}, {0})


def test_a_partition_parts_those_on_two_sides_alone():
    net = network(Partition((0, 1), 0.0, inf))
    for receiver in (1, 2):
        net.send(mail(0, receiver, receiver))
    net.advance(1.0)
    assert (taken(net, 1), taken(net, 2)) == (["1"], [])


@pytest.mark.parametrize("seed", range(8))
def test_of_what_a_dead_agent_sent_a_first_part_comes(seed):
    net = network(seed=seed)
    for number in range(5):
        net.send(mail(0, 1, number))
    net.leave(0)
    net.advance(1.0)
    came = taken(net, 1)
    assert came == [*"01234"][: len(came)]


def test_a_process_that_is_there_again_gets_what_still_waits_for_it_and_nothing_else():
    net = network()
    net.send(mail(1, 0, "before"))
    net.advance(0.1)
    net.leave(0, back_after_s=1.0)
    net.send(mail(1, 0, "meanwhile"))
    net.advance(0.5)
    assert taken(net, 0) == []
    net.advance(2.0)
    assert taken(net, 0) == ["meanwhile"]


@pytest.mark.parametrize("seed", range(20))
def test_what_a_cut_holds_up_still_comes_before_what_was_sent_later(seed):
    net = network(Cut(0, 1, 0.05, 0.2), seed=seed)
    for number in range(8):
        net.advance(number * 0.03)
        net.send(mail(0, 1, number))
    net.advance(1.0)
    assert taken(net, 1) == [*"01234567"]


def test_mail_of_other_rounds_is_refused():
    net = network()
    net.set_rounds(1, 2, 3)
    for round_ in (1, 2, 3, 4):
        net.send(mail(0, 1, round_, round_))
    net.advance(1.0)
    assert taken(net, 1) == ["2", "3"]


def test_what_was_before_the_patience_is_set_does_not_count():
    net = network(Cut(0, 1, 0.0, inf))
    net.watch(0, [1])
    net.advance(1.9)
    net.set_patience(0, 1.0)
    net.advance(2.8)
    assert net.gone(0) == {}
    net.advance(3.0)
    assert net.gone(0).keys() == {1}


@pytest.mark.parametrize("keys", [{"latency_s": (0.2, 0.1)}, {"step_s": (-1.0, 0.0)}, {"step_s": (0.0, inf)}])
def test_times_that_cannot_be_are_refused(keys):
    with pytest.raises(InputError, match="must be two times, the shorter one first"):
        History(seed=0, **keys)
