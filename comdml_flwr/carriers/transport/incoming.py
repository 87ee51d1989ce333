"""The side that is dialled: who may come in, and what becomes of each frame.

A sender has one stream at a time; a new one ends the old, whose last envelope it waits for. The answers on a
stream tell the sender what became of each envelope; a stream that is ended for a reason has it in its status.
"""

import hmac
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias

import grpc

from comdml_flwr.carriers.transport.credentials import agent_uri
from comdml_flwr.carriers.transport.frames import Assembler
from comdml_flwr.carriers.transport.handshakes import HandshakeMonitor
from comdml_flwr.carriers.transport.members import Limits
from comdml_flwr.carriers.transport.receive_buffer import Inbox
from comdml_flwr.carriers.transport.refusals import Refusals
from comdml_flwr.core.errors import RefusedError
from comdml_flwr.core.messages import Envelope

SERVICE, METHOD = "comdml.Mail", "Deliver"
RUN, SENDER, RECEIVER, ACCEPTED = "comdml-run", "comdml-sender", "comdml-receiver", "comdml-accepted"
ANSWER = struct.Struct("<QB")  # sequence number, and one of these:
DELIVERED, WRONG_ROUND, UNKNOWN_KIND = 0, 1, 2

_HANDOVER_S = 5.0  # for the old stream of a sender to end when a new one begins
_Context: TypeAlias = grpc.ServicerContext


@dataclass(slots=True, eq=False)
class _Stream:
    sender: int
    context: _Context
    assembler: Assembler | None = None
    reserved_bytes: int = 0
    last_frame_s: float = field(default_factory=time.monotonic)
    is_cancelled: bool = False  # by us, for a reason that has been told
    is_waiting: bool = False  # for room in the inbox: no fault of the sender
    is_over: threading.Event = field(default_factory=threading.Event)  # the sender has gone, or must
    has_ended: threading.Event = field(default_factory=threading.Event)  # and nothing is done for it any more


