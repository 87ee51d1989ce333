"""What a doctor meets on the loopback interface: ports that are taken, gRPC servers, a slow link."""

import json
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

from tests.carriers.transport.meetings import free_address

ABOUT = json.dumps({"openapi": "3.1.0", "info": {"title": "SuperLink API", "version": "1.42.0"}}).encode()


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
def http_server(own=None, answer=ABOUT):
    """Somebody who answers every GET so, by default as a SuperLink; with credentials, over TLS."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            """Be silent on visitors who hang up."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if own is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(own / "agent.crt", own / "agent.key")
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


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
