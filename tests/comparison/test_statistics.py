"""What runs come to: means, spreads, times to a target; and that not to reach it is a result."""

import json
import math
from dataclasses import replace

import pytest

from comdml_flwr.comparison.records import RunFiles
from comdml_flwr.comparison.settings import Case, Comparison, Method
from comdml_flwr.comparison.statistics import compare_runs, elapsed

CASE = Case(label="c", fleet="../fleets/two.toml", fleet_text="", num_agents=2, keys={"alpha": 0.1})


def run_of(label, seed, accuracies, round_s=10.0, round_bytes=100):
    return RunFiles(
        case="c",
        label=label,
        seed=seed,
        config={"method": "comdml" if label == "A" else "allreduce", "solver": "greedy"},
        rounds=tuple(
            {"accuracy": accuracy, "virtual_time_s": round_s, "bytes_sent": round_bytes}
            for accuracy in accuracies
        ),
        agents=(),
        summary={"elapsed_s": 5.0 + seed},
    )


RUNS = [
    run_of("A", 1, [0.5, 0.9, 0.7], round_s=10.0),
    run_of("A", 2, [0.9, 0.8, 0.9], round_s=20.0),
    run_of("B", 1, [0.1, 0.2, 0.9], round_s=40.0, round_bytes=50),
    run_of("B", 2, [0.9, 0.95, 0.5], round_s=40.0, round_bytes=50),
]


def compared(runs=RUNS, targets=(0.9, 0.95), seeds=(1, 2)):
    comparison = Comparison(
        name="n",
        about="",
        seeds=seeds,
        targets=targets,
        reference="B",
        keys={"num-rounds": 3, "alpha": 0.5},
        methods=(Method(label="A", keys={"solver": "greedy"}), Method(label="B", keys={})),
        cases=(CASE,),
    )
    return compare_runs(comparison, runs)


def method(label, **how):
    (case,) = compared(**how)["cases"]
    return next(method for method in case["methods"] if method["label"] == label)


def test_a_case_says_what_holds_for_all_its_methods_and_a_method_what_is_its_own():
    (case,) = compared()["cases"]
    assert (case["fleet"], case["num_agents"]) == ("two.toml", 2)
    assert case["settings"] == {"num-rounds": 3, "alpha": 0.1}
    settings = [method["settings"] for method in case["methods"]]
    assert settings == [{"method": "comdml", "solver": "greedy"}, {"method": "allreduce"}]


def test_means_and_spreads_are_over_the_seeds():
    accuracy = method("A")["accuracy"]
    assert accuracy["by_seed"] == {"1": 0.7, "2": 0.9}
    assert accuracy["mean"] == pytest.approx(0.8)
    assert accuracy["spread"] == pytest.approx(math.sqrt(0.02))
    assert method("A")["virtual_time_s"]["by_seed"] == {"1": 30.0, "2": 60.0}
    assert method("A")["round_virtual_time_s"]["by_seed"] == {"1": 10.0, "2": 20.0}
    assert method("B")["bytes_sent"]["mean"] == 150


def test_one_seed_has_no_spread():
    assert method("A", seeds=(2,))["accuracy"] == {"mean": 0.9, "spread": None, "by_seed": {"2": 0.9}}


def test_a_target_is_reached_at_the_end_of_the_first_round_that_is_as_good():
    to = method("A")["time_to"]["0.9"]
    assert (to["by_seed"], to["num_reached"], to["mean"]) == ({"1": 20.0, "2": 20.0}, 2, 20.0)
    assert to["ratio_to_reference"] == pytest.approx((20 / 120 + 20 / 40) / 2)
    sent = method("A")["bytes_to"]["0.9"]
    assert sent["by_seed"] == {"1": 200, "2": 100}
    assert sent["ratio_to_reference"] == pytest.approx((200 / 150 + 100 / 50) / 2)


def test_the_references_ratio_to_itself_is_one():
    assert method("B")["time_to"]["0.9"]["ratio_to_reference"] == 1.0


def test_not_to_reach_a_target_is_a_result():
    ours, other = method("A")["time_to"]["0.95"], method("B")["time_to"]["0.95"]
    assert ours["by_seed"] == {"1": None, "2": None}
    assert other["by_seed"] == {"1": None, "2": 80.0}
    for to, num_reached in ((ours, 0), (other, 1)):
        found = (to["mean"], to["spread"], to["ratio_to_reference"], to["num_reached"])
        assert found == (None, None, None, num_reached)


def test_a_reference_that_sends_nothing_has_no_ratio():
    runs = [*RUNS[:2], run_of("B", 1, [0.9], round_bytes=0), run_of("B", 2, [0.9], round_bytes=0)]
    assert method("A", runs=runs)["bytes_to"]["0.9"]["ratio_to_reference"] is None


def test_the_order_of_the_runs_does_not_matter():
    assert json.dumps(compared()) == json.dumps(compared(runs=RUNS[::-1]))


def test_the_stopwatch_is_kept_apart():
    assert elapsed(RUNS) == {"c": {"A": {"1": 6.0, "2": 7.0}, "B": {"1": 6.0, "2": 7.0}}}
    assert "elapsed" not in json.dumps(compared())


def test_whose_share_was_left_out_stands_with_the_seeds_in_which_it_was():
    first, *others = RUNS
    first = replace(first, summary=first.summary | {"left_out": {"3": 2}})
    others[0] = replace(others[0], summary=others[0].summary | {"left_out": {}})
    assert method("A", runs=[first, *others])["left_out"] == {"1": {"3": 2}}
    assert method("B")["left_out"] == {}
