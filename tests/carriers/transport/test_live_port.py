"""The live port under fuzzed frames: it refuses with a reason, and stays there for honest members."""

import resource
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comdml_flwr.carriers.transport.channels import new_channel, new_server
from comdml_flwr.carriers.transport.incoming import ACCEPTED, METHOD, RECEIVER, RUN, SENDER, SERVICE
from comdml_flwr.carriers.transport.members import Limits
from comdml_flwr.core.errors import PeerGoneError
from tests.carriers.transport import fuzz
from tests.carriers.transport.meetings import TOKEN, addresses, by_reason, mail, meeting, received, until

LIMITS = Limits(
    max_envelope_bytes=fuzz.MAX_ENVELOPE_BYTES,
    max_header_bytes=fuzz.MAX_HEADER_BYTES,
    stall_s=0.5,
    patience_s=2,
)
SAID = ((RUN, TOKEN), (SENDER, "0"), (RECEIVER, "1"))
LAW = settings(database=None, suppress_health_check=list(HealthCheck))


@contextmanager
def target():
    """Agent 1 listening, agent 2, and a function that sends frames as agent 0 and tells what came of it."""
    members = addresses(3)
    with meeting(members, limits=LIMITS, who={1, 2}) as (one, two):
        channel = new_channel(members[1], None, LIMITS)
        call = channel.stream_stream(f"/{SERVICE}/{METHOD}")

        def send(frames, said=SAID):
            answers = call(iter(frames), metadata=said, timeout=10)
            try:
                return list(answers)
            except grpc.RpcError as error:
                return error.code(), error.details()

        yield one, two, send
        channel.close()


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def fuzz_the_port(num_streams):
    with target() as (one, two, send):
        num_refused = 0

        @settings(LAW, max_examples=num_streams)
        @given(fuzz.ANY)
        def run(frames):
            nonlocal num_refused
            ended = send(fuzz.renumbered(frames, one._incoming._accepted.get(0, 0) + 1))
            while one.receive(0) is not None:  # bits of a tensor may flip and it is still an envelope
                pass
            if isinstance(ended, tuple):
                code, reason = ended
                assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED), ended
                assert reason.split(":")[0] in by_reason(one)
                num_refused += 1

        before = resident_bytes(), threading.active_count()
        run()
        assert num_refused > num_streams / 2
        assert sum(one.refused.values()) == num_refused
        assert {"truncated", "corrupt", "oversized"} <= set(by_reason(one))
        assert by_reason(one).get("replayed", 0) < num_refused / 10, "or little else was tried"
        assert resident_bytes() - before[0] < 100_000_000
        until(lambda: threading.active_count() <= before[1] + 12)  # gRPC's own and the pool's
        two.send(mail(2, 1))
        two.flush(5)
        received(one, 1)


def test_fuzzed_frames_at_the_live_port_do_no_harm(caplog):
    fuzz_the_port(300)
    lines = [line for line in caplog.messages if line.startswith("refused mail of agent 0")]
    assert len(lines) == len({line.split(":")[1] for line in lines}), "each reason once"


@pytest.mark.slow
def test_a_thousand_fuzzed_streams_at_the_live_port_do_no_harm():
    fuzz_the_port(1000)


NAMES = st.sampled_from([RUN, SENDER, RECEIVER])
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30) | st.sampled_from(
    ["0", "1", "2", "00", "+0", "-1", " 0", "0x0", "9" * 30, TOKEN, TOKEN + "x"]
)


def test_fuzzed_introductions_do_no_harm():
    with target() as (one, two, send):

        @settings(LAW, max_examples=200)
        @given(st.lists(st.tuples(NAMES, TEXT.map(str.strip)), max_size=4))
        def run(said):
            ended = send(fuzz.frames_of(fuzz.BLOB), tuple(said))
            if isinstance(ended, tuple):
                assert ended[0] is grpc.StatusCode.PERMISSION_DENIED or "wrong receiver" in ended[1], ended
            else:
                assert dict(said)[RUN] == TOKEN
                assert dict(said)[RECEIVER] == "1"

        run()
        two.send(mail(2, 1))
        two.flush(5)
        assert set(by_reason(one)) <= {
            "another run",
            "not a member",
            "wrong receiver",
            "replayed",
            "wrong sender",
        }


