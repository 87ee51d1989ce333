"""What a comparison shows while it trains: bars in a terminal, lines elsewhere."""

import io
import json
import re

import pytest
from rich.console import Console

from comdml_flwr.cli.commands import compare_progress
from comdml_flwr.cli.commands.compare_progress import CompareProgress
from comdml_flwr.comparison.schedule import PlannedRun

SUMMARY = {"summary.json": json.dumps({"accuracy": 0.5, "elapsed_s": 2.0}).encode()}


def run_of(label):
    config = {"num-rounds": 4, "local-epochs": 1}
    return PlannedRun(
        case="c", label=label, seed=1, num_agents=2, config=config, fleet_text="", data_dir="data"
    )


def shown(is_terminal, rounds=(1, 2)):
    out = io.StringIO()
    one, other = run_of("[a]"), run_of("b")
    with CompareProgress(Console(file=out, force_terminal=is_terminal, width=100)) as progress:
        progress.comparison_begins(3, [one, other])
        progress.run_begins(one)
        progress.run_begins(other)
        for round_ in rounds:
            progress.round_ends(one, round_)
        progress._bars.refresh()
        progress.run_ends(one, SUMMARY)
        progress.round_ends(one, 4)  # a tick that was under way
        progress.run_ends(other, "no luck")
    return out.getvalue()


def test_lines_say_what_a_run_came_to_and_why_one_failed():
    assert shown(False).splitlines() == [
        "3 of 5 runs are done already",
        "4/5  c: [a], seed 1: accuracy 0.5000; 2.0 s, measured",
        "failed: c: b, seed 1: no luck",
    ]


def test_without_a_terminal_there_is_a_sign_of_life_now_and_then(monkeypatch):
    monkeypatch.setattr(compare_progress, "QUIET_S", -1.0)
    (line,) = (line for line in shown(False).splitlines() if line.startswith("  ... 2 of 8 rounds"))
    assert re.fullmatch(r"  \.\.\. 2 of 8 rounds; about \d+\.\d \ws left", line)


@pytest.mark.parametrize(
    "text", ["all runs", "2/8 rounds", "c: [a], seed 1", "2/4 rounds", "c: b, seed 1", "left:"]
)
def test_a_terminal_shows_bars_of_all_and_of_the_runs_in_progress(text):
    assert text in shown(True)
