"""Envelopes and agent states as bytes: the safetensors layout, decoded in place.

Layout (https://github.com/huggingface/safetensors): eight bytes with the header's length, the header as JSON
(`name -> dtype, shape, data_offsets` and `__metadata__`), then the tensors one behind the other. Decoding
gives arrays that are views of the bytes received: nothing is copied and nothing is executed.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import UnionType

import numpy as np

from comdml_flwr.errors import RunError
from comdml_flwr.messages import Array, Envelope, Json

_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_NAMES: dict[np.dtype[np.generic], str] = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_ADDRESS: dict[str, type | UnionType] = {
    "sender": int,
    "receiver": int,
    "round": int,
    "kind": str,
    "arrives_s": int | float,
    "about": dict,
}
_MAX_HEADER_BYTES = 100_000_000  # the safetensors format's own limit


def encode(arrays: Mapping[str, Array], about: Mapping[str, Json]) -> bytes:
    """Return arrays and facts as one safetensors blob; one copy of each array."""
    header: dict[str, Json] = {"__metadata__": {"about": json.dumps(about)}}
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
    return b"".join((len(text).to_bytes(8, "little"), text, *chunks))


def decode(blob: bytes | bytearray | memoryview) -> tuple[dict[str, Array], dict[str, Json]]:
    """Return the arrays (views of `blob`; torch wants it to be a writable buffer) and the facts.

    Raises
    ------
    RunError
        The blob is no safetensors blob: truncated, oversized or corrupt.
    """
    try:
        return _decode(memoryview(blob))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"corrupt envelope of {len(blob)} bytes: {reason}") from error


def _decode(view: memoryview) -> tuple[dict[str, Array], dict[str, Json]]:
    length = int.from_bytes(view[:8], "little")
    if len(view) < 8 or length > min(len(view) - 8, _MAX_HEADER_BYTES):
        raise ValueError(f"a header of {length} bytes does not fit")
    header = json.loads(bytes(view[8 : 8 + length]))
    if not isinstance(header, dict):
        raise TypeError("the header is no table")
    about = json.loads(header.pop("__metadata__")["about"])
    body = view[8 + length :]
    return {name: _array(name, entry, body) for name, entry in header.items()}, about


def _array(name: str, entry: Mapping[str, Json], body: memoryview) -> Array:
    start, end = _whole_numbers(entry["data_offsets"])
    shape = _whole_numbers(entry["shape"])
    if not start <= end <= len(body):
        raise ValueError(f"{name} lies outside the data")
    array: Array = np.frombuffer(body[start:end], dtype=_DTYPES[str(entry["dtype"])])
    return array.reshape(shape)


def _whole_numbers(values: Json) -> list[int]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list")
    numbers = [value for value in values if isinstance(value, int) and value >= 0]
    if len(numbers) != len(values):
        raise ValueError(f"{values!r} is no list of whole numbers >= 0")
    return numbers


def encode_envelope(envelope: Envelope) -> bytes:
    """Return an envelope as bytes."""
    address: dict[str, Json] = {
        "sender": envelope.sender,
        "receiver": envelope.receiver,
        "round": envelope.round,
        "kind": envelope.kind,
        "arrives_s": envelope.arrives_s,
        "about": dict(envelope.about),
    }
    return encode(envelope.arrays, address)


def decode_envelope(blob: bytes | bytearray | memoryview) -> Envelope:
    """Return the envelope in `blob`; its arrays are views of it.

    Raises
    ------
    RunError
        The bytes are not those of an envelope.
    """
    arrays, address = decode(blob)
    if not isinstance(address, dict) or address.keys() != _ADDRESS.keys():
        raise RunError(f"not an envelope: its address must hold {', '.join(_ADDRESS)}")
    for name, kinds in _ADDRESS.items():
        if not isinstance(address[name], kinds) or isinstance(address[name], bool):
            raise RunError(f"not an envelope: {name} = {address[name]!r}")
    return Envelope(arrays=arrays, **address)  # type: ignore[arg-type]  # the loop has looked


def read_file(path: Path) -> bytearray:
    """Read a file into a writable buffer, as `decode` likes it."""
    with path.open("rb") as file:
        blob = bytearray(os.fstat(file.fileno()).st_size)
        file.readinto(blob)
    return blob


def write_file(path: Path, blob: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(blob)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
