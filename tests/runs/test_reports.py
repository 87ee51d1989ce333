"""What a process reports of a round is checked before it is added up: what cannot be is left out."""

from math import inf, nan

import pytest

from comdml_flwr.core.errors import RunError
from comdml_flwr.learning.metrics import CLASSIFICATION_METRICS, KnownTests
from comdml_flwr.runs.records import add_up
from comdml_flwr.runs.reports import usable_reports, wrong_report

TESTS = KnownTests(ids=(0, 1, 2), own=dict.fromkeys(range(3), 5), num_shared=0, most_counts=1)
GOOD = {
    "correct": 3,
    "loss_sum": 2.5,
    "num_evaluated": 5,
    "evaluation_s": 0.1,
    "end_s": 4.0,
    "training_end_s": 3.0,
    "bytes_sent": 100,
    "weights_sha256": "a" * 64,
    "elapsed_s": 1.0,
    "distrusted": [2],
    "predicted_s": 3.0,
    "lower_bound_s": 2.0,
    "no_offload_makespan_s": 6.0,
    "no_offload_virtual_time_s": 7.0,
    "pair": {"slow": 1, "fast": 0, "cut": 2, "finish_s": 3.0, "traffic_bytes": 10.0},
    "metrics": {"kept": {"value": 0.5, "combine": "mean"}},
    "own_score": 0.6,
}
TIMES = ("end_s", "training_end_s", "predicted_s")


def test_a_report_that_can_be_is_taken_whatever_it_leaves_out():
    assert wrong_report(1, GOOD, CLASSIFICATION_METRICS, TESTS, 5) == ""
    few = {
        name: GOOD[name] for name in ("correct", "loss_sum", "num_evaluated", "evaluation_s", "bytes_sent")
    }
    assert (
        wrong_report(1, {**few, "end_s": 0.0, "training_end_s": 0.0}, CLASSIFICATION_METRICS, TESTS, 5) == ""
    )
    not_finite = {**GOOD, "loss_sum": None, "own_score": None}
    assert wrong_report(1, not_finite, CLASSIFICATION_METRICS, TESTS, 5) == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in TIMES for value in (nan, -1, 1e300, "1", None)),
        *(("evaluation_s", value) for value in (inf, [], {})),
        *(("bytes_sent", value) for value in (-1, 1 << 70, "many")),
        *(("correct", value) for value in (6, -1, 2.5, None, True, "3")),
        *(("num_evaluated", value) for value in (2, 6, 1 << 80, None)),
        *(("loss_sum", value) for value in (nan, inf, "2")),
        *(("weights_sha256", value) for value in ("a" * 63, "A" * 64, 7, ["a" * 64])),
        *(("distrusted", value) for value in ([3], [-7], "2", [0.5], [[1]], None)),
        *(("refused", value) for value in ([99], {"1": 2})),
        *(("pair", value) for value in (5, [1, 0], {"slow": 1}, {"slow": "one", "fast": 0}, None)),
        *(("metrics", value) for value in (3, {"kept": 0.5}, {"kept": {"value": "x", "combine": "mean"}})),
        *(("metrics", {"kept": {"value": 0.5, "combine": how}}) for how in ("median", None)),
        *(("own_score", value) for value in ("0.6", [1], nan)),
        ("no_offload_virtual_time_s", None),
    ],
)  # fmt: skip
def test_a_report_that_cannot_be_costs_its_own_numbers_and_no_more(name, value):
    reports = {0: GOOD, 1: {**GOOD, name: value}, 2: GOOD}
    found, distrusted = usable_reports(1, reports, CLASSIFICATION_METRICS, TESTS)
    assert (found, distrusted) == ({0: GOOD, 2: GOOD}, {1})
    record = add_up(1, found, 1.0, distrusted=distrusted)
    assert record.distrusted == [1, 2]
    assert record.scores == {"accuracy": 0.6, "loss": 0.5}
    assert record.bytes_sent == 200


@pytest.mark.parametrize("name", ["end_s", "training_end_s", "evaluation_s", "bytes_sent", *list(GOOD)[:3]])
def test_what_every_report_has_may_not_be_missing(name):
    lacking = {key: value for key, value in GOOD.items() if key != name}
    assert wrong_report(1, lacking, CLASSIFICATION_METRICS, TESTS, 5)


def test_nobody_who_can_be_believed_is_an_error():
    with pytest.raises(RunError, match="round 4: nobody who took part has ended it"):
        add_up(4, {}, 1.0, distrusted=[1])


@pytest.mark.parametrize(
    "changed", [{"weights_sha256": "b" * 64}, {"metrics": {"kept": {"value": 0.5, "combine": "sum"}}}]
)
def test_who_contradicts_more_than_half_of_the_others_is_left_out(changed):
    reports = {0: {**GOOD, **changed}, 1: GOOD, 2: GOOD}
    found, distrusted = usable_reports(1, reports, CLASSIFICATION_METRICS, TESTS, models_agree=True)
    assert (found, distrusted) == ({1: GOOD, 2: GOOD}, {0})


def test_where_the_models_differ_no_digest_is_wrong():
    reports = {0: {**GOOD, "weights_sha256": "b" * 64}, 1: GOOD, 2: GOOD}
    assert usable_reports(1, reports, CLASSIFICATION_METRICS, TESTS) == (reports, frozenset())


def test_who_shares_test_samples_out_can_have_evaluated_its_share():
    tests = KnownTests(ids=(0, 1, 2), own={2: 9}, num_shared=10, most_counts=1)
    six, nine = ({**GOOD, "num_evaluated": num} for num in (6, 9))
    found, distrusted = usable_reports(1, {0: GOOD, 1: six, 2: nine}, CLASSIFICATION_METRICS, tests)
    assert (found, distrusted) == ({0: GOOD, 2: nine}, {1})