def test_bytes_that_are_not_even_http_do_no_harm():
    with target() as (one, two, _):

        @settings(LAW, max_examples=100)
        @given(
            st.binary(max_size=300)
            | st.binary(max_size=100).map(lambda b: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b)
        )
        def run(noise):
            with socket.create_connection(("127.0.0.1", one.port)) as stream:
                stream.sendall(noise)

        run()
        two.send(mail(2, 1))
        two.flush(5)
        received(one, 1)


def test_a_message_longer_than_any_frame_is_not_read():
    with target() as (one, two, send):
        code, _ = send([bytes(5 << 20)])
        assert code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT)
        two.send(mail(2, 1))
        received(one, 1)


def test_a_replayed_envelope_is_refused_counted_and_logged_once(caplog):
    with target() as (one, _, send):
        frames = fuzz.frames_of(fuzz.BLOB)
        assert len(send(frames)) == 1
        for _ in range(3):
            code, reason = send(frames)
            assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "replayed: number 1 after 1")
        assert one.refused == {("replayed", 0): 3}
        assert len(received(one, 1)) == 1
        assert one.receive(0.1) is None
    assert len([line for line in caplog.messages if "replayed" in line]) == 1


def test_who_stalls_in_the_middle_of_an_envelope_is_cut_off_and_its_room_is_free_again():
    with target() as (one, _, send):
        release = threading.Event()

        def frames():
            yield fuzz.frames_of(fuzz.BLOB)[0]
            release.wait(20)

        ended = []
        stalled = threading.Thread(target=lambda: ended.append(send(frames())))
        stalled.start()
        until(lambda: ("stalled", 0) in one.refused)
        release.set()
        stalled.join()
        assert ended[0][0] is grpc.StatusCode.CANCELLED
        assert one.refused == {("stalled", 0): 1}
        assert not one._inbox._held[0]
        assert len(send(fuzz.frames_of(fuzz.BLOB))) == 1


def test_a_new_stream_of_a_sender_ends_its_old_one():
    """One stream, one buffer: a member cannot take more memory by dialling often."""
    with target() as (one, _, send):
        release = threading.Event()

        def frames():
            yield fuzz.frames_of(fuzz.BLOB)[0]
            release.wait(20)

        ended = []
        old = threading.Thread(target=lambda: ended.append(send(frames())))
        old.start()
        until(lambda: one._inbox._held[0])
        assert len(send(fuzz.frames_of(fuzz.BLOB))) == 1
        release.set()
        old.join()
        assert ended[0][0] is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize(
    ("accepted", "answer"),
    [("x", b""), ("-1", b""), ("9" * 30, b""), ("0", b""), ("0", b"123"), ("0", bytes(500))],
)
def test_a_peer_whose_answers_make_no_sense_is_gone(accepted, answer):
    members = addresses(2)

    def deliver(frames, context):
        context.send_initial_metadata(((ACCEPTED, accepted),))
        for _ in frames:
            yield answer

    method = grpc.stream_stream_rpc_method_handler(deliver)
    handler = grpc.method_handlers_generic_handler(SERVICE, {METHOD: method})
    with ThreadPoolExecutor(2) as pool:
        server, _ = new_server(members[1].address, handler, None, LIMITS, pool)
        server.start()
        with meeting(members, limits=LIMITS, who={0}) as (one,):
            one.send(mail(0, 1))
            with pytest.raises(PeerGoneError, match="its answer makes no sense"):
                one.flush(5)
        server.stop(0).wait(5)
