"""TCP, TLS and the first bytes of HTTP/2 (which gRPC speaks), one step after the other, each with its time.

Who listens as gRPC answers the preface of HTTP/2 (RFC 9113, section 3.4) with a SETTINGS frame. In TLS 1.3
that answer is also the first sign that our own certificate was accepted.
"""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

TIMEOUT_S = 5.0
NUM_DIALS = 3  # the fastest of them tells the round trip
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # + an empty SETTINGS
_HEAD_BYTES, _SETTINGS = 9, 4


def dial(host: str, port: int) -> tuple[socket.socket, float]:
    """Connect over TCP; return the connection and the round trip in seconds (a connection costs one).

    Raises
    ------
    OSError
        As `connect` does.
    """
    times_s = []
    connection = connect(host, port)  # whose time has the name's look-up in it
    place = connection.getpeername()
    for _ in range(NUM_DIALS):
        began = time.perf_counter()
        connect(*place[:2]).close()
        times_s.append(time.perf_counter() - began)
    return connection, min(times_s)


def connect(host: str, port: int) -> socket.socket:
    """Connect over TCP.

    Raises
    ------
    OSError
        As `socket.create_connection` does; TimeoutError after `TIMEOUT_S`.
    """
    with names():
        return socket.create_connection((host, port), timeout=TIMEOUT_S)


@contextmanager
def names() -> Iterator[None]:
    """Make an OSError of what Python raises for a host that cannot even be looked up."""
    try:
        yield
    except UnicodeError:
        raise OSError("the host is no name and no address") from None


def speaks_http2(connection: socket.socket) -> bool:
    """Tell whether the other side answers as gRPC does.

    Raises
    ------
    OSError
        It hangs up or refuses us (ssl.SSLError says why), or does not answer.
    """
    connection.sendall(_PREFACE)
    head = b""
    while len(head) < _HEAD_BYTES:
        piece = connection.recv(_HEAD_BYTES - len(head))
        if not piece:
            raise ConnectionResetError("it hangs up")
        head += piece
    return head[3] == _SETTINGS


def in_ms(seconds: float) -> str:
    """Return a round trip for people: on a wire within a machine or a room it is far below 1 ms."""
    return f"{seconds * 1e3:.2g} ms" if seconds < 0.01 else f"{seconds * 1e3:.0f} ms"


def why(error: OSError) -> str:
    """Say in a few words why a connection failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    if isinstance(error, TimeoutError):
        return f"no answer in {TIMEOUT_S:g} s"
    return error.strerror or str(error)
