"""A round in which nobody who took part has test data has no metric: what is known before it counts."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from comdml_flwr.comparison.contents import Round, Run
from comdml_flwr.comparison.curves import curve_of
from comdml_flwr.core.strict_json import to_json
from comdml_flwr.runs.loop import has_ended, reductions_after
from comdml_flwr.runs.record_reading import read_record
from comdml_flwr.runs.records import RunRecord, add_up, as_json
from comdml_flwr.runs.summary import summarize
from comdml_flwr.runs.terminal import WIDTH, Terminal
from comdml_flwr.runs.tracking.names import numbers
from comdml_flwr.runs.trained_models import best_round
from tests.runs.test_rounds import report
from tests.small import small_config

NOTHING = {"correct": 0, "num_evaluated": 0, "loss_sum": 0.0}


def rounds_of(*correct):
    """Return rounds with so many of ten samples right; None: with no sample."""
    told = [NOTHING if right is None else {"correct": right} for right in correct]
    return tuple(add_up(number, {0: report(**facts)}, 0.5) for number, facts in enumerate(told, 1))


def test_it_is_told_as_one_without_a_metric():
    _, round_ = rounds_of(6, None)
    assert (round_.scores, round_.num_evaluated) == ({"accuracy": None, "loss": None}, 0)
    line = json.loads(to_json(as_json(round_)))
    assert read_record(line) == round_
    assert "measured/accuracy" not in numbers(line)
    del line["num_evaluated"]
    assert read_record(line).is_evaluated, "of an earlier version, which did not tell it"


def test_it_neither_is_the_best_nor_ends_a_run_nor_counts_for_a_plateau():
    rounds = rounds_of(8, None, None, None)
    assert best_round(rounds) is rounds[0]
    assert not has_ended(rounds, small_config(target_metric=0.5))
    config = small_config(schedule="plateau", schedule_patience=2)
    assert reductions_after(rounds, config) == 0
    assert reductions_after(rounds_of(8, None, 7, None, 7, None), config) == 1


@pytest.mark.parametrize(
    ("correct", "metric", "line"),
    [
        ((6, 7), (0.7, 2), "0.7000 after 2 rounds"),
        ((6, None, None), (0.6, 1), "0.6000 in round 1 of 3 rounds, the last with test data"),
        ((None, None), (None, None), "not known after 2 rounds: nobody who took part has test data"),
    ],
)
def test_a_summary_has_the_metric_that_was_known_last(correct, metric, line):
    screen = StringIO()
    terminal = Terminal(3, Console(width=WIDTH, file=screen))
    rounds = rounds_of(*correct)
    summary = summarize(RunRecord(rounds=rounds, digests={0: "ab"}), small_config(), 1, 1.0)
    assert (summary["accuracy"], summary["metric_round"]) == metric
    terminal.summary(summary, Path("results"))
    assert line in screen.getvalue()


def test_a_curve_goes_on_with_what_is_known_and_begins_where_something_is():
    rounds = tuple(Round.model_validate(as_json(one)) for one in rounds_of(None, 6, None, 8))
    run = Run(seed=1, rounds=rounds, agents=())
    curve = curve_of("a", [run], lambda run: [float(one.round) for one in run.rounds])
    assert (curve.x.tolist(), curve.mean.tolist()) == ([2, 3, 4], [0.6, 0.6, 0.8])
    assert run.last_evaluated.round == 4
    assert replace(run, rounds=rounds[:3]).last_evaluated.round == 2
