"""Mail that has come and waits to be received, bounded in bytes for each sender."""

import threading
from collections import Counter, deque
from collections.abc import Callable

from comdml_flwr.core.messages import Envelope


class Inbox:
    """Envelopes in the order in which they became complete.

    Parameters
    ----------
    bytes_per_sender : int
        How much of one sender's mail may be here, that which is just coming in included; a longer envelope
        may come when nothing else of its sender is here.
    """

    def __init__(self, bytes_per_sender: int) -> None:
        self._bound = bytes_per_sender
        self._changed = threading.Condition()
        self._mail: deque[tuple[Envelope, int]] = deque()
        self._held: Counter[int] = Counter()

    def reserve(self, sender: int, num_bytes: int, is_over: Callable[[], bool]) -> bool:
        """Wait for room for an envelope, until `is_over` (asked when `wake` is called); tell if there is."""

        def has_room() -> bool:
            return not self._held[sender] or self._held[sender] + num_bytes <= self._bound

        with self._changed:
            self._changed.wait_for(lambda: is_over() or has_room())
            if is_over():
                return False
            self._held[sender] += num_bytes
            return True

    def release(self, sender: int, num_bytes: int) -> None:
        """Give back room in which nothing came to lie."""
        with self._changed:
            self._held[sender] -= num_bytes
            self._changed.notify_all()

    def put(self, envelope: Envelope, num_bytes: int) -> None:
        """Lay an envelope into the room that was reserved for it."""
        with self._changed:
            self._mail.append((envelope, num_bytes))
            self._changed.notify_all()

    def take(self, timeout_s: float) -> Envelope | None:
        """Return the next envelope; None when none came in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._mail, timeout_s):
                return None
            envelope, num_bytes = self._mail.popleft()
            self._held[envelope.sender] -= num_bytes
            self._changed.notify_all()
            return envelope

    def wake(self) -> None:
        """Let those who wait for room look whether it is over."""
        with self._changed:
            self._changed.notify_all()
