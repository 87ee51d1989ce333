"""Mail that was received and is in use: how much of each sender, found without asking those who use it.

A carrier keeps mail until its phase comes, and an agent uses arrays of it in place. So what a sender has here
ends when nobody refers to it any more: to the envelope for its header, and to the buffer that it came in for
its arrays. Python tells of both. As long as a sender has more than its bound, its stream is not read.
"""

import weakref
from collections import Counter, deque

import numpy as np

from comdml_flwr.core.messages import Envelope


class KeptMail:
    """Counts what is in use of each sender.

    Parameters
    ----------
    max_bytes : int
        How much of one sender may be in use before more of it comes in.
    max_header_bytes : int
        How much of that may be headers, which as Python objects take up to 40 times as much.
    """

    def __init__(self, max_bytes: int, max_header_bytes: int) -> None:
        self._max_bytes, self._max_header_bytes = max_bytes, max_header_bytes
        self._bytes: Counter[int] = Counter()
        self._header_bytes: Counter[int] = Counter()
        self._freed: deque[tuple[Counter[int], int, int]] = deque()

    def add(self, envelope: Envelope, num_bytes: int) -> None:
        """Count an envelope, of this length with its header, until it is not used any more."""
        of_arrays = envelope.num_bytes
        self._watch(envelope, self._header_bytes, envelope.sender, num_bytes - of_arrays)
        if of_arrays:
            self._watch(_buffer_of(envelope), self._bytes, envelope.sender, num_bytes)

    def has_room(self, sender: int) -> bool:
        """Tell whether more of a sender may come in."""
        while self._freed:
            counts, agent, num_bytes = self._freed.popleft()
            counts[agent] -= num_bytes
        return self._bytes[sender] <= self._max_bytes and self._header_bytes[sender] <= self._max_header_bytes

    def _watch(self, used: object, counts: Counter[int], sender: int, num_bytes: int) -> None:
        """Count bytes until an object is gone; whenever that is, its thread is not held up by a lock."""
        counts[sender] += num_bytes
        weakref.finalize(used, self._freed.append, (counts, sender, num_bytes)).atexit = False


def _buffer_of(envelope: Envelope) -> object:
    """Return what owns the memory of an envelope's arrays."""
    base: object = next(iter(envelope.arrays.values()))
    while True:
        if isinstance(base, np.ndarray) and base.base is not None:
            base = base.base
        elif isinstance(base, memoryview):
            base = base.obj
        else:
            return base
