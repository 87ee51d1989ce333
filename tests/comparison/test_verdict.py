"""The verdict: no stronger than the fairest baseline and the seeds allow, on numbers made by hand."""

from statistics import fmean, stdev

import pytest

from comdml_flwr.comparison.contents import MethodNumbers
from comdml_flwr.comparison.verdict import shares_left_out, verdict

METHODS = {"ComDML": "comdml", "greedy": "comdml", "AllReduce": "allreduce", "SplitFed": "splitfed"}
RAN_S = 200.0


def values(by_seed):
    whole = None not in by_seed
    return {
        "mean": fmean(by_seed) if whole else None,
        "spread": stdev(by_seed) if whole and len(by_seed) > 1 else None,
        "by_seed": dict(enumerate(by_seed, start=1)),
    }


def methods(reference="AllReduce", targets=(0.9,), **times):
    """Return methods: by label, seconds to the (first) target by seed, and perhaps to the next ones."""
    found = []
    for label, by_target in times.items():
        lists = by_target if isinstance(by_target[0], (list, tuple)) else [by_target]
        theirs = times.get(reference, by_target)
        others = theirs if isinstance(theirs[0], (list, tuple)) else [theirs]
        time_to = {}
        for target, own, other in zip(targets, lists, others, strict=True):
            whole = None not in (*own, *other)
            time_to[target] = {
                **values(own),
                "num_reached": sum(value is not None for value in own),
                "ratio_to_reference": fmean(a / b for a, b in zip(own, other, strict=True))
                if whole
                else None,
            }
        seeds = len(lists[0])
        found.append(
            MethodNumbers.model_validate(
                {
                    "label": label,
                    "settings": {"method": METHODS.get(label, label)},
                    "accuracy": values([0.98] * seeds),
                    "virtual_time_s": values([RAN_S] * seeds),
                    "bytes_sent": values([3e6 if label == "ComDML" else 2e6] * seeds),
                    "round_virtual_time_s": values([10.0] * seeds),
                    "time_to": time_to,
                }
            )
        )
    return found


COST = (
    "In the end ComDML's accuracy was 0.980 ± 0.000, AllReduce's 0.980 ± 0.000; it had sent 3.0 MB, 1.50"
    " times"
    " as much."
)


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (
            {"ComDML": [25, 26], "AllReduce": [100, 104]},
            "ComDML reached 90 % in 0.25 of AllReduce's virtual time (25.5 ± 0.7 s, mean of 2 seeds)."
            " ComDML was quicker than every other method with every seed.",
        ),
        (
            {"ComDML": [25, 26], "AllReduce": [100, 104], "SplitFed": [23, 24]},
            "ComDML reached 90 % in 0.25 of AllReduce's virtual time (25.5 ± 0.7 s, mean of 2 seeds),"
            " SplitFed, the"
            " quickest rival, in 0.23 (23.5 ± 0.7 s). ComDML was slower than SplitFed with every"
            " seed.",
        ),
        (
            {"ComDML": [25, 26], "AllReduce": [100, 104], "SplitFed": [23, 30]},
            "Between ComDML and SplitFed it is too close to call: SplitFed was quicker with 1 of 2"
            " seeds, slower"
            " with 1.",
        ),
        (
            {"ComDML": [25, 26], "AllReduce": [100, 104], "SplitFed": [23, None]},
            "Between ComDML and SplitFed it is too close to call: SplitFed was quicker with 1 of 2"
            " seeds, slower"
            " with 0.",
        ),
        (
            {"ComDML": [25, 26], "AllReduce": [25, 26.1]},
            "ComDML and AllReduce took equally long with every seed.",
        ),
        ({"ComDML": [100, 110], "AllReduce": [50, 50]}, "ComDML was slower than AllReduce with every seed."),
        (
            {"ComDML": [25, 26], "AllReduce": [None, None]},
            "ComDML reached 90 % in 25.5 ± 0.7 s of virtual time (mean of 2 seeds). No other method got"
            " there.",
        ),
        (
            {"ComDML": [25, None], "AllReduce": [None, None], "SplitFed": [23, 24]},
            "90 %: ComDML reached it with 1 of 2 seeds within 200.0 s, AllReduce did not reach it within"
            " 200.0 s,"
            " SplitFed reached it in 23.5 ± 0.7 s.",
        ),
        (
            {"ComDML": [25, 26], "greedy": [20, 21], "AllReduce": [100, 104]},
            "ComDML was quicker than every other method but its own variants with every seed.",
        ),
        (
            {"ComDML": [25, 26], "greedy": [20, 21], "AllReduce": [None, None]},
            "No other method but its own variants got there.",
        ),
    ],
    ids=[
        "wins",
        "loses",
        "by seed",
        "rival missed",
        "equal",
        "slower",
        "alone",
        "missed",
        "own variant",
        "alone with it",
    ],
)
def test_the_verdict_is_what_the_numbers_say(times, said):
    found = verdict(methods(**times), (0.9,), "AllReduce")
    assert said in found
    assert found.endswith(COST)


