"""Reads what wandb wrote offline, and stands in for the network that it must not need."""

import json
import socket
import struct
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

BLOCK = 32768


def records(path: Path):
    """Yield the records of a .wandb file: a header of 7 bytes, then LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record

    raw, place, parts = path.read_bytes(), 7, b""
    assert raw[:4] == b":W&B"
    while place + 7 <= len(raw):
        if BLOCK - place % BLOCK < 7:  # the rest of a block, too short for a header
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", raw[place : place + 7])
        parts += raw[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def values(items) -> dict[str, object]:
    """Return what a list of wandb's items holds; nested keys are joined."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


@contextmanager
def silent_network(monkeypatch):
    """Put a server that takes connections and never answers where the network was; yield who came."""
    came = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"

        def listen():
            while True:
                try:
                    came.append(server.accept()[0])
                except OSError:
                    return

        Thread(target=listen, daemon=True).start()
        for name in ("WANDB_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, address)
            monkeypatch.setenv(name.lower(), address)
        try:
            yield came
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for connection in came:
                connection.close()
