"""One envelope as frames, and frames as an envelope again, in one receive buffer.

The first frame begins with a head of 20 bytes: a mark, the sequence number and the length of the envelope in
bytes; the envelope (wire.py) follows and goes on in the next frames. The receiver makes one buffer of that
length, fills it, and decodes in place. It makes none that is longer than its bound allows.
"""

import struct
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.core.errors import RefusedError, RunError
from comdml_flwr.core.messages import Envelope
from comdml_flwr.core.wire import decode_envelope

_HEAD = struct.Struct("<4sQQ")
_MARK = b"CmF1"
HEAD_BYTES = _HEAD.size


def cut(parts: Sequence[memoryview], sequence: int, frame_bytes: int) -> Iterator[bytes]:
    """Cut an envelope into frames; each byte is copied once, when its frame is made.

    Parameters
    ----------
    parts : Sequence[memoryview]
        The envelope, as `wire.envelope_parts` gives it.
    sequence : int
        Its number in its stream, from 1.
    frame_bytes : int
        Length of all frames but the last.
    """
    head = _HEAD.pack(_MARK, sequence, sum(len(part) for part in parts))
    pieces, room = [memoryview(head)], frame_bytes - HEAD_BYTES
    for part in parts:
        start = 0
        while start < len(part):
            piece = part[start : start + room]
            pieces.append(piece)
            start, room = start + len(piece), room - len(piece)
            if not room:
                yield b"".join(pieces)
                pieces, room = [], frame_bytes
    if pieces:
        yield b"".join(pieces)


class Assembler:
    """Puts the frames of one stream together.

    Parameters
    ----------
    last_sequence : int
        The number that was accepted last from this sender; the next is one more.
    max_envelope_bytes, max_header_bytes : int
        Bounds of an envelope and of the JSON in front of it.
    reserve : Callable[[int], None]
        Called with the declared length before the buffer is made; waits for room, or raises.
    """

    def __init__(
        self,
        *,
        last_sequence: int,
        max_envelope_bytes: int,
        max_header_bytes: int,
        reserve: Callable[[int], None] = lambda num_bytes: None,
    ) -> None:
        self.sequence = last_sequence
        self._max_envelope_bytes = max_envelope_bytes
        self._max_header_bytes = max_header_bytes
        self._reserve = reserve
        self._buffer: NDArray[np.uint8] | None = None
        self._filled = 0

    @property
    def is_partial(self) -> bool:
        """Whether more frames of an envelope are to come."""
        return self._buffer is not None

    def add(self, frame: bytes) -> Envelope | None:
        """Take a frame; return the envelope when it was the last one.

        Raises
        ------
        RefusedError
            The bytes are not those of an envelope that may come now.
        """
        data = memoryview(frame)
        if self._buffer is None:
            self._begin(frame)
            data = data[HEAD_BYTES:]
        elif not frame:
            raise RefusedError("corrupt", "an empty frame")
        assert self._buffer is not None
        end = self._filled + len(data)
        if end > len(self._buffer):
            raise RefusedError("corrupt", f"{end} bytes in an envelope of {len(self._buffer)}")
        self._buffer.data[self._filled : end] = data
        self._filled = end
        return self._decode() if end == len(self._buffer) else None

    def end(self) -> None:
        """Say that no more frames come; RefusedError in the middle of an envelope."""
        if self._buffer is not None:
            raise RefusedError("truncated", f"{self._filled} of {len(self._buffer)} bytes came")

    def _begin(self, frame: bytes) -> None:
        if len(frame) < HEAD_BYTES:
            raise RefusedError("truncated", f"a first frame of {len(frame)} bytes")
        mark, sequence, num_bytes = _HEAD.unpack_from(frame)
        if mark != _MARK:
            raise RefusedError("corrupt", f"a first frame begins with {mark!r}")
        if sequence <= self.sequence:
            raise RefusedError("replayed", f"number {sequence} after {self.sequence}")
        if sequence > self.sequence + 1:
            raise RefusedError("corrupt", f"number {sequence} after {self.sequence}")
        if num_bytes > self._max_envelope_bytes:
            bound = self._max_envelope_bytes
            raise RefusedError("oversized", f"an envelope of {num_bytes} bytes; at most {bound}")
        if not num_bytes:
            raise RefusedError("corrupt", "an envelope of 0 bytes")
        self._reserve(num_bytes)
        try:
            self._buffer = np.empty(num_bytes, np.uint8)  # a bytearray would be zeroed first
        except MemoryError:
            raise RefusedError("oversized", f"no memory for an envelope of {num_bytes} bytes") from None
        self.sequence, self._filled = sequence, 0

    def _decode(self) -> Envelope:
        assert self._buffer is not None
        buffer, self._buffer = self._buffer.data, None
        try:
            return decode_envelope(buffer, self._max_header_bytes)
        except RunError as error:
            raise RefusedError("corrupt", str(error)) from error