class Incoming:
    """Takes streams of mail; a gRPC service.

    Parameters
    ----------
    own : int
        The agent that listens.
    run_token : str
        Names the run.
    members : frozenset[int]
        Who may send.
    is_secure : bool
        Whether senders have certificates; without, they are who they say.
    inbox : Inbox
        Where the mail goes.
    refusals : Refusals
        Where what is refused is counted.
    handshakes : HandshakeMonitor
        Told of each connection that brings a stream.
    limits : Limits
        Bounds of memory and time.
    kinds : Collection[str]
        The kinds of mail that are taken; empty: all.
    """

    def __init__(
        self,
        *,
        own: int,
        run_token: str,
        members: frozenset[int],
        is_secure: bool,
        inbox: Inbox,
        refusals: Refusals,
        handshakes: HandshakeMonitor,
        limits: Limits,
        kinds: Collection[str] = (),
    ) -> None:
        self._kinds = frozenset(kinds)
        self._own, self._run_token, self._members = own, run_token, members
        self._is_secure, self._inbox, self._refusals, self._limits = is_secure, inbox, refusals, limits
        self._handshakes = handshakes
        self._lock = threading.Lock()
        self._streams: dict[int, _Stream] = {}
        self._accepted: dict[int, int] = {}
        self._revoked: set[int] = set()
        self._rounds = (0, (1 << 63) - 1)
        self._refuses: Callable[[bytes], bool] = lambda certificate_pem: False

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the service as gRPC wants it."""
        method: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self._deliver)
        return grpc.method_handlers_generic_handler(SERVICE, {METHOD: method})

    def set_rounds(self, first: int, last: int) -> None:
        """Take envelopes of these rounds only, both included."""
        self._rounds = (first, last)

    def revoke(self, agent: int) -> None:
        """Take nothing of this agent any more, and end its stream."""
        with self._lock:
            self._revoked.add(agent)
            stream = self._streams.get(agent)
        if stream is not None:
            self._cancel(stream)

    def refuse(self, refuses: Callable[[bytes], bool]) -> None:
        """Take nothing by certificates of which this says so, and end the streams that came with one."""
        self._refuses = refuses
        with self._lock:
            streams = list(self._streams.values())
        for stream in streams:
            if self._is_refused(stream.context):
                self._cancel(stream)

    def _is_refused(self, context: _Context) -> bool:
        return any(self._refuses(bytes(pem)) for pem in context.auth_context().get("x509_pem_cert", ()))

    def end_stalled(self) -> None:
        """End the streams that have paused too long in the middle of an envelope."""
        now = time.monotonic()
        with self._lock:
            streams = list(self._streams.values())
        for stream in streams:
            partial = stream.assembler is not None and stream.assembler.is_partial
            if partial and not stream.is_waiting and now - stream.last_frame_s > self._limits.stall_s:
                pause = f"nothing came for {self._limits.stall_s:g} s in the middle of an envelope"
                self._refusals.add(RefusedError("stalled", pause), stream.sender)
                self._cancel(stream)

    def close(self) -> None:
        """End all streams."""
        with self._lock:
            streams = list(self._streams.values())
        for stream in streams:
            self._cancel(stream)

    def _deliver(self, frames: Iterator[bytes], context: _Context) -> Iterator[bytes]:
        peer: int | None = None
        self._handshakes.stream_began(context.peer())
        try:
            peer = self._admit(context)
            stream = self._begin(peer, context)
        except RefusedError as refused:
            self._refuse(refused, peer, context)
        try:
            context.send_initial_metadata(((ACCEPTED, str(self._accepted.get(peer, 0))),))
            yield from self._take(frames, stream)
        except RefusedError as refused:
            if stream.is_cancelled:
                return
            self._refuse(refused, peer, context)
        finally:
            self._end(stream)

    def _admit(self, context: _Context) -> int:
        """Return the sender of a stream, when it may send."""
        said: Mapping[str, str | bytes] = dict(context.invocation_metadata() or ())
        sender = str(said.get(SENDER, ""))
        if not hmac.compare_digest(str(said.get(RUN, "")).encode(), self._run_token.encode()):
            raise RefusedError("another run", f"{SENDER} = {sender}")
        agent = int(sender) if sender.isascii() and sender.isdigit() and len(sender) < 10 else -1
        if agent not in self._members or agent == self._own:
            raise RefusedError("not a member", f"{SENDER} = {sender}")
        if self._is_secure:
            named = {name for name in _certificate_names(context) if name.startswith(agent_uri(0)[:-1])}
            if named != {agent_uri(agent)}:
                raise RefusedError("wrong sender", f"agent {agent}; its certificate names {sorted(named)}")
            if self._is_refused(context):
                raise RefusedError("revoked", f"agent {agent}'s certificate")
        if said.get(RECEIVER) != str(self._own):
            raise RefusedError("wrong receiver", f"agent {said.get(RECEIVER)!r}; this is {self._own}")
        return agent

    def _begin(self, sender: int, context: _Context) -> _Stream:
        stream = _Stream(sender, context)
        with self._lock:
            if sender in self._revoked:
                raise RefusedError("revoked", f"agent {sender}")
            old = self._streams.get(sender)
            self._streams[sender] = stream
        if old is not None:
            self._cancel(old)
            if not old.has_ended.wait(_HANDOVER_S):
                self._end(stream)
                context.abort(grpc.StatusCode.UNAVAILABLE, "the last stream of this sender has not ended")
        if not context.add_callback(lambda: self._wake(stream)):
            stream.is_over.set()
        return stream

    def _take(self, frames: Iterator[bytes], stream: _Stream) -> Iterator[bytes]:
        sender = stream.sender
        assembler = stream.assembler = Assembler(
            last_sequence=self._accepted.get(sender, 0),
            max_envelope_bytes=self._limits.max_envelope_bytes,
            max_header_bytes=self._limits.max_header_bytes,
            reserve=lambda num_bytes: self._reserve(stream, num_bytes),
        )
        for frame in _until_broken(frames):
            envelope = assembler.add(frame)
            stream.last_frame_s = time.monotonic()
            if envelope is not None:
                yield ANSWER.pack(assembler.sequence, self._accept(envelope, stream, assembler.sequence))
        assembler.end()

    def _reserve(self, stream: _Stream, num_bytes: int) -> None:
        stream.is_waiting = True
        has_room = self._inbox.reserve(stream.sender, num_bytes, stream.is_over.is_set)
        stream.is_waiting, stream.last_frame_s = False, time.monotonic()
        if not has_room:
            raise RefusedError("truncated", "the stream broke while it waited for room")
        stream.reserved_bytes = num_bytes

    def _accept(self, envelope: Envelope, stream: _Stream, sequence: int) -> int:
        if envelope.sender != stream.sender:
            raise RefusedError("wrong sender", f"{envelope.sender}; the stream is {stream.sender}'s")
        if envelope.receiver != self._own:
            raise RefusedError("wrong receiver", f"{envelope.receiver}; this is {self._own}")
        self._accepted[stream.sender] = sequence
        num_bytes, stream.reserved_bytes = stream.reserved_bytes, 0
        first, last = self._rounds
        refused, verdict = None, DELIVERED
        if not first <= envelope.round <= last:
            detail = f"{envelope.round}; rounds {first} to {last} are going on"
            refused, verdict = RefusedError("wrong round", detail), WRONG_ROUND
        elif self._kinds and envelope.kind not in self._kinds:
            refused, verdict = RefusedError("unknown kind", envelope.kind), UNKNOWN_KIND
        if refused:
            self._inbox.release(stream.sender, num_bytes)
            self._refusals.add(refused, stream.sender)
        else:
            self._inbox.put(envelope, num_bytes)
        return verdict

    def _refuse(self, refused: RefusedError, peer: int | None, context: _Context) -> NoReturn:
        self._refusals.add(refused, peer)
        is_stranger = refused.reason in ("another run", "not a member", "revoked", "wrong sender")
        status = grpc.StatusCode.PERMISSION_DENIED if is_stranger else grpc.StatusCode.INVALID_ARGUMENT
        context.abort(status, str(refused))

    def _cancel(self, stream: _Stream) -> None:
        stream.is_cancelled = True
        stream.context.cancel()
        self._wake(stream)

    def _wake(self, stream: _Stream) -> None:
        stream.is_over.set()
        self._inbox.wake()

    def _end(self, stream: _Stream) -> None:
        if stream.reserved_bytes:
            self._inbox.release(stream.sender, stream.reserved_bytes)
        with self._lock:
            if self._streams.get(stream.sender) is stream:
                del self._streams[stream.sender]
        stream.has_ended.set()


def _certificate_names(context: _Context) -> list[str]:
    names = context.auth_context().get("x509_subject_alternative_name", ())
    return [bytes(name).decode(errors="replace") for name in names]


def _until_broken(frames: Iterator[bytes]) -> Iterator[bytes]:
    """Give frames until no more come, for whatever reason; the assembler knows if one is missing."""
    while True:
        try:
            yield next(frames)
        except (StopIteration, grpc.RpcError):
            return
