"""How fast the direct transport is, as a share of a bare socket.

    python -m tests.benchmarks.transport [--frames] [--runs 15] [--mb 100]     # a minute; see README.md

One envelope with 100 MB of float32 goes from this process to another one over loopback, and is decoded
there; the time ends when the sender has heard so. The runs of all ways alternate. The sockets are
Python's: the envelope's pieces one after the other, received into one buffer (TLS 1.3 with mutual
certificates and AES-256-GCM, as the transport's). `--frames` tries lengths of frames.
"""

import argparse
import platform
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from comdml_flwr.carriers.transport.certificates import make_certificates
from comdml_flwr.carriers.transport.credentials import agent_host, load_credentials
from comdml_flwr.carriers.transport.grpc import Transport
from comdml_flwr.carriers.transport.members import Limits, Member
from comdml_flwr.core.messages import Envelope
from comdml_flwr.core.wire import decode_envelope, envelope_parts
from tests.ports import free_address

Send = Callable[[Envelope], None]


def tls_context(folder: Path, agent: int) -> ssl.SSLContext:
    """Return what a Python socket needs for the transport's TLS."""
    own = folder / f"agent-{agent}"
    side = ssl.PROTOCOL_TLS_CLIENT if agent == 0 else ssl.PROTOCOL_TLS_SERVER
    context = ssl.SSLContext(side)
    context.load_cert_chain(own / "agent.crt", own / "agent.key")
    context.load_verify_locations(own / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def read_all(stream: socket.socket, view: memoryview) -> None:
    """Fill a buffer."""
    while view:
        got = stream.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]


def serve_socket(listener: socket.socket, folder: Path | None) -> None:
    """Receive and decode envelopes until the sender hangs up."""
    stream, _ = listener.accept()
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if folder is not None:
        stream = tls_context(folder, 1).wrap_socket(stream, server_side=True)
    head = bytearray(8)
    while True:
        try:
            read_all(stream, memoryview(head))
        except (EOFError, OSError):
            return
        buffer = np.empty(int.from_bytes(head, "little"), np.uint8)
        read_all(stream, buffer.data)
        decode_envelope(buffer.data)
        stream.sendall(b"1")


def serve(
    kind: str, address: str, sender: str, folder: Path | None, limits: Limits, ready: Connection
) -> None:
    """Be the receiving process."""
    host, port = address.split(":")
    if kind == "socket":
        with socket.create_server((host, int(port))) as listener:
            ready.send("listening")
            serve_socket(listener, folder)
        return
    credentials = load_credentials(folder / "agent-1", 1) if folder else None
    with Transport(1, address, members(sender, address), credentials, "bench", limits=limits) as transport:
        ready.send("listening")
        while True:  # until the parent ends this process
            transport.receive(1.0)


def members(sender: str, receiver: str) -> tuple[Member, Member]:
    """Return the two."""
    return Member(0, sender), Member(1, receiver)


def open_socket(address: str, folder: Path | None) -> Send:
    """Return a way to send over a socket."""
    host, port = address.split(":")
    stream = socket.create_connection((host, int(port)))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if folder is not None:
        stream = tls_context(folder, 0).wrap_socket(stream, server_hostname=agent_host(1))

    def send(envelope: Envelope) -> None:
        parts = envelope_parts(envelope)
        stream.sendall(sum(map(len, parts)).to_bytes(8, "little"))
        for part in parts:
            stream.sendall(part)
        if stream.recv(1) != b"1":
            raise EOFError

    if isinstance(stream, ssl.SSLSocket):
        print("TLS of the socket:", *(stream.cipher() or ())[:2])
    return send


def open_transport(sender: str, address: str, folder: Path | None, limits: Limits) -> Send:
    """Return a way to send over the transport."""
    credentials = load_credentials(folder / "agent-0", 0) if folder else None
    transport = Transport(0, sender, members(sender, address), credentials, "bench", limits=limits)
    transport.start()

    def send(envelope: Envelope) -> None:
        transport.send(envelope)
        transport.flush(60)

    return send


def open_way(name: str, folder: Path, limits: Limits) -> Send:
    """Start a receiving process and return how to send to it; the name's beginning says which way."""
    kind = "socket" if name.startswith("socket") else "transport"
    secured = folder if "tls" in name else None
    address, sender = free_address(), free_address()
    here, there = get_context("spawn").Pipe()
    receiver = get_context("spawn").Process(
        target=serve, args=(kind, address, sender, secured, limits, there), daemon=True
    )
    receiver.start()
    here.recv()
    if kind == "socket":
        return open_socket(address, secured)
    return open_transport(sender, address, secured, limits)


def measure(ways: Mapping[str, Send], num_bytes: int, num_runs: int) -> dict[str, float]:
    """Return the median time in seconds of each way; the runs alternate after one that is not counted."""
    array = np.random.default_rng(1).standard_normal(num_bytes // 4, np.float32)
    envelope = Envelope(sender=0, receiver=1, round=1, kind="tensors", arrays={"tensors": array})
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(num_runs + 1):
        for name, send in ways.items():
            began = time.perf_counter()
            send(envelope)
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(each[1:]) for name, each in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", action="store_true", help="try lengths of frames")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--mb", type=float, default=100)
    given = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, grpcio {version('grpcio')}")
    kib = (128, 256, 512, 1024, 2048, 4080) if given.frames else (Limits().frame_bytes >> 10,)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "certificates"
        make_certificates(folder, (0, 1), {}, days=1)
        ways = {way: open_way(way, folder, Limits()) for way in ("socket", "socket tls")}
        for size in kib:
            for way in ("transport", "transport tls"):
                ways[f"{way} {size} KiB"] = open_way(way, folder, Limits(frame_bytes=size << 10))
        seconds = measure(ways, int(given.mb * 1e6), given.runs)
        for way, time_s in seconds.items():
            base = seconds["socket tls" if "tls" in way else "socket"]
            print(f"{way:28} {given.mb / 1e3 / time_s:6.2f} GB/s {base / time_s:6.2f} of the socket")


if __name__ == "__main__":
    main()
