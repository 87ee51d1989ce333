"""What a doctor meets on the loopback interface: ports that are taken, gRPC servers, a slow link."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from tests.transport.meetings import free_address


@contextmanager
def taken_port():
    """A socket that listens and says nothing."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def grpc_server(own=None):
    """A gRPC server without services; with the credentials in a folder, over TLS."""
    server = grpc.server(ThreadPoolExecutor(1))
    if own is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = (own / "agent.key").read_bytes(), (own / "agent.crt").read_bytes()
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


@contextmanager
def talker(words):
    """Somebody who says these words to everybody who comes, and hangs up."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        place.listen()

        def talk():
            while True:
                try:
                    visitor, _ = place.accept()
                except OSError:
                    return
                with visitor:
                    visitor.recv(1000)
                    visitor.sendall(words)

        threading.Thread(target=talk, daemon=True).start()
        yield f"127.0.0.1:{place.getsockname()[1]}"
        place.shutdown(socket.SHUT_RDWR)


@contextmanager
def slow_link(to, bytes_per_s):
    """An address from which what comes is passed on to another one at this speed, and back at once."""
    address = free_address()
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        place.bind(("127.0.0.1", int(address.rpartition(":")[2])))
        place.listen()

        def serve():
            while True:
                try:
                    near, _ = place.accept()
                except OSError:
                    return
                far = socket.create_connection(("127.0.0.1", int(to.rpartition(":")[2])))
                for one, other, speed in ((near, far, bytes_per_s), (far, near, float("inf"))):
                    threading.Thread(target=_pass_on, args=(one, other, speed), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield address
        place.shutdown(socket.SHUT_RDWR)


def _pass_on(one, other, bytes_per_s):
    try:
        while piece := one.recv(1 << 13):
            time.sleep(len(piece) / bytes_per_s)
            other.sendall(piece)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        pass
