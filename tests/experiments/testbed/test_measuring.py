"""The calibrated fleet file, and the probes that need neither root nor a namespace."""

import json
import subprocess
import sys

import pytest

from comdml_flwr.planning.fleet.fleet import TimeShares
from experiments.testbed.measuring import calibrated_text
from experiments.testbed.processes import ROOT, listens
from tests.experiments.testbed.fleets import fleet_of

SPEEDS = {2: 1.25e10 / 3, 4: 3.3e9, 7: 4.1e10}


def test_a_calibrated_file_has_the_links_of_the_first_and_the_measured_speeds():
    asked = fleet_of()
    read = fleet_of(calibrated_text(asked, SPEEDS, "about"))
    assert {agent.id: agent.flops_per_s for agent in read.agents} == SPEEDS
    assert [agent.id for agent in read.agents] == [agent.id for agent in asked.agents]
    assert read.links_by_agent() == asked.links_by_agent()
    assert read.relay == asked.relay
    assert [read.server_link(a) for a in read.agents] == [asked.server_link(a) for a in asked.agents]


def test_a_calibrated_file_has_the_time_shares_that_were_measured():
    shares = (TimeShares(slow_share=1.02, fast_share=0.0625), TimeShares(slow_share=1 / 3, fast_share=0.7))
    assert fleet_of(calibrated_text(fleet_of(), SPEEDS, "about", shares)).time_shares == shares
    assert fleet_of(calibrated_text(fleet_of(), SPEEDS, "about")).time_shares == ()


def test_a_servers_speed_is_left_to_the_fastest_agent():
    assert fleet_of(calibrated_text(fleet_of(), SPEEDS, "about")).server.flops_per_s is None


def test_a_listening_port_is_seen_in_the_kernels_table():
    table = (
        "  sl  local_address rem_address   st tx_queue\n"
        "   0: 01004D0A:2454 00000000:0000 0A 00000000:00000000\n"
        "   1: 01004D0A:1F90 0A004D0A:C001 01 00000000:00000000\n"
    )
    assert listens(table, 0x2454)
    assert not listens(table, 0x1F90)
    assert not listens("", 80)


def probe(*words):
    command = [sys.executable, "-m", "experiments.testbed.probe", *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, **pipes)
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_busy_loop_without_a_quota_gets_about_a_core_at_most():
    """The kernel counts a process's time in ticks, so that a short one may seem to have had more."""
    out, _ = probe("spin", "0.5").communicate("go\n", timeout=60)
    assert 0 < json.loads(out)["cpus"] < 1.5


def test_all_bytes_that_are_sent_are_received():
    from tests.flower.engine import free_port

    port = str(free_port())
    receiving, sending = probe("receive", "127.0.0.1", port), probe("send", "127.0.0.1", port, "1000000")
    receiving.stdin.write("go\n")
    receiving.stdin.flush()
    assert json.loads(sending.communicate("go\n", timeout=60)[0]) == {"num_bytes": 1_000_000}
    measured = json.loads(receiving.communicate(timeout=60)[0])
    assert measured["num_bytes"] == 1_000_000
    assert measured["bytes_per_s"] > 0


@pytest.mark.slow
def test_a_model_is_measured_in_the_units_of_the_fleet_file(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(f'fleet = "{ROOT}/experiments/fleets/testbed.toml"\nlocal-epochs = 1\n')
    measured = json.loads(probe("train", "1", "3", str(file), "4").communicate("go\n", timeout=120)[0])
    assert measured["batches_per_s"] > 0
    assert 0.05 < measured["profile_batches_per_s"] < 5  # 1e8 FLOP/s, ResNet-56, 32 images of 8 x 8


@pytest.mark.slow
def test_the_sides_of_a_cut_take_about_what_the_whole_model_takes(tmp_path):
    """Over all of the model's cuts, in the run's own order: 1 offloads least."""
    run = tmp_path / "run.toml"
    run.write_text(f'fleet = "{ROOT}/experiments/fleets/testbed.toml"\n')
    found = json.loads(probe("shares", "0", str(run), "4").communicate("go\n", timeout=100)[0])
    assert list(found) == [f"{side} {cut}" for cut in range(1, 8) for side in ("slow", "fast")]
    assert found["slow 1"] > found["slow 7"]
    assert found["fast 1"] < found["fast 7"]
    assert all(0.5 < found[f"slow {cut}"] + found[f"fast {cut}"] < 2 for cut in range(1, 8))
