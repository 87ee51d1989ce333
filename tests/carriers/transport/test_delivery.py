"""Mail arrives whole, once and in order; nothing grows without bound and nobody waits for ever."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from comdml_flwr.carriers.transport.grpc import Transport
from comdml_flwr.carriers.transport.members import Limits, Member
from comdml_flwr.core.errors import InputError, OverdueError, PeerGoneError, RunError
from comdml_flwr.core.messages import Envelope
from comdml_flwr.planning.bounded_queue import QUEUE_BATCHES, queue_bytes
from comdml_flwr.planning.types import Cut
from tests.carriers.transport.meetings import (
    SHORT,
    TOKEN,
    addresses,
    by_reason,
    free_address,
    mail,
    meeting,
    received,
    until,
)

MB = 1_000_000


def test_every_pair_gets_its_mail_whole_and_in_order():
    """Envelopes of many lengths, those next to a frame's length among them."""
    frame = 4096
    limits = Limits(frame_bytes=frame, patience_s=5)
    sizes = [4, 400, *(frame * n + off for n in (1, 2, 5) for off in range(-600, 100, 20)), MB]
    with meeting(addresses(3), limits=limits) as members:

        def send_all(own):
            for place, num_bytes in enumerate(sizes):
                for peer in {0, 1, 2} - {own}:
                    envelope = mail(own, peer, num_bytes=num_bytes, value=place + 1000 * own, place=place)
                    members[own].send(envelope)

        threads = [threading.Thread(target=send_all, args=(own,)) for own in range(3)]
        for thread in threads:
            thread.start()
        for own, member in enumerate(members):
            found = received(member, 2 * len(sizes))
            for peer in {0, 1, 2} - {own}:
                envelopes = [envelope for envelope in found if envelope.sender == peer]
                assert [envelope.about["place"] for envelope in envelopes] == list(range(len(sizes)))
                for envelope, num_bytes in zip(envelopes, sizes, strict=True):
                    expected = np.full(num_bytes // 4, envelope.about["place"] + 1000 * peer, np.float32)
                    np.testing.assert_array_equal(envelope.arrays["x"], expected)
        for thread in threads:
            thread.join()
        for member in members:
            member.flush(5)
            assert not member.refused


def test_what_is_received_can_be_written_into():
    with meeting(addresses(2)) as (one, two):
        one.send(mail(0, 1))
        envelope = two.receive(5)
        envelope.arrays["x"][:] = 1


def test_a_peer_that_comes_seconds_later_gets_the_mail_that_waits_for_it():
    members = addresses(2)
    limits = Limits(patience_s=10)
    with meeting(members, limits=limits, who={0}) as (one,):
        one.send(mail(0, 1, value=5))
        time.sleep(2)
        with meeting(members, limits=limits, who={1}) as (two,):
            assert received(two, 1)[0].arrays["x"][0] == 5


def test_receiving_ends_at_its_deadline():
    with meeting(addresses(2)) as (one, _):
        began = time.monotonic()
        assert one.receive(0.2) is None
        assert 0.2 <= time.monotonic() - began < 1


def test_a_peer_that_never_comes_is_gone_and_says_why():
    members = addresses(2)
    with meeting(members, who={0}) as (one,):
        one.send(mail(0, 1))
        began = time.monotonic()
        with pytest.raises(PeerGoneError, match=r"agent 1 is gone: nothing of it for .* refused") as caught:
            one.flush(30)
        assert SHORT.patience_s <= time.monotonic() - began < SHORT.patience_s + 3
        assert caught.value.peer == 1
        assert one.gone == {1: caught.value.reason}
        with pytest.raises(PeerGoneError):
            one.send(mail(0, 1))


def test_a_peer_that_was_gone_can_be_tried_again():
    members = addresses(2)
    with meeting(members, who={0}) as (one,):
        one.watch([1])
        until(lambda: 1 in one.gone)
        with meeting(members, who={1}) as (two,):
            one.watch([1])
            one.send(mail(0, 1))
            received(two, 1)
            one.flush(5)
            assert not one.gone


def test_flushing_ends_at_its_deadline_and_waits_for_all_that_are_there():
    """Agent 2 listens but does not answer: a socket that accepts and never reads."""
    import socket

    members = addresses(3)
    host, port = members[2].address.split(":")
    with (
        socket.create_server((host, int(port))),
        meeting(members, limits=Limits(patience_s=30, keepalive_s=30), who={0, 1}) as (one, two),
    ):
        one.send(mail(0, 2))
        one.send(mail(0, 1))
        began = time.monotonic()
        with pytest.raises(OverdueError, match="agent 2 has not taken 1 envelope"):
            one.flush(1)
        assert time.monotonic() - began < 3
        received(two, 1)
        one.flush(1, peers=[1])
        began = time.monotonic()
    assert time.monotonic() - began < 5, "closing does not wait for the silent one"


def send_until_overdue(transport, receiver, num_bytes):
    """Send until it would block for half a second; return how many were sent and the line."""
    for place in range(1000):
        try:
            transport.send(mail(0, receiver, num_bytes=num_bytes, value=place), timeout_s=0.5)
        except OverdueError as error:
            return place, str(error)
    raise AssertionError("nothing stopped the sender")


def test_a_full_inbox_stops_the_sender_which_waits_until_its_deadline():
    limits = Limits(num_waiting=4, max_header_bytes=10_000, patience_s=5)
    with meeting(addresses(2), limits=limits) as (one, two):
        began = time.monotonic()
        num_sent, line = send_until_overdue(one, 1, num_bytes=MB)
        assert "agent 1 took nothing for 0.5 s" in line
        assert 6 <= num_sent <= 8, "4 MB here and 4 MB there, the headers included"
        assert time.monotonic() - began < 5
        assert [envelope.arrays["x"][0] for envelope in received(two, num_sent)] == list(range(num_sent))
        one.send(mail(0, 1))
        received(two, 1)


def test_one_senders_full_inbox_does_not_stop_another():
    limits = Limits(max_header_bytes=10_000, patience_s=5)
    with meeting(addresses(3), limits=limits) as (one, two, three):
        send_until_overdue(one, 2, num_bytes=MB // 2)
        two.send(mail(1, 2))
        two.flush(5)
        assert 1 in {envelope.sender for envelope in received(three, 4)}


def test_an_envelope_longer_than_queue_and_inbox_goes_alone():
    limits = Limits(num_waiting=1, max_header_bytes=1000, patience_s=5)
    with meeting(addresses(2), limits=limits) as (one, two):
        for value in range(3):
            one.send(mail(0, 1, num_bytes=MB, value=value), timeout_s=5)
            assert received(two, 1)[0].arrays["x"][-1] == value


RECEIVER = """
    import resource, sys, time
    from comdml_flwr.carriers.transport.members import Limits, Member
    from comdml_flwr.carriers.transport.grpc import Transport

    members = [Member(0, sys.argv[1]), Member(1, sys.argv[2])]
    limits = Limits(num_waiting=int(sys.argv[3]))
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with Transport(1, sys.argv[2], members, None, "run-7", limits=limits) as transport:
        before = peak()
        print("ready", flush=True)
        command = sys.stdin.readline()
        print(peak() - before, flush=True)
        num_bytes = 0
        while (envelope := transport.receive(2.0)) is not None:
            num_bytes += envelope.num_bytes
            del envelope
        print(num_bytes, peak() - before, flush=True)
"""


@pytest.fixture
def receiver():
    """Start agent 1 as a process of its own that receives nothing until it is told to."""
    running = []

    def start(members, num_waiting):
        command = [sys.executable, "-c", textwrap.dedent(RECEIVER), *(m.address for m in members)]
        process = subprocess.Popen(
            [*command, str(num_waiting)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        running.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_back_pressure_bounds_the_memory_of_the_receiver(receiver):
    """300 MB are sent to a process that does not receive: it holds its 20 MB and what gRPC has in flight."""
    members = addresses(2)
    process = receiver(members, 5)
    with meeting(members, limits=Limits(), who={0}) as (one,):

        def send_all():
            for value in range(75):
                one.send(mail(0, 1, num_bytes=4 * MB, value=value), timeout_s=30)

        sender = threading.Thread(target=send_all)
        sender.start()
        time.sleep(1.5)
        assert sender.is_alive(), "it waits"
        print("go", file=process.stdin, flush=True)
        waiting_bytes = int(process.stdout.readline())
        num_bytes, peak_bytes = map(int, process.stdout.readline().split())
        sender.join()
    assert waiting_bytes < (20 + 40) * MB
    assert num_bytes == 300 * MB
    assert peak_bytes < (20 + 60) * MB


def test_a_peer_that_is_killed_is_gone_and_its_mail_is_not_lost_silently(receiver):
    members = addresses(2)
    process = receiver(members, 5)
    with meeting(members, who={0}) as (one,):
        one.send(mail(0, 1))
        one.flush(5)
        one.watch([1])
        process.send_signal(signal.SIGKILL)
        began = time.monotonic()
        until(lambda: 1 in one.gone)
        assert time.monotonic() - began < SHORT.patience_s + 3
        with pytest.raises(PeerGoneError):
            one.flush(1)


def test_a_peer_that_is_stopped_gives_no_sign_of_life_and_is_gone(receiver):
    """SIGSTOP, as a machine that hangs: its kernel still takes bytes."""
    members = addresses(2)
    process = receiver(members, 5)
    with meeting(members, who={0}) as (one,):
        one.send(mail(0, 1))
        one.flush(5)
        one.watch([1])
        process.send_signal(signal.SIGSTOP)
        until(lambda: 1 in one.gone, timeout_s=3 * SHORT.keepalive_s + SHORT.patience_s + 5)


def test_an_envelope_out_of_the_rounds_that_go_on_is_refused_and_the_next_is_not(caplog):
    with meeting(addresses(2)) as (one, two):
        two.set_rounds(5, 6)
        for round_ in (4, 5, 7, 6, 4):
            one.send(mail(0, 1, round_=round_))
        one.flush(5)
        assert [envelope.round for envelope in received(two, 2)] == [5, 6]
        assert by_reason(two) == {"wrong round": 3}
        assert one.refused_by_peers == {1: 3}
        assert not one.gone
    assert len([line for line in caplog.messages if "wrong round" in line]) == 1, "logged once"


def test_an_envelope_that_is_too_long_for_the_receiver_is_refused_with_the_reason():
    members = addresses(2)
    small = Limits(max_envelope_bytes=1000)
    with meeting(members, limits=small, who={1}) as (two,), meeting(members, who={0}) as (one,):
        one.send(mail(0, 1, num_bytes=4000))
        with pytest.raises(PeerGoneError, match=r"it refused: oversized: an envelope of .* at most 1000"):
            one.flush(5)
        assert two.refused == {("oversized", 0): 1}


def test_another_runs_mail_is_refused():
    members = addresses(2)
    with meeting(members, who={1}) as (two,), meeting(members, token="run-8", who={0}) as (one,):
        one.send(mail(0, 1))
        with pytest.raises(PeerGoneError, match="another run"):
            one.flush(5)
        assert by_reason(two) == {"another run": 1}
        assert two.receive(0.1) is None


def test_who_is_no_member_is_refused():
    members = addresses(3)
    with meeting(members[:2], who={1}) as (two,), meeting(members, who={2}) as (three,):
        three.send(mail(2, 1))
        with pytest.raises(PeerGoneError, match="not a member"):
            three.flush(5)
        assert two.refused == {("not a member", None): 1}


def test_a_member_at_the_address_of_another_is_found_out():
    members = addresses(3)
    crossed = [members[0], Member(1, members[2].address), Member(2, members[1].address)]
    with meeting(members, who={1}) as (two,), meeting(crossed, who={0}) as (one,):
        one.send(mail(0, 2))
        with pytest.raises(PeerGoneError, match="wrong receiver"):
            one.flush(5)
        assert by_reason(two) == {"wrong receiver": 1}


def test_a_member_that_starts_anew_goes_on_where_its_mail_ended():
    """Its numbers begin at what the receiver had last, so that its mail is no replay."""
    members = addresses(2)
    with meeting(members, who={1}) as (two,):
        for value in range(3):
            with meeting(members, who={0}) as (one,):
                one.send(mail(0, 1, value=value))
                one.flush(5)
        assert [envelope.arrays["x"][0] for envelope in received(two, 3)] == [0, 1, 2]
        assert not two.refused


def test_a_receiver_that_starts_anew_gets_what_it_had_not_answered():
    members = addresses(2)
    limits = Limits(num_waiting=1, max_header_bytes=500, patience_s=10, keepalive_s=1)
    with meeting(members, limits=Limits(patience_s=10, keepalive_s=1), who={0}) as (one,):
        with meeting(members, limits=limits, who={1}) as (two,):
            for value in range(4):
                one.send(mail(0, 1, num_bytes=800, value=value))
            until(lambda: two._inbox._mail)
        with meeting(members, limits=limits, who={1}) as (two,):
            assert [envelope.arrays["x"][0] for envelope in received(two, 3)] == [1, 2, 3]


def test_what_is_not_ours_to_send_is_refused_at_home():
    with meeting(addresses(2)) as (one, _):
        for envelope in (mail(1, 0), mail(0, 0), mail(0, 2)):
            with pytest.raises(RunError):
                one.send(envelope)
        with pytest.raises(RunError, match="header"):
            one.send(mail(0, 1, text="x" * (2 << 20)))


def test_a_port_that_is_taken_is_one_clear_line():
    members = addresses(2)
    with meeting(members, who={0}):
        double = Transport(0, members[0].address, members, None, TOKEN)
        with pytest.raises(InputError, match=r"listen = .* cannot be listened on"):
            double.start()


def test_a_closed_transport_frees_its_port_and_says_so():
    members = addresses(2)
    for _ in range(3):
        with meeting(members) as (one, two):
            one.send(mail(0, 1))
            received(two, 1)
    with pytest.raises(RunError, match="closed"):
        one.send(mail(0, 1))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"own": 2}, "own = 2: must be one of"),
        ({"listen": "127.0.0.1"}, "must be HOST:PORT"),
        ({"listen": "::1:80"}, "must be HOST:PORT"),
        ({"listen": "127.0.0.1:70000"}, "at most 65535"),
        ({"listen": "0.0.0.0:0"}, "credentials = None: must be there"),
        ({"members": [Member(0, "10.0.0.1:1"), Member(1, "127.0.0.1:1")]}, "credentials = None: must be"),
        ({"run_token": "a b"}, "run_token = 'a b'"),
        ({"run_token": ""}, "run_token = ''"),
    ],
)
def test_a_parameter_that_breaks_a_rule_is_one_line(changes, line):
    given = {"own": 0, "listen": free_address(), "members": addresses(2), "run_token": TOKEN}
    given.update(changes)
    with pytest.raises(InputError, match=line):
        Transport(credentials=None, **given)


