"""Envelopes and agent states as bytes: the safetensors layout, decoded in place.

Layout (https://github.com/huggingface/safetensors): eight bytes with the header's length, the header as JSON
(`name -> dtype, shape, data_offsets` and `__metadata__`), then the tensors one behind the other. Decoding
gives arrays that are views of the bytes received: nothing is copied and nothing is executed. As the format
says, the tensors fill the data without overlap and without holes.
"""

import json
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from comdml_flwr.core.errors import LONGEST_VALUE, RunError
from comdml_flwr.core.messages import Array, Envelope
from comdml_flwr.core.typed_json import Json, read_as, read_float, read_int, read_ints, read_table, read_text

_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
T = TypeVar("T")
_NAMES: dict[np.dtype[np.generic], str] = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_ADDRESS = ("sender", "receiver", "round", "kind", "arrives_s", "about")
MAX_HEADER_BYTES = 100_000_000  # the safetensors format's own limit


def encode(arrays: Mapping[str, Array], about: Mapping[str, Json]) -> bytes:
    """Return arrays and facts as one safetensors blob; one copy of each array."""
    return b"".join(encode_parts(arrays, about))


def encode_parts(arrays: Mapping[str, Array], about: Mapping[str, Json]) -> list[memoryview]:
    """Return the pieces of a safetensors blob, header first; contiguous arrays are not copied."""
    return layout_parts(arrays, {"about": json.dumps(about)})


def layout_parts(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> list[memoryview]:
    """Return the pieces of a safetensors blob with these metadata; the same input gives the same bytes."""
    header: dict[str, Json] = {"__metadata__": dict(metadata)}
    chunks: list[memoryview] = []
    end = 0
    # Widest items first, so that every array starts at a multiple of its item size.
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])):
        start, end = end, end + array.nbytes
        shape = [int(size) for size in array.shape]
        header[name] = {"dtype": _NAMES[array.dtype], "shape": shape, "data_offsets": [start, end]}
        chunks.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return [memoryview(len(text).to_bytes(8, "little") + text), *chunks]


def decode(
    blob: bytes | bytearray | memoryview, max_header_bytes: int = MAX_HEADER_BYTES
) -> tuple[dict[str, Array], dict[str, Json]]:
    """Return the arrays (views of `blob`; torch wants it to be a writable buffer) and the facts.

    Parameters
    ----------
    blob : bytes, bytearray or memoryview
        What `encode` gave.
    max_header_bytes : int
        The longest header that is read; as Python objects a header takes up to 40 times its length.

    Raises
    ------
    RunError
        The blob is no safetensors blob: truncated, oversized or corrupt.
    """
    try:
        return _decode(memoryview(blob), max_header_bytes)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:LONGEST_VALUE]
        raise RunError(f"corrupt envelope of {len(blob)} bytes: {reason}") from error


def _decode(view: memoryview, max_header_bytes: int) -> tuple[dict[str, Array], dict[str, Json]]:
    length = int.from_bytes(view[:8], "little")
    if len(view) < 8 or length > min(len(view) - 8, max_header_bytes):
        raise ValueError(f"a header of {length} bytes does not fit")
    header = json.loads(bytes(view[8 : 8 + length]))
    if not isinstance(header, dict):
        raise TypeError("the header is no table")
    about = json.loads(header.pop("__metadata__")["about"])
    body = view[8 + length :]
    _check_tiling([_offsets(name, entry) for name, entry in header.items()], len(body))
    return {name: _array(name, entry, body) for name, entry in header.items()}, about


def _check_tiling(offsets: list[tuple[int, int]], num_bytes: int) -> None:
    """Refuse tensors that share bytes, so that writing into one changes another, and bytes of no tensor."""
    filled = 0
    for start, end in sorted(offsets):
        if start != filled:
            raise ValueError(f"the tensors overlap or leave a hole at byte {min(start, filled)} of the data")
        filled = end
    if filled != num_bytes:
        raise ValueError(f"the tensors fill {filled} of {num_bytes} bytes of data")


def _offsets(name: str, entry: Mapping[str, Json]) -> tuple[int, int]:
    start, end = _sizes(entry["data_offsets"])
    if start > end:
        raise ValueError(f"{name} ends before it begins")
    return start, end


def _array(name: str, entry: Mapping[str, Json], body: memoryview) -> Array:
    start, end = _offsets(name, entry)
    data = body[start:end]
    array: Array = np.frombuffer(data, dtype=_DTYPES[str(entry["dtype"])])
    if array.dtype == np.bool_ and np.frombuffer(data, np.uint8).max(initial=0) > 1:
        raise ValueError(f"{name} holds a truth value other than 0 and 1")
    return array.reshape(_sizes(entry["shape"]))


def _sizes(values: Json) -> tuple[int, ...]:
    sizes = read_ints(values)
    if min(sizes, default=0) < 0:
        raise ValueError(f"{values!r} is no list of whole numbers >= 0")
    return sizes


def encode_envelope(envelope: Envelope) -> bytes:
    """Return an envelope as bytes."""
    return b"".join(envelope_parts(envelope))


def envelope_parts(envelope: Envelope) -> list[memoryview]:
    """Return the pieces of an envelope's bytes, header first; contiguous arrays are not copied."""
    address: dict[str, Json] = {
        "sender": envelope.sender,
        "receiver": envelope.receiver,
        "round": envelope.round,
        "kind": envelope.kind,
        "arrives_s": envelope.arrives_s,
        "about": dict(envelope.about),
    }
    if envelope.mark is not None:
        address["mark"] = dict(envelope.mark)
    return encode_parts(envelope.arrays, address)


def decode_envelope(
    blob: bytes | bytearray | memoryview, max_header_bytes: int = MAX_HEADER_BYTES
) -> Envelope:
    """Return the envelope in `blob`; its arrays are views of it.

    Raises
    ------
    RunError
        The bytes are not those of an envelope.
    """
    arrays, address = decode(blob, max_header_bytes)
    if not isinstance(address, dict) or address.keys() - {"mark"} != {*_ADDRESS}:
        raise RunError(f"not an envelope: its address must hold {', '.join(_ADDRESS)}")

    def read(read_one: Callable[[Json], T], name: str) -> T:
        return read_as(read_one, address[name], f"not an envelope: {name}")

    return Envelope(
        sender=read(read_int, "sender"),
        receiver=read(read_int, "receiver"),
        round=read(read_int, "round"),
        kind=read(read_text, "kind"),
        arrives_s=read(read_float, "arrives_s"),
        about=read(read_table, "about"),
        arrays=arrays,
        mark=read(read_table, "mark") if "mark" in address else None,
    )
