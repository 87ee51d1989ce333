"""Runs under Flower's engine that are killed, and what is left of them after a good one: nothing."""

import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest

from tests.flower.engine import ROOT, Engine

NUM_NODES, NUM_ROUNDS, NUM_KILLED = 3, 3, 10
PATIENCE_S = 180  # the last processes of Ray look for their parent every now and then
PRIVATE = {"keys", "state", "mail", "waiting-mail", "run-token"}


@pytest.fixture
def engine():
    """A SuperLink with a folder for temporary files; a longer path leaves no room for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="comdml-killed-", dir="/tmp", ignore_cleanup_errors=True) as name:
        for folder in ("home", "tmp"):
            (Path(name) / folder).mkdir()
        engine = Engine(Path(name) / "home", environment={"TMPDIR": f"{name}/tmp"})
        yield engine
        engine.stop()
        for process in processes_of(engine):
            os.kill(process, signal.SIGKILL)


def processes_of(engine, words=b""):
    """Return the processes that an engine started, those whose command line holds the words."""
    home, found = f"FLWR_HOME={engine.home}\0".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if home in (folder / "environ").read_bytes() and words in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def until(what, seconds):
    """Wait until something is so; tell whether it is."""
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.1)
    return bool(what())


def start(engine):
    """Begin a run in another thread; return the thread, whose `log` is there at its end."""
    results = engine.home.parent / "results"
    config = f'method="allreduce" num-rounds={NUM_ROUNDS} batch-size=100 results-dir="{results}"'

    def run():
        thread.log = engine.run(ROOT, config, num_supernodes=NUM_NODES, num_actors=1)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def left_in(engine):
    """Return what of runs is left in the folder for temporary files, and what is private in their results."""
    place = engine.home.parent
    results = [path for path in (place / "results").rglob("*") if path.name in PRIVATE]
    return [*(place / "tmp").glob("comdml-*"), *results, *(place / "results").rglob("*.partial")]


def begun(engine):
    """Return the folders of runs that have begun, in the folder for temporary files."""
    return {path.parent for path in (engine.home.parent / "tmp").glob("comdml-flwr-*/run-token")}


@pytest.mark.slow
def test_ten_killed_runs_and_a_good_one_leave_nothing(engine):
    """Killed are the run's process, at other times all that it has started, too, and the SuperLink."""
    simulation = b"bin/flwr-simulation\0"
    for number in range(NUM_KILLED):
        before, thread = begun(engine), start(engine)
        assert until(lambda before=before: begun(engine) - before, 200)
        time.sleep(number)
        for process in processes_of(engine, simulation if number % 2 else b""):
            os.kill(process, signal.SIGKILL)
        if number % 2:
            engine.stop()
        thread.join()
        assert left_in(engine)
    thread = start(engine)
    thread.join()
    assert engine.last_status() == "finished:completed", thread.log
    assert left_in(engine) == []
    engine.stop()
    assert until(lambda: not processes_of(engine), PATIENCE_S)
