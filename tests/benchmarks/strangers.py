"""An honest peer's round trip while strangers hold or open connections: what they cost, in milliseconds.

    python -m tests.benchmarks.strangers

The receiver, the honest peer and the strangers are processes of their own. Strangers hold 500 connections
that say nothing, twenty times; or a member shakes hands 600 times, ten at a time, and sends nothing.

Measured on 1 December 2026 on two cores (Python 3.11, grpcio 1.85.3), nothing else running, median / 99 of
100 / longest, in milliseconds:

                              TLS                   plain
    nobody else               1.2 /   4 /   5       1.3 /   3 /   4
    500 idle connections      1.3 /  13 /  31       1.1 /  15 /  28
    600 handshakes            3.7 /  36 /  36       1.2 /   9 /   9

While others kept both cores busy (load 7), the longest took 152 ms, with 500 idle connections.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median

from comdml_flwr.carriers.transport.certificates import make_certificates
from comdml_flwr.carriers.transport.members import Limits, Member
from tests.carriers.transport.meetings import addresses, mail, meeting
from tests.carriers.transport.test_idle_connections import connect, idle

NUM_TIMES, NUM_IDLE, NUM_HANDSHAKES, AT_ONCE = 20, 500, 600, 10
PAUSE_S = 0.02  # between two round trips


def do_nothing(address: str, folder: Path | None) -> None:
    """Let the honest peer be alone, for comparison."""
    time.sleep(5)


def hold_idle_connections(address: str, folder: Path | None) -> None:
    """Hold connections that say nothing, one load of them after another."""
    for _ in range(NUM_TIMES):
        with idle(address, NUM_IDLE):
            time.sleep(0.5)


def shake_hands(address: str, folder: Path | None) -> None:
    """Connect as a member, again and again, some at a time."""

    def once(_: int) -> None:
        with closing(connect(address, folder)):
            pass

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(once, range(NUM_HANDSHAKES)))


def listen(members: list[Member], folder: Path | None, is_over: Event) -> None:
    """Take mail until it is over."""
    with meeting(members, folder=folder, limits=Limits(), who={0}) as (listener,):
        while not is_over.is_set():
            listener.receive(0.1)


def measure(members: list[Member], folder: Path | None, load: Callable[[str, Path | None], None]) -> str:
    """Return the honest member's round trips under a load, in words."""
    context = multiprocessing.get_context("spawn")
    is_over, took_s = context.Event(), []
    listener = context.Process(target=listen, args=(members, folder, is_over))
    strangers = context.Process(target=load, args=(members[0].address, folder))
    listener.start()
    with meeting(members, folder=folder, limits=Limits(), who={1}) as (honest,):
        for is_loaded in (False, True):
            if is_loaded:
                strangers.start()
            while len(took_s) < 1 or (is_loaded and strangers.is_alive()):
                began = time.perf_counter()
                honest.send(mail(1, 0))
                honest.flush(20)
                took_s.append(time.perf_counter() - began)
                time.sleep(PAUSE_S)
        is_over.set()
    strangers.join()
    listener.join()
    took_ms = sorted(1000 * one_s for one_s in took_s[1:])  # the first one connects
    most_ms = took_ms[int(0.99 * len(took_ms))]
    return (
        f"{len(took_ms)} round trips: median {median(took_ms):.1f} ms,"
        f" 99 of 100 below {most_ms:.1f} ms, longest {took_ms[-1]:.1f} ms"
    )


def main() -> None:
    """Print a line for each load, over TLS and without."""
    with tempfile.TemporaryDirectory() as place:
        make_certificates(Path(place), range(2), {}, days=1)
        for name, folder in (("TLS", Path(place)), ("plain", None)):
            for load in (do_nothing, hold_idle_connections, shake_hands):
                print(f"{name}, {load.__name__}: {measure(addresses(2), folder, load)}", flush=True)


if __name__ == "__main__":
    main()
