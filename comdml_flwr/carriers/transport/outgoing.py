"""The side that dials: mail that waits for one peer, and the stream on which it goes.

An envelope stays in the queue until the peer has answered that it lies in its inbox, so that it can be sent
again when the stream breaks. A thread of its own dials, and dials again, as long as there is mail.
"""

import logging
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import grpc

from comdml_flwr.carriers.transport.frames import cut
from comdml_flwr.carriers.transport.incoming import ACCEPTED, ANSWER, DELIVERED
from comdml_flwr.carriers.transport.members import Limits
from comdml_flwr.carriers.transport.traffic import Traffic, TrafficMeter
from comdml_flwr.core.errors import ComdmlError, OverdueError, PeerGoneError

log = logging.getLogger(__name__)

_FINAL = (
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
_LAST_SEQUENCE = 1 << 62  # they are of 64 bits
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


class Call(Protocol):
    """A stream to a peer, as gRPC gives it: its answers, how it began, and how to end it."""

    def __iter__(self) -> Iterator[bytes]:
        """Give the answers."""

    def initial_metadata(self) -> object:
        """Return what the peer said at the beginning."""

    def cancel(self) -> bool:
        """End it."""


@dataclass(slots=True, eq=False)
class _Queued:
    parts: list[memoryview]
    num_bytes: int
    sequence: int = 0
    began_s: float = 0.0  # when its sending began


@dataclass(slots=True, eq=False)
class _Stream:
    call: Call | None = None
    is_open: bool = False
    num_answers: int = 0
    is_over: bool = False


class Outgoing:
    """Mail for one peer.

    Parameters
    ----------
    peer : int
        Its agent id.
    dial : Callable[[Iterator[bytes]], Call]
        Begins a stream that sends these frames.
    limits : Limits
        Bounds of memory and time.
    """

    def __init__(self, peer: int, dial: Callable[[Iterator[bytes]], Call], limits: Limits) -> None:
        self.peer = peer
        self._dial, self._limits = dial, limits
        self._patience_s = limits.patience_s
        self._changed = threading.Condition()
        self._waiting: deque[_Queued] = deque()
        self._sent: deque[_Queued] = deque()
        self._last_sequence = 0
        self._num_refused = 0
        self._gone: str | None = None
        self._trouble: tuple[float, str] | None = None
        self._meter = TrafficMeter()
        self._was_reached_s = time.monotonic()
        self._is_watched, self._is_closed = False, False
        self._stream = _Stream(is_over=True)
        self._thread = threading.Thread(target=self._run, name=f"mail to agent {peer}", daemon=True)
        self._thread.start()

    @property
    def gone(self) -> str | None:
        """Why the peer is gone; None while it is not known to be."""
        return self._gone

    @property
    def trouble(self) -> tuple[float, str] | None:
        """Since when (`time.monotonic()`) no stream could be kept open, and why; None while one is."""
        return self._trouble

    @property
    def num_refused(self) -> int:
        """How many envelopes the peer did not want because of their round."""
        return self._num_refused

    def set_patience(self, patience_s: float) -> None:
        """Say how long the peer may be out of reach from now on; how long it was so far does not count."""
        self._was_reached_s = time.monotonic()
        self._patience_s = patience_s

    def take_traffic(self) -> Traffic:
        """Return what sending took since this was last asked."""
        with self._changed:
            return self._meter.take()

    def watch(self) -> None:
        """Keep a stream open even without mail, to hear when the peer goes; try again one that was gone."""
        with self._changed:
            if self._gone is not None:  # a dial that fails now must not count the time before
                self._was_reached_s = time.monotonic()
            self._gone, self._is_watched = None, True
            self._changed.notify_all()

    def put(self, parts: list[memoryview], timeout_s: float) -> None:
        """Queue an envelope; wait for room until the deadline.

        One without arrays never waits: who says that a peer is gone must not be held up by what that peer
        has not taken.
        """
        num_bytes = sum(len(part) for part in parts)

        def may_go_on() -> bool:
            return self._is_finished() or len(parts) == 1 or self._limits.has_room(self._lengths, num_bytes)

        with self._changed:
            if not self._changed.wait_for(may_go_on, timeout_s):
                held = f"{sum(self._lengths)} bytes wait for it"
                raise OverdueError(f"agent {self.peer} took nothing for {timeout_s:g} s; {held}")
            self._raise_if_finished()
            self._waiting.append(_Queued(parts, num_bytes))
            self._changed.notify_all()

    def flush(self, deadline_s: float) -> None:
        """Wait until all mail lies in the peer's inbox, at most until `time.monotonic()` is `deadline_s`."""
        with self._changed:
            left_s = max(0.0, deadline_s - time.monotonic())
            done = self._changed.wait_for(lambda: self._is_finished() or not self._lengths, left_s)
            self._raise_if_finished()
            if not done:
                num_queued = len(self._waiting) + len(self._sent)
                raise OverdueError(f"agent {self.peer} has not taken {num_queued} envelopes by the deadline")

    def give_up(self, reason: str) -> None:
        """Say that the peer is gone, and drop its mail."""
        with self._changed:
            if self._is_finished():
                return
            log.warning("agent %d is gone: %s", self.peer, reason)
            self._gone, self._is_watched = reason, False
            self._waiting.clear()
            self._sent.clear()
            self._end_stream()

    def close(self) -> None:
        """Drop what waits and end the thread."""
        with self._changed:
            self._is_closed = True
            self._end_stream()
        self._thread.join(self._limits.keepalive_s)

    @property
    def _lengths(self) -> list[int]:
        """Lengths in bytes of the envelopes that the peer has not taken yet."""
        return [queued.num_bytes for queued in (*self._sent, *self._waiting)]

    def _end_stream(self) -> None:
        self._stream.is_over = True
        self._changed.notify_all()
        if self._stream.call is not None:
            self._stream.call.cancel()

    def _is_finished(self) -> bool:
        return self._is_closed or self._gone is not None

    def _raise_if_finished(self) -> None:
        if self._gone is not None:
            raise PeerGoneError(self.peer, self._gone)
        if self._is_closed:
            raise ComdmlError("the transport is closed")

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while self._wait_for_work():
            began_s, stream = time.monotonic(), _Stream()
            reason, is_final = self._talk(stream)
            now = time.monotonic()
            if stream.num_answers or (stream.is_open and now - began_s > self._patience_s):
                self._was_reached_s, pause_s = now, _FIRST_PAUSE_S
            self._trouble = self._trouble[0] if self._trouble else now, reason
            with self._changed:  # `watch` comes before or after, not in between
                silent_s = now - self._was_reached_s
                if is_final or silent_s > self._patience_s:
                    self.give_up(reason if is_final else f"nothing of it for {silent_s:.0f} s: {reason}")
                self._changed.wait_for(self._is_finished, pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _wait_for_work(self) -> bool:
        def has_work() -> bool:
            return bool(self._waiting or self._sent or self._is_watched)

        with self._changed:
            if not has_work():
                self._changed.wait_for(lambda: self._is_closed or has_work())
                self._was_reached_s = time.monotonic()
            return not self._is_closed

    def _talk(self, stream: _Stream) -> tuple[str, bool]:
        """Send on one stream until it ends; return why it did, and whether trying again is of no use."""
        try:
            call = self._begin(stream)
            said = dict(call.initial_metadata() or ())  # type: ignore[call-overload]
            if ACCEPTED in said:
                self._resume(stream, int(said[ACCEPTED]))
            for answer in call:
                self._answered(stream, *ANSWER.unpack(answer))
        except grpc.RpcError as error:
            status, reason = _status(error)
            return (f"it refused: {reason}", True) if status in _FINAL else (reason, False)
        except (ValueError, struct.error) as error:
            return f"its answer makes no sense: {error}", True
        finally:
            with self._changed:
                stream.is_over = True
                self._changed.notify_all()
        return "it ended the stream", False

    def _begin(self, stream: _Stream) -> Call:
        with self._changed:
            self._stream = stream
            stream.is_over = self._is_finished()
        call = self._dial(self._frames(stream))
        with self._changed:
            stream.call = call
            if stream.is_over:
                call.cancel()
        return call

    def _resume(self, stream: _Stream, accepted: int) -> None:
        """Forget what the peer has, and send the rest of what was sent before once more."""
        if not 0 <= accepted < _LAST_SEQUENCE:
            raise ValueError(f"{ACCEPTED} = {accepted}")
        with self._changed:
            self._forget(accepted)
            self._waiting.extendleft(reversed(self._sent))
            self._sent.clear()
            self._last_sequence = accepted
            stream.is_open, self._trouble = True, None
            self._changed.notify_all()

    def _answered(self, stream: _Stream, sequence: int, verdict: int) -> None:
        with self._changed:
            stream.num_answers += 1
            if self._sent and self._sent[0].sequence == sequence:
                self._meter.answered(self._sent[0].num_bytes, self._sent[0].began_s)
            self._forget(sequence)
            self._num_refused += verdict != DELIVERED
            self._changed.notify_all()

    def _forget(self, accepted: int) -> None:
        while self._sent and self._sent[0].sequence <= accepted:
            self._sent.popleft()

    def _frames(self, stream: _Stream) -> Iterator[bytes]:
        while (queued := self._next(stream)) is not None:
            yield from cut(queued.parts, queued.sequence, self._limits.frame_bytes)

    def _next(self, stream: _Stream) -> _Queued | None:
        with self._changed:
            self._changed.wait_for(lambda: stream.is_over or (stream.is_open and self._waiting))
            if stream.is_over:
                return None
            queued = self._waiting.popleft()
            self._last_sequence += 1
            queued.sequence, queued.began_s = self._last_sequence, time.monotonic()
            self._sent.append(queued)
            return queued


def _status(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    assert isinstance(error, grpc.Call)  # as all that a call raises
    return error.code(), error.details() or error.code().name
