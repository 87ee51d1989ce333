"""Counts connections on which nobody proved to be a member.

gRPC ends a TLS handshake that fails (a foreign certificate, or none) before anything of ours hears of it. But
it asks for the server's certificate at the beginning of each handshake, and a member begins a stream right
after it. So what has begun and has brought no stream after a while was refused.
"""

import threading
import time
from collections import deque

from comdml_flwr.carriers.transport.refusals import Refusals
from comdml_flwr.core.errors import RefusedError

_MOST_KNOWN = 1000  # connections, the last ones, that are known to have brought a stream


class HandshakeMonitor:
    """Counts handshakes that failed.

    Parameters
    ----------
    refusals : Refusals
        Where they are counted, as of nobody that is known.
    patience_s : float
        How long a handshake may take until its stream begins.
    """

    def __init__(self, refusals: Refusals, patience_s: float) -> None:
        self._refusals, self._patience_s = refusals, patience_s
        self._lock = threading.Lock()
        self._begun_s: deque[float] = deque()
        self._came_in: deque[str] = deque(maxlen=_MOST_KNOWN)
        self._num_old, self._num_came_in, self._num_refused = 0, 0, 0

    def handshake_began(self) -> None:
        """Note that somebody has connected."""
        with self._lock:
            self._begun_s.append(time.monotonic())

    def stream_began(self, connection: str) -> None:
        """Note a stream; `connection` is the address from which it came, the same for all of a connection."""
        with self._lock:
            if connection not in self._came_in:
                self._came_in.append(connection)
                self._num_came_in += 1

    def count_refused(self) -> None:
        """Count those whose time is over."""
        with self._lock:
            now = time.monotonic()
            while self._begun_s and now - self._begun_s[0] > self._patience_s:
                self._begun_s.popleft()
                self._num_old += 1
            fresh = max(0, self._num_old - self._num_came_in - self._num_refused)
            self._num_refused += fresh
        for _ in range(fresh):
            detail = "a connection on which nobody proved to be one: a foreign certificate, or none"
            self._refusals.add(RefusedError("not a member", detail), None)
