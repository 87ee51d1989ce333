"""How long sending took, told from what is sent anyway: no envelope more, no clock but one's own."""

import time
from dataclasses import dataclass

LONG_BYTES = 1 << 16  # shorter ones tell the round trip, not the bandwidth


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How long sending long envelopes to a peer took.

    Parameters
    ----------
    num_bytes : int
        Of the envelopes whose answers have come.
    busy_s : float
        Time in which one of them was under way (measured), up to its answer.
    num_starts : int
        How often nothing was under way before one of them: then the time has a round trip in it.
    """

    num_bytes: int = 0
    busy_s: float = 0.0
    num_starts: int = 0


class TrafficMeter:
    """Adds up the envelopes of one sender to one peer, whose answers come in the order of sending."""

    def __init__(self) -> None:
        self._traffic, self._last_answer_s = Traffic(), 0.0

    def answered(self, num_bytes: int, began_s: float) -> None:
        """Take in that an envelope, whose sending began then (`time.monotonic()`), has its answer now."""
        now, before, last = time.monotonic(), self._traffic, self._last_answer_s
        self._last_answer_s = now
        if num_bytes >= LONG_BYTES:
            self._traffic = Traffic(
                num_bytes=before.num_bytes + num_bytes,
                busy_s=before.busy_s + now - max(began_s, last),
                num_starts=before.num_starts + (began_s > last),
            )

    def take(self) -> Traffic:
        """Return what was added up, and begin again at 0."""
        traffic, self._traffic = self._traffic, Traffic()
        return traffic