def test_one_seed_is_called_one_seed_and_its_lead_perhaps_chance():
    found = verdict(methods(ComDML=[25], AllReduce=[100]), (0.9,), "AllReduce")
    assert found.startswith(
        "ComDML reached 90 % in 0.25 of AllReduce's virtual time (25.0 s, one seed). ComDML was quicker"
        " than every"
        " other method, which with one seed may be chance. In the end ComDML's accuracy was 0.980,"
        " AllReduce's"
    )


def test_the_highest_target_that_was_reached_counts_and_the_next_is_told():
    both = methods(ComDML=[[25, 26], [50, None]], AllReduce=[[100, 104], [180, 190]], targets=(0.9, 0.95))
    found = verdict(both, (0.9, 0.95), "AllReduce")
    assert found.startswith("ComDML reached 90 % in 0.25 of")
    assert (
        "95 %: ComDML reached it with 1 of 2 seeds within 200.0 s, AllReduce reached it in 185.0 ± 7.1 s."
        in found
    )
    both = methods(ComDML=[[25, 26], [50, 60]], AllReduce=[[100, 104], [180, 190]], targets=(0.9, 0.95))
    assert verdict(both, (0.9, 0.95), "AllReduce").startswith("ComDML reached 95 % in 0.30 of")


@pytest.mark.parametrize(
    ("times", "reference", "begins"),
    [
        (
            {"ComDML": [25, 26], "SplitFed": [50, 52]},
            "ComDML",
            "ComDML reached 90 % in 25.5 ± 0.7 s of virtual time",
        ),
        (
            {"AllReduce": [25, 26], "SplitFed": [50, 52]},
            "AllReduce",
            "SplitFed reached 90 % in 2.00 of AllReduce's",
        ),
        ({"ComDML": [25, 26], "greedy": [50, 52]}, "greedy", "ComDML reached 90 % in 0.50 of greedy's"),
        ({"AllReduce": [25, 26]}, "AllReduce", "AllReduce reached 90 % in 25.5 ± 0.7 s of virtual time"),
    ],
)
def test_there_is_a_verdict_whatever_is_compared(times, reference, begins):
    assert verdict(methods(reference, **times), (0.9,), reference).startswith(begins)


def test_without_a_target_the_verdict_is_on_accuracy_alone():
    assert verdict(methods(ComDML=[25, 26], AllReduce=[1, 1]), (), "AllReduce") == COST


def test_shares_that_were_left_out_are_told_by_method_and_seed():
    two = methods(ComDML=[25, 26], AllReduce=[1, 1])
    assert shares_left_out(two) == ""
    two[0] = two[0].model_copy(update={"left_out": {2: {3: 4, 5: 1}}})
    assert shares_left_out(two) == "ComDML, seed 2: agent 3 in 4 rounds, agent 5 in 1 round"
