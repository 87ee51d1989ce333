"""What sending took is told from the envelopes that are sent anyway."""

import pytest

from comdml_flwr.carriers.transport import traffic
from comdml_flwr.carriers.transport.grpc import Transport
from comdml_flwr.carriers.transport.members import Member
from comdml_flwr.carriers.transport.traffic import LONG_BYTES, Traffic, TrafficMeter
from tests.carriers.transport.meetings import addresses, free_address, mail, meeting, received
from tests.cli.doctor.places import slow_link

LONG = LONG_BYTES


@pytest.fixture
def answers(monkeypatch):
    """Set the stopwatch's next looks."""
    times = []
    monkeypatch.setattr(traffic.time, "monotonic", lambda: times.pop(0))
    return times


def test_letters_on_their_own_are_timed_from_their_beginning(answers):
    meter = TrafficMeter()
    answers += [12.0, 25.0]
    meter.answered(LONG, began_s=10.0)
    meter.answered(2 * LONG, began_s=20.0)
    assert meter.take() == Traffic(num_bytes=3 * LONG, busy_s=7.0, num_starts=2)


def test_letters_behind_each_other_share_no_second(answers):
    meter = TrafficMeter()
    answers += [12.0, 14.0, 16.0]
    for began_s in (10.0, 10.5, 11.0):
        meter.answered(LONG, began_s)
    assert meter.take() == Traffic(num_bytes=3 * LONG, busy_s=6.0, num_starts=1)


def test_a_short_letter_ends_the_wait_before_the_next_and_is_not_counted(answers):
    meter = TrafficMeter()
    answers += [12.0, 13.0]
    meter.answered(LONG - 1, began_s=10.0)
    meter.answered(LONG, began_s=10.0)
    assert meter.take() == Traffic(num_bytes=LONG, busy_s=1.0, num_starts=0)


def test_what_was_taken_is_not_told_again(answers):
    meter = TrafficMeter()
    answers += [12.0]
    meter.answered(LONG, began_s=10.0)
    meter.take()
    assert meter.take() == Traffic()


def test_a_slow_link_shows_in_what_sending_took():
    members = addresses(2)
    with (
        slow_link(members[1].address, 0.5e6) as slow,
        Transport(1, members[1].address, members, None, "run-1") as one,
        Transport(0, free_address(), [members[0], Member(1, slow)], None, "run-1") as zero,
    ):
        for _ in range(3):
            zero.send(mail(0, 1, num_bytes=100_000))
        received(one, 3)
        zero.flush(10.0)
        sent = zero.take_traffic()[1]
    assert sent.num_bytes > 300_000
    assert 0.4 < sent.num_bytes / sent.busy_s / 0.5e6 < 1.3


def test_who_sends_nothing_long_tells_nothing():
    with meeting(addresses(2)) as (zero, one):
        zero.send(mail(0, 1))
        received(one, 1)
        zero.flush(5.0)
        assert zero.take_traffic() == {}
