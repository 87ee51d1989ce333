"""Whether peers are reached over mutual TLS, and how fast.

A SuperNode listens for its peers only while a run goes on, so on the other machines `comdml doctor --listen`
does. Where it does, the link is measured as a run measures it (carriers/direct/links.py), from here to there.
Where a run goes on, its transport refuses envelopes of another run (and logs it once), so that only the round
trip is known.
"""

import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from comdml_flwr.carriers.direct.links import BITS, FIRST_BYTES, MOST_BYTES, PATIENCE_S, measure_link
from comdml_flwr.carriers.transport.credentials import Credentials, agent_host, read_credentials
from comdml_flwr.carriers.transport.grpc import Transport
from comdml_flwr.carriers.transport.members import Limits, Member, split_address
from comdml_flwr.cli.doctor.certificates import client_context
from comdml_flwr.cli.doctor.findings import Finding
from comdml_flwr.cli.doctor.streams import dial, in_ms, speaks_http2, why
from comdml_flwr.core.errors import InputError, OverdueError, PeerGoneError
from comdml_flwr.core.units import human_bandwidth

TOKEN = "comdml-doctor"
LOOK_S = 0.5
LIMITS = Limits(patience_s=5.0, max_envelope_bytes=2 * MOST_BYTES)
_Trouble: TypeAlias = tuple[str, str]


def check_peers(folder: Path, agent: int, peers: Iterable[Member]) -> Iterator[Finding]:
    """Dial each peer, and send to those where a doctor listens.

    Parameters
    ----------
    folder : Path
        This agent's certificates, which are in order.
    agent : int
        This agent.
    peers : Iterable[Member]
        The others.
    """
    for peer in peers:
        yield _visit(folder, agent, peer)


def answer_peers(
    folder: Path,
    agent: int,
    listen: str,
    peers: Iterable[Member],
    say: Callable[[str], None],
    is_over: Callable[[], bool] = lambda: False,
) -> None:
    """Take what doctors on other machines send, until it is over.

    Parameters
    ----------
    folder, agent : Path, int
        This agent and its certificates.
    listen : str
        HOST:PORT.
    peers : Iterable[Member]
        Who may send.
    say : Callable[[str], None]
        Told once of each peer from which something came.
    is_over : Callable[[], bool]
        Asked now and then.
    """
    heard: set[int] = set()
    members = [Member(agent, listen), *peers]
    with Transport(
        agent, listen, members, read_credentials(folder, agent), TOKEN, limits=LIMITS, kinds=(BITS,)
    ) as transport:
        while not is_over():
            envelope = transport.receive(LOOK_S)
            if envelope is not None and envelope.sender not in heard:
                heard.add(envelope.sender)
                say(f"agent {envelope.sender} reaches this machine")


def parse_peers(texts: Iterable[str]) -> dict[int, Member]:
    """Read `--peers`: each ID=HOST:PORT, or a file with one of them a line (`#` begins a comment).

    Raises
    ------
    InputError
        A file cannot be read, a line is none of these, or an agent comes twice.
    """
    members: dict[int, Member] = {}
    for text in texts:
        for line in (text,) if "=" in text else _lines_of(Path(text)):
            name, _, address = line.partition("=")
            if not (name.strip().isascii() and name.strip().isdigit() and len(name.strip()) < 6):
                raise InputError("--peers", line, "must be ID=HOST:PORT, or a file with such lines")
            split_address(address.strip(), "--peers")
            member = Member(int(name), address.strip())
            if member.agent in members:
                raise InputError("--peers", line, f"must name agent {member.agent} once")
            members[member.agent] = member
    return members


def _lines_of(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        rule = f"must be ID=HOST:PORT, or a file with such lines ({reason})"
        raise InputError("--peers", str(path), rule) from None
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _visit(folder: Path, agent: int, peer: Member) -> Finding:
    there, (host, port) = f"on agent {peer.agent}'s machine", split_address(peer.address, "--peers")
    trouble: _Trouble | None
    try:
        connection, round_trip_s = dial(host, port)
        trouble = _shake_hands(connection, folder, peer.agent)
    except ConnectionRefusedError:
        says = "its machine answers, but nobody listens there (a SuperNode does only during a run)"
        trouble = says, f"{there}: comdml doctor --listen; or let port {port} through its firewall"
    except OSError as error:
        says = f"cannot be reached: {why(error)}"
        trouble = says, f"correct {peer.agent}=HOST:PORT; or let port {port} of {host} through firewalls"
    if trouble is None:
        return _send(read_credentials(folder, agent), agent, peer, round_trip_s)
    says, mend = trouble
    return Finding(_name(peer), "wrong", f"{peer.address}: {says}", mend)


def _shake_hands(connection: socket.socket, folder: Path, peer: int) -> _Trouble | None:
    """Return what is wrong with mutual TLS, and what mends it; None: nothing."""
    there = f"on agent {peer}'s machine: comdml doctor --certificates FOLDER --agent {peer}"
    try:
        with connection:
            stream = client_context(folder).wrap_socket(connection, server_hostname=agent_host(peer))
            with stream:
                is_grpc = speaks_http2(stream)
    except ssl.SSLCertVerificationError as error:
        says = f"what it shows is no certificate of agent {peer} of this federation: {why(error)}"
        return says, f"{there}; the same ca.crt everywhere"
    except OSError as error:  # ssl.SSLError is one, too
        says = f"it refuses our certificate, or is no SuperNode: {why(error)}"
        return says, f"the same ca.crt on both machines; {there}"
    return None if is_grpc else ("it is no SuperNode", f"correct {peer}=HOST:PORT")


def _send(credentials: Credentials, agent: int, peer: Member, round_trip_s: float) -> Finding:
    name, facts = _name(peer), {"round_trip_s": round_trip_s}
    told = f"{peer.address} over mutual TLS, round trip {in_ms(round_trip_s)}"
    here = Member(agent, "127.0.0.1:0")  # nobody is to dial us
    try:
        with Transport(agent, here.address, (here, peer), credentials, TOKEN, limits=LIMITS) as transport:
            bytes_per_s = measure_link(transport, peer.agent).bytes_per_s
    except PeerGoneError as error:
        if "another run" in error.reason:
            mend = "after that run: comdml doctor --listen there"
            return Finding(name, "warning", f"{told}; its speed is not measured: a run goes on", mend, facts)
        mend = f"there: the same --peers, with {agent}=HOST:PORT"
        return Finding(name, "wrong", f"{told}; but {error.reason}", mend, facts)
    except OverdueError:
        says = f"{told}; but less than {human_bandwidth(FIRST_BYTES / PATIENCE_S)}"
        return Finding(name, "wrong", says, 'a faster link, or carrier="grid"', facts)
    says = f"{told}, {human_bandwidth(bytes_per_s)} to it"
    return Finding(name, "ok", says, facts={**facts, "bytes_per_s": bytes_per_s})


def _name(peer: Member) -> str:
    return f"peer {peer.agent}"
