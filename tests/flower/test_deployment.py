"""Real SuperNodes on loopback: SuperLink with TLS and SuperNode authentication, peers with mutual TLS."""

import json
import time
from pathlib import Path

import pytest

from comdml_flwr.runs.local_run import run_locally
from comdml_flwr.runs.model_files import read_model
from tests.flower.deployment import Federation, can_be_apart, summary_of
from tests.flower.loop_grid import quiet_terminal
from tests.runs.test_trained_models import output_of_documented_program

NUM_NODES = 4
ROUNDS = 2


@pytest.mark.slow
def test_supernodes_give_the_weights_of_the_local_carrier(tmp_path):
    values = {"num-rounds": ROUNDS, "local-epochs": 1, "participation": 0.8, "profiles": "fleet"}
    here = run_locally(
        {**values, "results-dir": str(tmp_path / "local")},
        num_agents=NUM_NODES,
        terminal=quiet_terminal(ROUNDS),
    )
    run_config = " ".join(f"{key}={json.dumps(value)}" for key, value in values.items())
    with Federation(tmp_path / "federation", NUM_NODES) as federation:
        for carrier in ("direct", "grid"):
            run, log = federation.run(f'{run_config} carrier="{carrier}"')
            summary = summary_of(run)
            assert summary["weights_sha256"] == here.weights_sha256, log
            assert summary["num_agents"] == NUM_NODES
            assert (summary["carrier"], summary["profiles"]) == (carrier, "fleet")
        run, log = federation.run('num-rounds=1 local-epochs=1 carrier="auto"')
        assert "carrier = auto -> direct: all 4 agents reach each other" in log
        assert "profiles: measured: " in log
        assert (summary_of(run)["carrier"], summary_of(run)["profiles"]) == ("direct", "measured")


@pytest.mark.slow
@pytest.mark.skipif(not can_be_apart(), reason="needs unshare and tmpfs")
def test_each_of_three_supernodes_apart_keeps_the_model(tmp_path):
    """The ServerApp gets none; with any of them the quickstart's program gets the accuracy of the summary."""
    run_config = 'num-rounds=1 profiles="fleet" carrier='
    with Federation(tmp_path / "federation", 3, apart=True) as federation:
        for carrier in ("direct", "grid"):
            run, log = federation.run(f'{run_config}"{carrier}"')
            entries = summary_of(run)["models"]
            assert not list(run.rglob("*.safetensors"))
            assert [(entry["kind"], entry["node"]) for entry in entries] == [
                (kind, node) for node in range(3) for kind in ("last", "best")
            ]
            for entry in entries:
                assert entry["file"] in log
                assert read_model(Path(entry["file"])).weights_sha256 == entry["weights_sha256"]
                assert Path(entry["file"]).is_relative_to(federation.home_of(entry["node"]))
            last = [Path(entry["file"]) for entry in entries if entry["kind"] == "last"]
            assert len({path.read_bytes() for path in last}) == 1
            assert output_of_documented_program(last[2]) == summary_of(run)["accuracy"]


def wait_until(is_so, federation, limit_s=300):
    give_up = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < give_up, federation.logs()
        time.sleep(0.2)


@pytest.mark.slow
def test_peers_finish_the_rounds_of_a_message_when_the_superlink_is_killed(tmp_path):
    """All ten are trained and on the nodes' disks, and all hold the same weights after each."""
    with Federation(tmp_path / "federation", NUM_NODES) as federation:
        federation.start_run('num-rounds=10 rounds-per-message=10 local-epochs=1 carrier="direct"')
        wait_until(lambda: len(federation.rounds_on_disk(0)) >= 2, federation)
        federation.kill("superlink")
        assert len(federation.rounds_on_disk(0)) < 9, "it was killed in the middle"
        nodes = range(NUM_NODES)
        wait_until(lambda: all(len(federation.rounds_on_disk(node)) == 10 for node in nodes), federation)
        reports = [federation.rounds_on_disk(node) for node in nodes]
        for lines in zip(*reports, strict=True):
            assert len({line["weights_sha256"] for line in lines}) == 1
            assert all(line["gone"] == [] for line in lines)


@pytest.mark.slow
def test_a_supernode_that_is_killed_and_started_again_takes_part_again(tmp_path):
    with Federation(tmp_path / "federation", NUM_NODES) as federation:
        results = federation.start_run('num-rounds=24 rounds-per-message=6 local-epochs=1 carrier="direct"')
        wait_until(lambda: len(federation.rounds_on_disk(0)) >= 1, federation)
        federation.kill("supernode-2")
        federation.restart_supernode(2)
        wait_until(lambda: list(results.glob("*/summary.json")), federation)
        (run,) = results.iterdir()
        lines = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
        gone = [line["gone"] for line in lines]
        assert len(lines) == 24
        assert [2] in gone, federation.logs()
        assert (gone[0], gone[-1]) == ([], []), f"it is there again: {gone}\n{federation.logs()}"


@pytest.mark.slow
def test_over_the_relay_the_others_go_on_when_a_supernode_is_killed(tmp_path):
    with Federation(tmp_path / "federation", NUM_NODES) as federation:
        results = federation.start_run('num-rounds=3 local-epochs=1 profiles="fleet" carrier="grid"')
        wait_until(lambda: list(results.glob("*/rounds.jsonl")), federation)
        federation.kill("supernode-2")
        wait_until(lambda: list(results.glob("*/summary.json")), federation)
        (run,) = results.iterdir()
        gone = [json.loads(line)["gone"] for line in (run / "rounds.jsonl").read_text().splitlines()]
        assert (len(gone), gone[-1]) == (3, [2]), f"{gone}\n{federation.logs()}"
