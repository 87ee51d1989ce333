"""Frames: what is cut comes together again, and no frames whatever do harm."""

import tracemalloc
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comdml_flwr.carriers.transport.frames import HEAD_BYTES, Assembler, cut
from comdml_flwr.core.errors import Refusal, RefusedError
from comdml_flwr.core.wire import encode_envelope, envelope_parts
from tests.carriers.transport import fuzz


def assembler(**changes):
    bounds = {
        "last_sequence": 0,
        "max_envelope_bytes": fuzz.MAX_ENVELOPE_BYTES,
        "max_header_bytes": fuzz.MAX_HEADER_BYTES,
    }
    return Assembler(**{**bounds, **changes})


def assemble(frames, **changes):
    """Return the envelopes in frames that nothing follows."""
    one = assembler(**changes)
    found = [envelope for frame in frames if (envelope := one.add(frame)) is not None]
    one.end()
    return found


@settings(max_examples=100)
@given(st.integers(HEAD_BYTES + 1, 3000), st.integers(1, 4))
def test_what_is_cut_comes_together_again(frame_bytes, num_letters):
    parts = envelope_parts(fuzz.LETTER)
    frames = [f for number in range(1, num_letters + 1) for f in cut(parts, number, frame_bytes)]
    assert {len(frame) for frame in cut(parts, 1, frame_bytes)} <= {frame_bytes, len(frames[-1])}
    found = assemble(frames)
    assert [encode_envelope(envelope) for envelope in found] == [fuzz.BLOB] * num_letters


def test_arrays_are_in_the_one_buffer_and_can_be_written_into():
    (found,) = assemble(fuzz.frames_of(fuzz.BLOB))
    bases = {id(base_of(array)) for array in found.arrays.values()}
    assert len(bases) == 1
    found.arrays["x"][:] = 0


def base_of(array):
    while isinstance(array, np.ndarray) and array.base is not None:
        array = array.base
    return array.obj if isinstance(array, memoryview) else array


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([b"CmF1"], "truncated"),
        ([b"HTTP" + bytes(30)], "corrupt"),
        (fuzz.frames_of(fuzz.BLOB, sequence=0), "replayed"),
        (fuzz.frames_of(fuzz.BLOB) * 2, "replayed"),
        (fuzz.frames_of(fuzz.BLOB, sequence=3), "corrupt"),
        ([fuzz.HEAD.pack(b"CmF1", 1, fuzz.MAX_ENVELOPE_BYTES + 1)], "oversized"),
        ([fuzz.HEAD.pack(b"CmF1", 1, 0)], "corrupt"),
        (fuzz.frames_of(fuzz.BLOB)[:-1], "truncated"),
        ([*fuzz.frames_of(fuzz.BLOB)[:-1], b""], "corrupt"),
        ([*fuzz.frames_of(fuzz.BLOB)[:-1], bytes(500)], "corrupt"),
        (fuzz.frames_of(bytes(len(fuzz.BLOB))), "corrupt"),
    ],
)
def test_each_is_refused_with_its_reason(frames, reason):
    with pytest.raises(RefusedError) as caught:
        assemble(frames)
    assert caught.value.reason == reason


def test_room_is_asked_for_before_the_buffer_is_made():
    asked = []
    one = assembler(reserve=asked.append)
    one.add(fuzz.HEAD.pack(b"CmF1", 1, 5000))
    assert asked == [5000]
    with pytest.raises(RefusedError):
        one.add(fuzz.HEAD.pack(b"CmF1", 1, 5000) + bytes(5000))
    assert asked == [5000]


def survive(frames):
    """Take frames that anything may have happened to: an envelope, or one printable line with a reason."""
    refused = None
    try:
        assemble(frames)
    except RefusedError as error:
        refused = error
    if refused is not None:
        assert refused.reason in get_args(Refusal)
        assert str(refused).isascii()
        assert str(refused).isprintable()
        assert len(str(refused)) < 300


def fuzz_the_decoder(strategy, num_frames):
    """Try so many streams, and measure what they make us allocate above what they are."""

    @settings(max_examples=num_frames, database=None)
    @given(strategy)
    def run(frames):
        tracemalloc.start()  # here, for it slows the drawing of frames a hundredfold
        try:
            survive(frames)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < fuzz.MAX_ENVELOPE_BYTES + 50 * fuzz.MAX_HEADER_BYTES

    run()


STRATEGIES = {
    "truncated": fuzz.truncated(),
    "bit-flipped": fuzz.bit_flipped(),
    "wrong lengths": fuzz.wrong_lengths(),
    "wrong types": fuzz.wrong_types(),
    "huge headers": fuzz.huge_headers(),
    "shuffled": fuzz.shuffled(),
    "noise": fuzz.NOISE,
}


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
def test_fuzzed_frames_do_no_harm(strategy):
    fuzz_the_decoder(strategy, 30)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
def test_ten_thousand_fuzzed_frames_do_no_harm(strategy):
    fuzz_the_decoder(strategy, 1300)
