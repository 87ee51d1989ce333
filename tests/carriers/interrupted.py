"""Runs that are killed in the middle: what they run, and what must come out of them all the same."""

import json

from tests.small import fleet_text

NUM_AGENTS = 5
CHANGES = """
[scenario]
share = 0.6
every = 2
links = true
speed_noise = 0.1
[[availability]]
round = 2
agent = 4
present = false
[[availability]]
round = 4
agent = 4
present = true
"""
SCENARIOS = {
    "comdml": {"participation": 0.6, "hysteresis": 0.3},
    "comdml, mixing": {"averaging": "mixing", "topology": "ring", "participation": 0.8, "num-chunks": 2},
    "allreduce": {"method": "allreduce"},
    "gossip": {"method": "gossip", "participation": 0.6},
    "braintorrent": {"method": "braintorrent", "participation": 0.6},
    "dpsgd": {"method": "dpsgd", "topology": "ring", "participation": 0.6},
}


FOLLOWS_METRIC = {"optimizer": "sgd", "learning-rate": 0.5, "schedule": "plateau", "schedule-patience": 1}


class Killed(BaseException):
    """Ends a run where it is."""


def write_fleet(folder):
    """Write a fleet whose devices change, and who of it is there; return its path."""
    path = folder / "fleet.toml"
    path.write_text(fleet_text(NUM_AGENTS) + CHANGES)
    return str(path)


def only_run_in(results):
    """Return the one run's folder there."""
    (run,) = results.iterdir()
    return run


def lines_of(run):
    return [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]


def outcome_of(run):
    """Return all that a run says of itself, but for the stopwatch, and where its models lie."""
    lines = lines_of(run)
    summary = json.loads((run / "summary.json").read_text())
    del summary["models"]
    for line in lines:
        assert len(line.pop("chain_sha256")) == 64  # covers the stopwatch, too
    for table in (*lines, summary):
        assert table.pop("elapsed_s") >= table.pop("evaluation_s", 0) >= 0
    return lines, summary


def models_of(run):
    """Return which models a run has left: of whom, of which round, and their digests."""
    entries = json.loads((run / "summary.json").read_text())["models"]
    return [{name: value for name, value in entry.items() if name != "file"} for entry in entries]
