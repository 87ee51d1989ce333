"""The transport of one member: what it opens, and the verbs with which a carrier uses it."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc

from comdml_flwr.carriers.transport.channels import new_channel, new_server
from comdml_flwr.carriers.transport.credentials import Credentials
from comdml_flwr.carriers.transport.handshakes import HandshakeMonitor
from comdml_flwr.carriers.transport.incoming import METHOD, RECEIVER, RUN, SENDER, SERVICE, Incoming
from comdml_flwr.carriers.transport.kept_mail import KeptMail
from comdml_flwr.carriers.transport.malloc import keep_freed_memory
from comdml_flwr.carriers.transport.members import Limits, Member, is_loopback, split_address
from comdml_flwr.carriers.transport.outgoing import Call, Outgoing
from comdml_flwr.carriers.transport.receive_buffer import Inbox
from comdml_flwr.carriers.transport.refusals import Refusals
from comdml_flwr.carriers.transport.traffic import Traffic
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.messages import Envelope
from comdml_flwr.core.wire import envelope_parts

_STOP_S = 5.0
_LOOK_S = 1.0  # how often stalled streams are looked for


class Transport:
    """Sends envelopes to the members of a run and receives theirs.

    Parameters
    ----------
    own : int
        Id of the agent that it belongs to; one of the members.
    listen : str
        HOST:PORT to listen on, such as `0.0.0.0:39500`; with port 0 a free one is taken, see `port`.
    members : Iterable[Member]
        All members of the run.
    credentials : Credentials, optional
        For mutual TLS; without them all addresses must be of the loopback interface, and a sender is
        believed to be who it says.
    run_token : str
        Names the run, the same for all members: letters, digits, `-`, `_` and `.`.
    limits : Limits, optional
        Bounds of memory and time.
    kinds : Iterable[str], optional
        The kinds of mail that are taken; without them, all.
    revoked : Iterable[int], optional
        Agents whose certificates are not to be accepted though the authority made them.

    Raises
    ------
    InputError
        A parameter breaks a rule.
    """

    def __init__(
        self,
        own: int,
        listen: str,
        members: Iterable[Member],
        credentials: Credentials | None,
        run_token: str,
        *,
        limits: Limits | None = None,
        kinds: Iterable[str] = (),
        revoked: Iterable[int] = (),
    ) -> None:
        self._members = {member.agent: member for member in members}
        _check(own, listen, self._members, credentials, run_token)
        self.own, self._listen, self._credentials, self._run_token = own, listen, credentials, run_token
        self._limits = limits or Limits()
        self._patience_s = self._limits.patience_s
        self._refusals = Refusals()
        self._handshakes = HandshakeMonitor(self._refusals, 2 * self._limits.keepalive_s)
        kept = KeptMail(
            self._limits.num_kept * self._limits.max_envelope_bytes,
            self._limits.num_kept * self._limits.max_header_bytes,
        )
        self._inbox = Inbox(self._limits.has_room, kept)
        self._incoming = Incoming(
            own=own,
            run_token=run_token,
            members=frozenset(self._members),
            is_secure=credentials is not None,
            inbox=self._inbox,
            refusals=self._refusals,
            handshakes=self._handshakes,
            limits=self._limits,
            kinds=frozenset(kinds),
        )
        self._lock = threading.Lock()
        self._outgoing: dict[int, Outgoing] = {}
        self._channels: list[grpc.Channel] = []
        self._server: grpc.Server | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._is_closed = threading.Event()
        self._watchman = threading.Thread(target=self._watch_streams, name="mail watch", daemon=True)
        self._revoked = frozenset(revoked)
        for agent in self._revoked:
            self._incoming.revoke(agent)
        self.port = split_address(listen, "listen")[1]

    def __enter__(self) -> "Transport":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Listen; InputError where the address cannot be taken."""
        keep_freed_memory()
        self._pool = ThreadPoolExecutor(2 * len(self._members) + 2, thread_name_prefix="mail from")
        server, self.port = new_server(
            self._listen,
            self._incoming.handler(),
            self._credentials,
            self._limits,
            self._pool,
            self._handshakes.handshake_began,
        )
        server.start()
        self._server = server
        self._watchman.start()

    def watch(self, peers: Iterable[int]) -> None:
        """Keep a stream to these peers open, to hear when one goes; one that was gone is tried again."""
        for peer in peers:
            self._to(peer).watch()

    def send(self, envelope: Envelope, timeout_s: float = 60.0) -> None:
        """Queue an envelope for its receiver. Its arrays must stay as they are until it is flushed.

        Raises
        ------
        PeerGoneError
            The receiver cannot be reached any more, or refuses us.
        OverdueError
            The queue had no room for it in time.
        RunError
            It is not from this agent to another member, or too long.
        """
        if envelope.sender != self.own:
            raise RunError(f"agent {self.own} cannot send what is from agent {envelope.sender}")
        parts = envelope_parts(envelope)
        if len(parts[0]) > self._limits.max_header_bytes:
            raise RunError(f"{envelope.kind}: a header of {len(parts[0])} bytes is too long")
        num_bytes, bound = sum(map(len, parts)), self._limits.max_envelope_bytes
        if num_bytes > bound:
            raise RunError(
                f"{envelope.kind}: {num_bytes} bytes are too long; the members take at most {bound}"
            )
        self._to(envelope.receiver).put(parts, timeout_s)

    def flush(self, timeout_s: float, peers: Iterable[int] | None = None) -> None:
        """Wait until the mail for these peers (by default all) lies in their inboxes.

        Raises
        ------
        PeerGoneError
            Of the first, by id, that is gone; the others were waited for.
        OverdueError
            Some mail was not taken in time.
        """
        deadline_s = time.monotonic() + timeout_s
        wanted = sorted(self._outgoing if peers is None else peers)
        errors: list[RunError] = []
        for peer in wanted:
            try:
                self._to(peer).flush(deadline_s)
            except RunError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def receive(self, timeout_s: float) -> Envelope | None:
        """Return the next envelope that came; None when none comes in time."""
        return self._inbox.take(timeout_s)

    def set_rounds(self, first: int, last: int) -> None:
        """Take envelopes of these rounds only, both included; others are refused and counted."""
        self._incoming.set_rounds(first, last)

    def set_patience(self, patience_s: float) -> None:
        """Let a peer be out of reach for so long before it counts as gone, in place of the limits' value."""
        with self._lock:
            self._patience_s = patience_s
            for out in self._outgoing.values():
                out.set_patience(patience_s)

    def revoke(self, agent: int) -> None:
        """Take nothing of this agent and send it nothing any more."""
        self._revoked |= {agent}
        self._incoming.revoke(agent)
        if agent in self._outgoing:
            self._outgoing[agent].give_up("its membership is revoked")

    def refuse(self, refuses: Callable[[bytes], bool]) -> None:
        """Take nothing from who dials with a certificate, as PEM, of which this says so."""
        self._incoming.refuse(refuses)

    @property
    def gone(self) -> Mapping[int, str]:
        """Why peers are gone, by agent; of those that this agent sends to or watches."""
        return {peer: out.gone for peer, out in sorted(self._outgoing.items()) if out.gone is not None}

    @property
    def troubles(self) -> Mapping[int, tuple[float, str]]:
        """Since when (`time.monotonic()`) no stream to a peer could be kept open, and why, by agent."""
        return {peer: out.trouble for peer, out in sorted(self._outgoing.items()) if out.trouble is not None}

    def take_traffic(self) -> Mapping[int, Traffic]:
        """Return what sending long envelopes took since the last call, by peer."""
        told = {peer: out.take_traffic() for peer, out in sorted(self._outgoing.items())}
        return {peer: traffic for peer, traffic in told.items() if traffic.num_bytes}

    @property
    def refused(self) -> Mapping[tuple[str, int | None], int]:
        """How much of what came was refused, by reason and peer (None: nobody that is known)."""
        return self._refusals.counts

    @property
    def refused_by_peers(self) -> Mapping[int, int]:
        """How many of our envelopes came too late or too early for their receivers' rounds, by peer."""
        return {peer: out.num_refused for peer, out in sorted(self._outgoing.items()) if out.num_refused}

    def close(self) -> None:
        """End everything; what is still queued is dropped."""
        self._is_closed.set()
        with self._lock:
            outgoing, channels = list(self._outgoing.values()), list(self._channels)
        for out in outgoing:
            out.close()
        for channel in channels:
            channel.close()
        if self._server is not None:
            self._incoming.close()
            self._server.stop(0).wait(_STOP_S)
            self._watchman.join(_STOP_S)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _watch_streams(self) -> None:
        while not self._is_closed.wait(_LOOK_S):
            self._incoming.end_stalled()
            self._handshakes.count_refused()

    def _to(self, peer: int) -> Outgoing:
        if peer not in self._members or peer == self.own:
            raise RunError(f"agent {peer} is no other member of this run")
        with self._lock:
            if self._is_closed.is_set():
                raise RunError("the transport is closed")
            if peer not in self._outgoing:
                self._outgoing[peer] = Outgoing(peer, self._dial(peer), self._limits)
                self._outgoing[peer].set_patience(self._patience_s)
                if peer in self._revoked:
                    self._outgoing[peer].give_up("its membership is revoked")
            return self._outgoing[peer]

    def _dial(self, peer: int) -> Callable[[Iterator[bytes]], Call]:
        channel = new_channel(self._members[peer], self._credentials, self._limits)
        self._channels.append(channel)
        stub: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"/{SERVICE}/{METHOD}")
        said = ((RUN, self._run_token), (SENDER, str(self.own)), (RECEIVER, str(peer)))
        return lambda frames: stub(frames, metadata=said)


def _check(
    own: int, listen: str, members: Mapping[int, Member], credentials: Credentials | None, run_token: str
) -> None:
    split_address(listen, "listen")
    if own not in members:
        raise InputError("own", own, f"must be one of the members {sorted(members)}")
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", run_token):
        raise InputError("run_token", run_token, "must be 1 to 200 letters, digits, `-`, `_` and `.`")
    if credentials is not None:
        return
    for address in (listen, *(member.address for member in members.values())):
        if not is_loopback(address):
            raise InputError("credentials", None, f"must be there where an address is {address}")
