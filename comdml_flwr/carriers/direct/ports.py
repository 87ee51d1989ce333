"""What the agreement between peers needs of the world: a network and a clock, as two small protocols.

The real ones are the transport (transport/grpc.py) and `RealClock`. In a simulation both are virtual,
and the same code runs through minutes of faults in milliseconds.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Protocol

from comdml_flwr.core.messages import Envelope


class PeerTransport(Protocol):
    """Moves envelopes between an agent and its peers, in order, each once, and tells who is gone."""

    def send(self, envelope: Envelope, timeout_s: float) -> None:
        """Queue an envelope for its receiver, and wait for room as long as `timeout_s`.

        Raises
        ------
        PeerGoneError, OverdueError
            The receiver is gone, or there was no room in time.
        """

    def receive(self, timeout_s: float) -> Envelope | None:
        """Return the next envelope that came; None when none comes in time."""

    def flush(self, timeout_s: float, peers: Iterable[int] | None = None) -> None:
        """Wait until the mail for these peers (by default all) has arrived.

        Raises
        ------
        PeerGoneError, OverdueError
            A peer is gone, or its mail did not arrive in time.
        """

    def watch(self, peers: Iterable[int]) -> None:
        """Find out when one of these peers goes, even without mail for it; try again one that is gone."""

    @property
    def gone(self) -> Mapping[int, str]:
        """Why peers are gone, by agent: those out of reach for longer than the patience."""

    def set_patience(self, patience_s: float) -> None:
        """Say how long a peer may be out of reach, from now on, before it is gone."""

    def set_rounds(self, first: int, last: int) -> None:
        """Take envelopes of these rounds only, both included."""


class WallClock(Protocol):
    """Measures how long things take, and lets time pass."""

    def now_s(self) -> float:
        """Return the time since some fixed moment, in seconds; it never goes back."""

    def sleep(self, seconds: float) -> None:
        """Return after this time."""


class RealClock:
    """The machine's own monotonic clock."""

    def now_s(self) -> float:
        """Return the seconds since some moment before this process began."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let this thread rest."""
        time.sleep(seconds)


REAL_CLOCK = RealClock()
