"""All that one sender has with a receiver is bounded, whatever it sends and whoever keeps it."""

import gc
from dataclasses import replace

import numpy as np

from comdml_flwr.carriers.transport.kept_mail import KeptMail
from comdml_flwr.core.messages import Envelope
from comdml_flwr.core.wire import decode_envelope, encode_envelope
from tests.carriers.transport.meetings import SHORT, addresses, by_reason, mail, meeting, received

MB = 1 << 20
LIMITS = replace(SHORT, max_envelope_bytes=MB + 1000, max_header_bytes=1000, num_waiting=2, num_kept=4)


def test_mail_of_a_kind_that_nobody_reads_is_refused_and_the_stream_goes_on():
    with meeting(addresses(2), limits=LIMITS, kinds={"test"}) as (one, two):
        for number in range(30):
            unknown = Envelope(
                sender=0, receiver=1, round=1, kind="flood", arrays={"x": np.zeros(MB, np.uint8)}
            )
            one.send(unknown if number % 10 else mail(0, 1, place=number))
        one.flush(20)
        assert [envelope.about["place"] for envelope in received(two, 3)] == [0, 10, 20]
        assert two.receive(0) is None
        assert by_reason(two) == {"unknown kind": 27}
        assert one.refused_by_peers == {1: 27}
        assert not one.gone


def test_what_is_received_and_kept_of_one_sender_is_bounded_and_of_others_still_comes():
    members = addresses(3)
    with meeting(members, limits=replace(LIMITS, patience_s=20)) as (one, two, three):
        one.set_patience(20)
        kept, sent = [], 0
        for _ in range(LIMITS.num_kept + LIMITS.num_waiting + 1):
            one.send(mail(0, 2, num_bytes=MB, value=sent))
            sent += 1
            if (envelope := three.receive(0.5)) is not None:
                kept.append(envelope)
        assert LIMITS.num_kept <= len(kept) <= LIMITS.num_kept + LIMITS.num_waiting
        two.send(mail(1, 2, num_bytes=MB))
        assert received(three, 1)[0].sender == 1
        values = [envelope.arrays["x"][0] for envelope in kept]
        del kept, envelope
        gc.collect()
        rest = received(three, sent - len(values))
        assert values + [envelope.arrays["x"][0] for envelope in rest] == list(range(sent))


def come(about=None, num_bytes=400):
    """Return an envelope as it comes off the wire, and its length."""
    sent = Envelope(
        sender=3, receiver=0, round=1, kind="test", about=about or {}, arrays=arrays_of(num_bytes)
    )
    blob = bytearray(encode_envelope(sent))
    return decode_envelope(np.frombuffer(blob, np.uint8).copy().data), len(blob)


def arrays_of(num_bytes):
    return {"x": np.zeros(num_bytes // 4, np.float32), "y": np.ones(3, np.uint8)} if num_bytes else {}


def test_what_is_used_counts_until_the_last_array_of_it_is_gone():
    kept = KeptMail(max_bytes=1000, max_header_bytes=10_000)
    envelope, length = come()
    kept.add(envelope, length)
    view = envelope.arrays["x"][1:3].reshape(2, 1)
    more, length = come()
    kept.add(more, length)
    assert not kept.has_room(3)
    assert kept.has_room(4)
    del envelope
    assert not kept.has_room(3), "one view of one array is enough"
    del view
    assert kept.has_room(3)


def test_headers_count_for_themselves():
    kept = KeptMail(max_bytes=10**9, max_header_bytes=1000)
    said, lengths = zip(*(come({"text": "x" * 300}, 0) for _ in range(3)), strict=True)
    for envelope, length in zip(said, lengths, strict=True):
        kept.add(envelope, length)
    assert not kept.has_room(3)
    del said, envelope
    assert kept.has_room(3)