def test_as_many_batches_wait_at_each_end_as_plans_count():
    with meeting(addresses(2), limits=Limits(patience_s=5)) as (one, two):
        num_sent, _ = send_until_overdue(one, 1, num_bytes=4 * MB)
        assert num_sent == 2 * QUEUE_BATCHES
        cut = Cut(slow_share=0, fast_share=0, bytes_per_batch=4 * MB)
        waiting = sum(two._inbox._held[0])
        assert queue_bytes(cut) <= waiting <= queue_bytes(cut) + Limits().max_header_bytes
        received(two, num_sent)


def test_who_says_that_a_peer_is_gone_is_not_held_up_by_what_that_peer_has_not_taken():
    with meeting(addresses(2), limits=Limits(patience_s=5)) as (one, two):
        num_sent, _ = send_until_overdue(one, 1, num_bytes=4 * MB)
        one.send(Envelope(sender=0, receiver=1, round=1, kind="gone"), timeout_s=0)
        assert [envelope.kind for envelope in received(two, num_sent + 1)] == ["test"] * num_sent + ["gone"]


@pytest.mark.parametrize(
    "bad", [{"frame_bytes": 20}, {"frame_bytes": 5 << 20}, {"patience_s": 0}, {"max_envelope_bytes": -1}]
)
def test_a_bound_that_is_none_is_one_line(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        Limits(**bad)


def test_what_went_through_leaves_no_memory_behind():
    """800 MB go through queues and inboxes of 8 MB, in one process."""
    limits = Limits(num_waiting=2)
    envelope = mail(0, 1, num_bytes=4 * MB)
    with meeting(addresses(2), limits=limits) as (one, two):
        before = resident_bytes()
        sender = threading.Thread(target=lambda: [one.send(envelope, timeout_s=30) for _ in range(200)])
        sender.start()
        most = 0
        for _ in range(200):
            assert two.receive(10) is not None
            most = max(most, resident_bytes() - before)
        sender.join()
    assert most < 150 * MB


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_trouble_with_a_peer_shows_while_it_lasts():
    members = addresses(2)
    with meeting(members, who={0}, limits=Limits(patience_s=30.0)) as (zero,):
        zero.watch([1])
        until(lambda: 1 in zero.troubles)
        since_s, reason = zero.troubles[1]
        assert "refused" in reason
        assert 1 not in zero.gone
        with meeting(members, who={1}):
            until(lambda: 1 not in zero.troubles)
        until(lambda: 1 in zero.troubles)
        assert zero.troubles[1][0] > since_s


def test_a_peer_that_has_just_come_is_not_given_up_for_the_time_before():
    """It was out of reach for longer than the new patience, and is there before that is over."""
    members = addresses(2)
    with meeting(members, who={0}, limits=Limits(patience_s=30.0)) as (zero,):
        zero.send(mail(0, 1))
        time.sleep(1.5)
        zero.set_patience(1.5)
        time.sleep(0.3)
        with meeting(members, who={1}) as (one,):
            received(one, 1)
            assert not zero.gone
