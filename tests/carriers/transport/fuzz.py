"""Frames to which anything may have happened: hypothesis strategies for decoder and live port."""

import json
import struct

import numpy as np
from hypothesis import strategies as st

from comdml_flwr.carriers.transport.frames import cut
from comdml_flwr.core.messages import Envelope
from comdml_flwr.core.wire import encode_envelope

MAX_ENVELOPE_BYTES, MAX_HEADER_BYTES = 1 << 16, 1 << 13
FRAME_BYTES = 300

LETTER = Envelope(
    sender=0,
    receiver=1,
    round=3,
    kind="activations",
    about={"digest": "ab", "peers": [1, 2]},
    arrays={
        "x": np.arange(200, dtype=np.float32).reshape(20, 10),
        "labels": np.arange(20),
        "mask": np.ones(3, bool),
    },
)
BLOB = encode_envelope(LETTER)
HEAD = struct.Struct("<4sQQ")
_ADDRESS = {"sender": 0, "receiver": 1, "round": 3, "kind": "x", "arrives_s": 0.0, "about": {}}


def frames_of(blob, sequence=1, frame_bytes=FRAME_BYTES):
    return list(cut([memoryview(blob)], sequence, frame_bytes))


def packed(header, body):
    """Return a blob with this JSON header."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def renumbered(frames, sequence):
    """Return the frames of the first envelope with this number where it was 1, so that it is no replay."""
    if not frames or frames[0][:12] != HEAD.pack(b"CmF1", 1, 0)[:12]:
        return frames
    return [frames[0][:4] + sequence.to_bytes(8, "little") + frames[0][12:], *frames[1:]]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda j: st.lists(j, max_size=4) | st.dictionaries(st.text(max_size=5), j, max_size=4),
    max_leaves=8,
)
LENGTH = st.sampled_from([0, 1, 7, 8, 19, 20, 2**16, 2**31, 2**40, 2**63, 2**64 - 1]) | st.integers(
    0, 2**64 - 1
)


@st.composite
def truncated(draw):
    """Some first bytes of the frames."""
    frames = frames_of(BLOB)
    num = draw(st.integers(0, len(frames) - 1))
    return [*frames[:num], frames[num][: draw(st.integers(0, len(frames[num]) - 1))]]


@st.composite
def bit_flipped(draw):
    """One to eight bits are another, anywhere; most often where it matters."""
    stream = bytearray(b"".join(frames_of(BLOB)))
    place = st.integers(0, len(stream) * 8 - 1) | st.integers(0, 500 * 8)
    for bit in draw(st.lists(place, min_size=1, max_size=8)):
        stream[bit // 8] ^= 1 << bit % 8
    return [bytes(stream[at : at + FRAME_BYTES]) for at in range(0, len(stream), FRAME_BYTES)]


@st.composite
def wrong_lengths(draw):
    """The declared length, that of the header, or the number of bytes that come is another."""
    which = draw(st.sampled_from(["declared", "header", "more", "sequence"]))
    frames = frames_of(BLOB)
    if which == "header":
        return frames_of(draw(LENGTH).to_bytes(8, "little") + BLOB[8:])
    if which == "more":
        return [*frames[:-1], frames[-1] + draw(st.binary(min_size=1, max_size=400))]
    mark, sequence, num_bytes = HEAD.unpack_from(frames[0])
    changed = draw(LENGTH)
    head = (mark, changed, num_bytes) if which == "sequence" else (mark, sequence, changed)
    return [HEAD.pack(*head) + frames[0][HEAD.size :], *frames[1:]]


@st.composite
def wrong_types(draw):
    """The JSON is well-formed and says anything."""
    entry = draw(
        JSON
        | st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "BOOL", "I64", "F33"]) | JSON,
                "shape": st.lists(st.integers(-1, 2**70), max_size=3) | JSON,
                "data_offsets": st.lists(st.integers(-1, 20), min_size=2, max_size=2) | JSON,
            }
        )
    )
    address = draw(
        JSON | st.sampled_from(sorted(_ADDRESS)).flatmap(lambda key: JSON.map(lambda v: {**_ADDRESS, key: v}))
    )
    header = {"__metadata__": {"about": json.dumps(address)}, draw(st.text(max_size=4)): entry}
    return frames_of(packed(header, draw(st.binary(max_size=20))))


@st.composite
def huge_headers(draw):
    """Long, deep or wide JSON, next to the bound and above."""
    unit = draw(
        st.sampled_from([b"[", b"[],", b"{},", b'{"a":', b'"\\ud800",', b"1" * 50 + b",", b"0,", b" "])
    )
    num_bytes = draw(st.integers(MAX_HEADER_BYTES - 100, MAX_HEADER_BYTES + 100) | st.integers(0, 50_000))
    text = (b"[" + unit * (num_bytes // len(unit)))[:num_bytes]
    if draw(st.booleans()):
        text = text.rstrip(b",") + b"]"
    return frames_of(len(text).to_bytes(8, "little") + text, frame_bytes=4096)


@st.composite
def shuffled(draw):
    """Frames are missing, come twice, or in another order; or there is one that is empty."""
    return draw(st.lists(st.sampled_from([*frames_of(BLOB), b""]), max_size=8))


NOISE = st.lists(st.binary(max_size=200) | st.binary(max_size=40).map(lambda b: b"CmF1" + b), max_size=4)
ANY = st.one_of(truncated(), bit_flipped(), wrong_lengths(), wrong_types(), huge_headers(), shuffled(), NOISE)
