"""The figure of single agents, which is there where they have test data of their own."""

import csv

import pytest

from comdml_flwr.comparison.report import write_report
from tests.comparison.folders import write_folder
from tests.comparison.runs import made_up_run

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # matplotlib's, of figures that do not fit


def judged(seed, accuracies):
    """Return a made-up run whose agents have tested its last model on data of their own, by their number."""
    run = made_up_run(seed)
    run.rounds[-1]["own_tests"] = {
        str(agent): {"accuracy": accuracy, "sums": {"correct": 1, "num_evaluated": 10 + agent}}
        for agent, accuracy in enumerate(accuracies)
    }
    return run


def test_each_agent_of_each_seed_is_a_row_and_the_spread_is_said(tmp_path):
    methods = {
        "ComDML": {1: judged(1, [0.9, 0.5, None]), 2: judged(2, [0.7, 0.8])},
        "AllReduce": {1: judged(1, [0.6]), 2: made_up_run(2)},
        "FedAvg": {1: made_up_run(1), 2: made_up_run(2)},
    }
    write_report(write_folder(tmp_path, {"case": methods}))
    with (tmp_path / "case-own-tests.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row.values()) for row in rows] == [
        ("ComDML", "1", "0", "10", "0.9"),
        ("ComDML", "1", "1", "11", "0.5"),
        ("ComDML", "2", "0", "10", "0.7"),
        ("ComDML", "2", "1", "11", "0.8"),
        ("AllReduce", "1", "0", "10", "0.6"),
    ]
    page = (tmp_path / "report.html").read_text()
    assert "best 0.900 (agent 0, seed 1), median 0.750, worst 0.500 (agent 1, seed 1)" in page
    assert "best 0.600 (agent 0), median 0.600, worst 0.600 (agent 0)" in page
    assert (tmp_path / "plots" / "case-own-tests.png").is_file()


def test_agents_that_share_a_test_set_have_no_such_figure(tmp_path):
    write_report(write_folder(tmp_path, {"case": {"ComDML": {1: made_up_run(1)}}}))
    assert not (tmp_path / "case-own-tests.csv").exists()
    assert "own-tests" not in (tmp_path / "report.html").read_text()
