"""An actor of Flower's simulation that is killed: the message that it had is lost, and nothing else."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.flower.engine import ROOT, Engine

NUM_NODES, NUM_ROUNDS = 4, 6


@pytest.mark.slow
@pytest.mark.parametrize("num_actors", [1, 2])
def test_a_killed_actor_costs_one_round_s_share_and_not_the_rest_of_the_run(num_actors, tmp_path):
    engine = Engine(tmp_path / "home")
    engine.home.mkdir()
    killer = threading.Thread(target=kill_an_actor_after_the_first_round, args=(engine, tmp_path))
    try:
        killer.start()
        config = f'num-rounds={NUM_ROUNDS} local-epochs=1 batch-size=100 results-dir="{tmp_path}/results"'
        log = engine.run(ROOT, config, num_supernodes=NUM_NODES, num_actors=num_actors)
        killer.join()
        assert engine.last_status() == "finished:completed", log
    finally:
        engine.stop()
    (run,) = (tmp_path / "results").iterdir()
    gone = [json.loads(line)["gone"] for line in (run / "rounds.jsonl").read_text().splitlines()]
    assert len(gone) == NUM_ROUNDS
    assert sorted(len(agents) for agents in gone) == [0] * (NUM_ROUNDS - 1) + [1], log
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["mostly_gone"]) == ("complete", [])


def kill_an_actor_after_the_first_round(engine, folder):
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        if any(path.stat().st_size for path in folder.glob("results/*/rounds.jsonl")):
            os.kill(actors_of(engine)[0], signal.SIGKILL)
            return
        time.sleep(0.05)


def actors_of(engine):
    """Return the processes of the actors that this engine started."""
    home = f"FLWR_HOME={engine.home}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"ClientAppActor" in (folder / "cmdline").read_bytes():
                found += [int(folder.name)] * (home in (folder / "environ").read_bytes())
        except OSError:
            continue
    return found
