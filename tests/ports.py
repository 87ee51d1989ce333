"""Ports for tests: below those that the system gives to connections, so that none is taken meanwhile."""

import os
import random
import socket

LOWEST, HIGHEST = 15_000, 32_000  # Linux gives connections 32768 and more
_OURS = iter(random.Random(f"ports {os.getpid()}").sample(range(LOWEST, HIGHEST), HIGHEST - LOWEST))


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on, another one each time."""
    for port in _OURS:
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def free_address() -> str:
    """Return an address of the loopback interface that nobody listens on."""
    return f"127.0.0.1:{free_port()}"
