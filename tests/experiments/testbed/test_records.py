"""Measured next to forecast."""

from pathlib import Path

import pytest

from experiments.testbed.federation import FinishedRun
from experiments.testbed.measuring import LinkSpeed
from experiments.testbed.records import Measured, as_json, differences, print_runs, speed_up
from tests.experiments.testbed.fleets import hosts


def finished(elapsed_s, virtual_time_s):
    rounds = tuple(
        {
            "round": number,
            "elapsed_s": measured + 0.5,
            "evaluation_s": 0.5,
            "virtual_time_s": forecast,
            "makespan_s": forecast / 2,
            "predicted_s": forecast / 2,
            "accuracy": 0.5,
            "plan": {"pairs": [], "solo": [2, 4, 7]},
        }
        for number, (measured, forecast) in enumerate(zip(elapsed_s, virtual_time_s, strict=True), start=1)
    )
    return FinishedRun(
        folder=Path("/runs/one"), rounds=rounds, summary={"weights_sha256": "ab", "carrier": "grid"}
    )


RUNS = {"comdml": finished([11, 9, 30], [10, 10, 10]), "allreduce": finished([22, 44], [40, 40])}


def test_a_difference_is_a_share_of_the_forecast():
    assert differences(RUNS["comdml"]) == pytest.approx([0.1, -0.1, 2.0])


def test_the_speed_up_compares_medians_and_needs_both_methods():
    assert speed_up(RUNS, "elapsed_s") == pytest.approx(33.5 / 11.5)
    assert speed_up(RUNS, "virtual_time_s") == 4.0
    assert speed_up({"comdml": RUNS["comdml"]}, "elapsed_s") is None


def test_the_json_has_what_was_asked_measured_and_forecast():
    link = LinkSpeed(sender="2", receiver="SuperLink", asked_bytes_per_s=1.25e6, measured_bytes_per_s=1.2e6)
    measured = Measured(cpus={2: 0.24}, training={2: (4.0, 5e9)}, links=[link])
    found = as_json(hosts(), measured, RUNS, {"tls": False})
    assert found["hosts"][0] == {
        "agent": 2,
        "address": "10.77.0.10",
        "cpus_asked": 0.25,
        "cpus_measured": 0.24,
        "batches_per_s_measured": 4.0,
        "flops_per_s_measured": 5e9,
    }
    assert found["hosts"][1]["cpus_measured"] is None
    assert found["links"] == [{"from": "2", "to": "SuperLink", "asked_mbps": 10.0, "measured_mbps": 9.6}]
    assert found["runs"]["comdml"]["median_difference"] == pytest.approx(0.1)
    assert found["runs"]["comdml"]["rounds"][0]["elapsed_s"] == 11.5
    assert (found["speed_up_measured"], found["speed_up_forecast"]) == (pytest.approx(33.5 / 11.5), 4.0)
    assert {"date", "processor", "num_cores", "kernel", "flwr", "torch", "latency"} <= found.keys()


def test_the_table_has_a_line_a_round_and_the_speed_up(capsys):
    print_runs(RUNS)
    out = capsys.readouterr().out
    assert "| comdml, round 3" in out
    assert "+200%" in out
    assert "comdml: median difference +10%; files: /runs/one" in out
    assert "2.91 times as fast, measured; forecast 4.00" in out
