"""TCP, TLS and the first bytes of HTTP/2 (which gRPC speaks), one step after the other, each with its time.

Who listens as gRPC answers the preface of HTTP/2 (RFC 9113, section 3.4) with a SETTINGS frame. In TLS 1.3
that answer is also the first sign that our own certificate was accepted.
"""

import socket
import ssl
import time

TIMEOUT_S = 5.0
NUM_DIALS = 3  # the fastest of so many tells the round trip
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # + an empty SETTINGS
_HEAD_BYTES, _SETTINGS = 9, 4


def dial(host: str, port: int) -> tuple[socket.socket, float]:
    """Connect over TCP; return the connection and the round trip in seconds (a connection costs one).

    Raises
    ------
    OSError
        As `socket.create_connection` does; TimeoutError after `TIMEOUT_S`.
    """
    times_s = []
    for number in range(1, NUM_DIALS + 1):
        began = time.perf_counter()
        connection = socket.create_connection((host, port), timeout=TIMEOUT_S)
        times_s.append(time.perf_counter() - began)
        if number < NUM_DIALS:
            connection.close()
    return connection, min(times_s)


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


def why(error: OSError) -> str:
    """Say in a few words why a connection came to nothing."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    if isinstance(error, TimeoutError):
        return f"no answer in {TIMEOUT_S:g} s"
    return error.strerror or str(error)
