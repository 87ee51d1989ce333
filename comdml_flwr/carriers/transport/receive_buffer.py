"""Mail that has come, bounded for each sender: what waits to be received, and what is still in use then."""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Collection

from comdml_flwr.carriers.transport.kept_mail import KeptMail
from comdml_flwr.core.messages import Envelope

_LOOK_S = 0.05  # how often it is looked whether mail that was in use is not any more


class Inbox:
    """Envelopes in the order in which they became complete.

    Parameters
    ----------
    has_room : Callable[[Collection[int], int], bool]
        Tells whether an envelope of this many bytes may come beside those of its sender that are here or are
        just coming in; see `Limits.has_room`.
    kept : KeptMail
        What is in use after it was received.
    """

    def __init__(self, has_room: Callable[[Collection[int], int], bool], kept: KeptMail) -> None:
        self._has_room, self._kept = has_room, kept
        self._changed = threading.Condition()
        self._mail: deque[tuple[Envelope, int]] = deque()
        self._held: defaultdict[int, list[int]] = defaultdict(list)  # lengths by sender

    def reserve(self, sender: int, num_bytes: int, is_over: Callable[[], bool]) -> bool:
        """Wait for room for an envelope, until `is_over` (asked when `wake` is called); tell if there is."""
        with self._changed:
            held = self._held[sender]
            while not is_over():
                if not self._has_room(held, num_bytes):
                    self._changed.wait()
                elif not self._kept.has_room(sender):
                    self._changed.wait(_LOOK_S)
                else:
                    held.append(num_bytes)
                    return True
            return False

    def release(self, sender: int, num_bytes: int) -> None:
        """Release a reservation that was not used."""
        with self._changed:
            self._held[sender].remove(num_bytes)
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
            self._held[envelope.sender].remove(num_bytes)
            self._kept.add(envelope, num_bytes)
            self._changed.notify_all()
            return envelope

    def wake(self) -> None:
        """Let those who wait for room look whether it is over."""
        with self._changed:
            self._changed.notify_all()
