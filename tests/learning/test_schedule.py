"""The learning rate follows from the configuration and the round, and every agent trains at it."""

import pytest

from comdml_flwr.core.config import parse_config
from comdml_flwr.learning.schedule import count_reductions, is_scheduled, learning_rate
from tests.small import run_local, small_config, small_fleet


def rates(num_rounds=4, **keys):
    config = parse_config(
        {"num-rounds": num_rounds, "learning-rate": 1.0, **{k.replace("_", "-"): v for k, v in keys.items()}}
    )
    return [learning_rate(config, round_) for round_ in range(1, num_rounds + 1)]


def test_by_default_it_is_what_was_given():
    config = parse_config({"learning-rate": 0.005})
    assert {learning_rate(config, round_) for round_ in range(100)} == {0.005}
    assert not is_scheduled(config)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"schedule": "step", "schedule_every": 1, "schedule_factor": 0.5}, [1, 0.5, 0.25, 0.125]),
        ({"schedule": "step", "schedule_every": 3}, [1, 1, 1, 0.1]),
        ({"schedule": "cosine"}, [1, 0.8535533905932737, 0.5, 0.14644660940672627]),
        ({"warmup_rounds": 1}, [0.5, 1, 1, 1]),
        ({"warmup_rounds": 3}, [0.25, 0.5, 0.75, 1]),
        ({"warmup_rounds": 9}, [0.1, 0.2, 0.3, 0.4]),
        (
            {"schedule": "step", "schedule_every": 1, "schedule_factor": 0.5, "warmup_rounds": 2},
            [1 / 3, 2 / 3, 1, 0.5],
        ),
        ({"schedule": "cosine", "warmup_rounds": 2}, [1 / 3, 2 / 3, 1, 0.5]),
    ],
)
def test_the_rates_of_four_rounds(keys, expected):
    assert rates(**keys) == pytest.approx(expected)


@pytest.mark.parametrize("keys", [{}, {"method": "splitfed", "cut": 2}])
def test_all_agents_train_at_the_rate_of_the_round(keys):
    """A round at another rate gives other weights; at the same, the same; and its record names the rate."""
    keys = {"optimizer": "sgd", "learning_rate": 0.02, "local_epochs": 1, **keys}
    fleet = small_fleet(3)
    step = {"schedule": "step", "schedule_every": 1}
    constant, _ = run_local(small_config(**keys), fleet)
    slower, _ = run_local(small_config(**keys, **step), fleet)
    assert constant.rounds[0].score == slower.rounds[0].score
    assert constant.weights_sha256 != slower.weights_sha256
    assert [record.metrics.get("learning_rate") for record in slower.rounds] == pytest.approx([0.02, 0.002])
    assert constant.rounds[0].metrics == {}
    same, _ = run_local(small_config(**keys, schedule="step", schedule_every=1, schedule_factor=1.0), fleet)
    assert same.weights_sha256 == constant.weights_sha256


PLATEAU = {"schedule": "plateau", "schedule-patience": 2}


@pytest.mark.parametrize(
    ("scores", "keys", "expected"),
    [
        ([], {}, 0),
        ([0.5, 0.6, 0.7, 0.8], {}, 0),
        ([0.5, 0.4], {}, 0),
        ([0.5, 0.4, 0.4], {}, 1),
        ([0.5, 0.5, 0.5], {}, 1),  # as good as the best is no better
        ([0.5, 0.4, 0.45, 0.48, 0.49], {}, 2),  # better than the last, but not than the best
        ([0.5, 0.4, 0.6, 0.5, 0.7, 0.6], {}, 0),
        ([0.5, 0.4, 0.4, 0.4], {}, 1),  # after a reduction all rounds of patience begin again
        ([None, None, 0.1, None, 0.1, 0.2], {}, 2),
        ([0.9, 0.5, 0.6, 0.5], {"warmup-rounds": 1}, 0),
        ([0.9, 0.5, 0.6, 0.5, 0.5], {"warmup-rounds": 1}, 1),
        ([0.5, 0.4], {"schedule-patience": 1}, 1),
        ([0.5, 0.4, 0.4], {"schedule": "step"}, 0),
    ],
)
def test_the_rate_is_reduced_when_the_metric_has_not_got_better(scores, keys, expected):
    config = parse_config({**PLATEAU, **keys})
    assert count_reductions(scores, "higher", config) == expected
    of_lower = [None if score is None else -score for score in scores]
    assert count_reductions(of_lower, "lower", config) == expected


def test_each_reduction_multiplies_the_rate_whatever_the_round():
    config = parse_config({**PLATEAU, "learning-rate": 1.0, "schedule-factor": 0.5, "warmup-rounds": 1})
    assert [learning_rate(config, 5, num) for num in (0, 1, 3)] == [1.0, 0.5, 0.125]
    assert learning_rate(config, 1, 0) == 0.5, "warm-up"
    assert is_scheduled(config)


@pytest.mark.parametrize(
    "keys", [{}, {"method": "fedavg"}, {"method": "splitfed", "cut": 2}], ids=["comdml", "fedavg", "splitfed"]
)
def test_a_run_trains_each_round_at_the_rate_that_its_rounds_before_ask_for(keys):
    """At a rate of almost 0 the metric stays what it is."""
    keys = {"learning_rate": 1e-9, "schedule": "plateau", "schedule_patience": 1, "num_rounds": 4, **keys}
    record, _ = run_local(small_config(optimizer="sgd", schedule_factor=0.5, **keys), small_fleet(3))
    scores = [line.score for line in record.rounds]
    config = small_config(schedule_factor=0.5, **keys)
    expected = [
        learning_rate(config, number + 1, count_reductions(scores[:number], "higher", config))
        for number in range(4)
    ]
    assert [line.metrics["learning_rate"] for line in record.rounds] == expected
    assert expected[-1] < expected[0]
