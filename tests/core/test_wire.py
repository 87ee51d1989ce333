"""Envelopes as bytes: nothing is lost, nothing is copied, and no bytes whatever do harm."""

import json
import string

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.files import read_file, write_file
from comdml_flwr.core.messages import Envelope
from comdml_flwr.core.wire import decode, decode_envelope, encode, encode_envelope

LAW = settings(max_examples=150)

DTYPES = st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8, np.bool_])
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda n: n != "__metadata__")
TENSORS = st.dictionaries(
    NAMES,
    DTYPES.flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))),
    max_size=5,
)
FACT = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(
    FACT, lambda j: st.lists(j, max_size=3) | st.dictionaries(st.text(), j, max_size=3), max_leaves=6
)
FACTS = st.dictionaries(st.text(max_size=6), JSON, max_size=4)


def assert_same(found, sent):
    assert found.keys() == sent.keys()
    for name, array in sent.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes(), "equal to the bit, nan included"


def refused(blob, decoder=decode):
    """Return the line that a blob is refused with."""
    with pytest.raises(RunError) as caught:
        decoder(blob)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 300
    return str(caught.value)


def packed(header, body=b""):
    """Return a blob with this header: JSON text, or a value to write as JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def with_entry(entry, body=b"12345678", name="a"):
    return packed({"__metadata__": {"about": "{}"}, name: entry}, body)


@LAW
@given(TENSORS, FACTS)
def test_arrays_and_facts_come_back_as_they_were(tensors, facts):
    found, about = decode(bytearray(encode(tensors, facts)))
    assert_same(found, tensors)
    assert about == facts


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3).T,
        np.arange(10)[::-2],
        np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4)),
        np.broadcast_to(np.float32(3), (2, 2)),
    ],
    ids=["transposed", "reversed", "fortran", "broadcast"],
)
def test_the_layout_in_memory_does_not_matter(array):
    assert_same(decode(encode({"x": array}, {}))[0], {"x": array})


@LAW
@given(TENSORS, FACTS)
def test_the_real_safetensors_reads_what_we_write(tensors, facts):
    assert_same(safetensors.numpy.load(encode(tensors, facts)), tensors)


@LAW
@given(TENSORS)
def test_we_read_what_the_real_safetensors_writes(tensors):
    blob = safetensors.numpy.save(tensors, metadata={"about": '{"who": "they"}'})
    found, about = decode(blob)
    assert_same(found, tensors)
    assert about == {"who": "they"}


@LAW
@given(TENSORS)
def test_decoding_is_in_place_and_every_array_starts_where_its_items_may(tensors):
    buffer = bytearray(encode(tensors, {}))
    raw = np.frombuffer(buffer, np.uint8)
    for array in decode(buffer)[0].values():
        if array.nbytes:
            assert np.shares_memory(array, raw)
            offset = array.__array_interface__["data"][0] - raw.__array_interface__["data"][0]
            assert offset % array.itemsize == 0


def test_what_is_decoded_can_be_written_into_where_the_buffer_can():
    blob = encode({"x": np.zeros(3, np.float32)}, {})
    buffer = bytearray(blob)
    decode(buffer)[0]["x"][:] = 1
    assert buffer[-12:] == np.ones(3, np.float32).tobytes()
    assert not decode(blob)[0]["x"].flags.writeable


def test_the_same_arrays_give_the_same_bytes_in_whatever_order_they_come():
    tensors = {"b": np.zeros(2, np.float32), "a": np.ones(3, np.float32), "c": np.ones(1, np.float64)}
    assert encode(tensors, {}) == encode(dict(reversed(tensors.items())), {})


ENVELOPE = Envelope(
    sender=3,
    receiver=4,
    round=7,
    kind="activations",
    about={"digest": "ab", "batches_left": 2, "peers": [1, 2]},
    arrays={"activations": np.arange(6, dtype=np.float32).reshape(2, 3), "labels": np.array([1, 0])},
    arrives_s=1 / 3,
)


def test_an_envelope_comes_back_as_it_was():
    found = decode_envelope(encode_envelope(ENVELOPE))
    for name in ("sender", "receiver", "round", "kind", "about", "arrives_s", "num_bytes"):
        assert getattr(found, name) == getattr(ENVELOPE, name)
    assert_same(found.arrays, ENVELOPE.arrays)


BLOB = encode_envelope(ENVELOPE)


@pytest.mark.parametrize("length", [*range(0, 300, 7), *range(len(BLOB) - 33, len(BLOB))])
def test_a_truncated_envelope_is_refused_in_one_line(length):
    assert f"of {length} bytes" in refused(BLOB[:length], decode_envelope)


@pytest.mark.parametrize("length", [len(BLOB), 100_000_001, 2**31, 2**63, 2**64 - 1])
def test_a_header_that_does_not_fit_is_refused_in_one_line(length):
    line = refused(length.to_bytes(8, "little") + BLOB[8:])
    assert f"a header of {length} bytes does not fit" in line


@pytest.mark.parametrize(
    "blob",
    [
        packed(None),
        packed(3),
        packed("text"),
        packed(True),
        packed([]),
        packed({}),
        packed({"__metadata__": None}),
        packed({"__metadata__": []}),
        packed({"__metadata__": {}}),
        packed({"__metadata__": {"about": 3}}),
        packed({"__metadata__": {"about": "{"}}),
        packed(b"\xff\xfe"),
        packed(b"{"),
        packed(b"[" * 100_000),
        packed({"__metadata__": {"about": "[" * 100_000}}),
        packed(b'{"__metadata__": {"about": "{}"}, "a": ' + b"9" * 5000 + b"}"),
    ],
    ids=[
        "null", "number", "text", "true", "list", "empty", "no metadata", "metadata list", "no about",
        "about a number", "about no JSON", "no text", "no JSON", "deep", "deep about", "long number",
    ],
)  # fmt: skip
def test_a_header_of_another_kind_is_refused_in_one_line(blob):
    assert refused(blob).startswith(f"corrupt envelope of {len(blob)} bytes: ")


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        {},
        {"dtype": "F32", "shape": [2]},
        {"dtype": "F33", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 7]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 12]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 16]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0.0, 8.0]},
        {"dtype": "F32", "shape": [2], "data_offsets": "08"},
        {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [1] * 100, "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [10**30, 0], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": None, "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]},
    ],
    ids=lambda entry: json.dumps(entry)[:60],
)
def test_an_entry_of_another_kind_is_refused_in_one_line(entry):
    refused(with_entry(entry))


@pytest.mark.parametrize(
    ("ranges", "reason"),
    [
        ([[0, 8], [0, 8]], "overlap or leave a hole at byte 0"),
        ([[0, 8], [4, 12]], "overlap or leave a hole at byte 4"),
        ([[4, 8], [8, 16]], "overlap or leave a hole at byte 0"),
        ([[0, 4], [8, 16]], "overlap or leave a hole at byte 4"),
        ([[0, 4], [4, 12]], "fill 12 of 16 bytes"),
        ([[0, 8], [8, 20]], "fill 20 of 16 bytes"),
        ([], "fill 0 of 16 bytes"),
    ],
)
def test_tensors_fill_the_data_without_overlap_and_without_holes(ranges, reason):
    """Arrays are views: with an overlap, what a phase writes into one array would change another."""
    entries = {
        f"t{i}": {"dtype": "F32", "shape": [(stop - start) // 4], "data_offsets": [start, stop]}
        for i, (start, stop) in enumerate(ranges)
    }
    assert reason in refused(packed({"__metadata__": {"about": "{}"}, **entries}, bytes(16)))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [False, 8]},
    ],
)
def test_a_truth_value_is_no_whole_number(entry):
    refused(with_entry(entry))


def test_a_truth_value_that_is_neither_is_refused():
    """NumPy and torch do not agree on what a bool of byte 2 is."""
    entry = {"dtype": "BOOL", "shape": [8], "data_offsets": [0, 8]}
    assert decode(with_entry(entry, bytes([0, 1] * 4)))[0]["a"].tolist() == [False, True] * 4
    assert "other than 0 and 1" in refused(with_entry(entry, bytes([0, 1, 2, 0, 0, 0, 0, 0])))


def test_a_header_longer_than_the_bound_is_refused_before_it_is_read():
    blob = packed({"__metadata__": {"about": "{}"}})
    decode(blob, len(blob) - 8)
    assert "does not fit" in refused(blob, lambda blob: decode(blob, len(blob) - 9))


def test_what_a_peer_sent_does_not_make_a_long_line():
    entry = {"dtype": "F32", "shape": [9], "data_offsets": [36, 0]}
    refused(with_entry(entry, name="x" * 100_000))
    refused(encode({}, {**ADDRESS, "sender": "x" * 100_000}), decode_envelope)


def test_a_name_with_a_line_break_does_not_break_the_line():
    refused(with_entry({"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}, name="one\ntwo\r\nthree"))


ADDRESS = {"sender": 3, "receiver": 4, "round": 7, "kind": "profile", "about": {}, "arrives_s": 0.5}


@pytest.mark.parametrize(
    "address",
    [
        None,
        3,
        [],
        {},
        {name: value for name, value in ADDRESS.items() if name != "sender"},
        {**ADDRESS, "more": 1},
        {**ADDRESS, "arrays": {}},
    ],
)
def test_facts_that_are_no_address_are_refused_in_one_line(address):
    assert refused(encode({}, address), decode_envelope).startswith("not an envelope: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sender", "3"),
        ("sender", None),
        ("sender", True),
        ("receiver", [4]),
        ("round", 1.5),
        ("kind", 5),
        ("kind", None),
        ("about", []),
        ("about", "facts"),
        ("arrives_s", "soon"),
        ("arrives_s", None),
    ],
)
def test_an_address_of_another_kind_is_refused_in_one_line(name, value):
    """Or else it fails far from here, as an AttributeError in the phase that reads it."""
    refused(encode({}, {**ADDRESS, name: value}), decode_envelope)


def survive(blob, decoder=decode_envelope):
    """Decode bytes that anything may have happened to: return what comes out, or None for one line."""
    line = None
    try:
        return decoder(blob)
    except RunError as error:
        line = str(error)
    assert len(line.splitlines()) == 1
    return None


@LAW
@given(st.binary(max_size=200))
def test_random_bytes_are_an_envelope_or_one_line(blob):
    assert survive(blob) is None
    survive(len(blob).to_bytes(8, "little") + blob)


@settings(LAW, max_examples=400)
@given(st.data())
def test_a_mutated_envelope_is_an_envelope_or_one_line(data):
    blob = bytearray(BLOB)
    for _ in range(data.draw(st.integers(1, 4), "mutations")):
        start = data.draw(st.integers(0, len(blob)), "start")
        stop = data.draw(st.integers(start, min(start + 20, len(blob))), "stop")
        piece = st.binary(max_size=6) | st.text(string.digits + '[]{}":,-. naeulst', max_size=6).map(
            str.encode
        )
        blob[start:stop] = data.draw(piece, "piece")
    survive(blob)


@LAW
@given(JSON, JSON, st.binary(max_size=32))
def test_a_header_of_random_json_is_an_envelope_or_one_line(entry, address, body):
    survive(packed(entry, body))
    survive(packed({"__metadata__": {"about": json.dumps(address)}, "a": entry}, body))


@settings(LAW, max_examples=300)
@given(
    st.sampled_from(["F32", "U8", "BOOL", "F64"]) | JSON,
    st.lists(st.integers(-1, 4) | st.integers(), max_size=3) | JSON,
    st.sampled_from([[0, 0], [0, 4], [8, 16], [0, 16]]) | st.lists(st.integers(-1, 17), max_size=3) | JSON,
)
def test_a_random_entry_is_an_array_or_one_line(dtype, shape, offsets):
    entry = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    found = survive(with_entry(entry, bytes(16)), decode)
    if found is not None:
        assert list(found[0]["a"].shape) == shape, "the shape that the header names, not another that fits"


def test_a_file_is_read_into_a_buffer_that_can_be_written(tmp_path):
    path = tmp_path / "new" / "folders" / "state.safetensors"
    write_file(path, BLOB)
    blob = read_file(path)
    assert isinstance(blob, bytearray)
    assert blob == BLOB
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "state"
    write_file(path, b"old and long")
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_and_no_part_is_left_where_writing_fails(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "state"
    write_file(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the disk is full after 1000 bytes
    try:
        with pytest.raises(OSError, match="too large"):
            write_file(path, b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_part_is_left_where_the_name_cannot_be_taken(tmp_path):
    (tmp_path / "state" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="state"):
        write_file(tmp_path / "state", b"new")
    assert list(tmp_path.iterdir()) == [tmp_path / "state"]
