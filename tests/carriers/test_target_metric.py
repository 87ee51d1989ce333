"""All agents of a message know with which round the run ends, whoever took part in it or failed."""

import pytest

from comdml_flwr.carriers.direct import deadlines
from comdml_flwr.carriers.direct.run_end import reaches_target
from comdml_flwr.runs.records import add_up
from tests.carriers.direct_runs import run_direct, run_direct_with
from tests.faults import FailAt, run_local_with
from tests.small import run_local, small_config, small_fleet, small_setup

FLEET = small_fleet(5)
QUICK = {"local_epochs": 1, "batch_size": 16, "learning_rate": 0.02}


def first_to_reach(rounds, before):
    """Return the best accuracy of the rounds before one, and the first round that has it."""
    accuracies = [line.score for line in rounds]
    target = max(accuracies[: before - 1])
    return target, accuracies.index(target) + 1


@pytest.mark.parametrize(("method", "seed"), [("allreduce", 3), ("gossip", 3)])
def test_whoever_is_absent_in_the_last_round_hears_of_it(method, seed):
    """Those who come next see it in the marks of the others; those who come later are told."""
    keys = {"method": method, "participation": 0.4, "seed": seed, "num_rounds": 8, **QUICK}
    target, first = first_to_reach(run_local(small_config(**keys), FLEET)[0].rounds, before=5)
    config = small_config(target_metric=target, **keys)
    here, _ = run_local(config, FLEET)
    records, digest, _ = run_direct(config, FLEET)
    assert digest == here.weights_sha256
    assert [line.bytes_sent for line in records] == [line.bytes_sent for line in here.rounds]
    assert len(records) == first


def test_those_who_are_left_end_with_the_round_that_reaches_it(monkeypatch):
    monkeypatch.setattr(deadlines, "SHORTEST_S", 3.0)
    config = small_config(method="allreduce", num_rounds=6, **QUICK)
    fault = FailAt(0, 2, round=2)  # before it has averaged its shard
    whole, _ = run_local_with(config, FLEET, [fault])
    target, first = first_to_reach(whole.rounds, before=6)
    assert first > 2
    config = config.model_copy(update={"target_metric": target})
    reports, _, _ = run_direct_with(config, FLEET, [fault])
    rounds = [add_up(number, told, 0.0) for number, told in sorted(reports.items())]
    told, expected = ([line.score for line in lines[1:first]] for lines in (rounds, whole.rounds))
    assert told == expected, "what agent 0 told of round 1 died with it"
    assert len(rounds) == first


@pytest.mark.parametrize(
    ("told", "reached"),
    [
        ([(3, 4), (3, 4)], True),
        ([(3, 4), (2, 4)], False),
        ([(2, 4), (10**30, 10**30)], False),
        ([(2, 4), (26, 26)], False),
        ([(3, 4), (None, 4)], True),
        ([(3, 4), (0, 26)], True),
        ([], False),
    ],
)
def test_the_counts_of_all_are_added_up(told, reached):
    """Without those that cannot be: each of two can have evaluated 25 samples of 50."""
    marks = {
        agent: {"correct": correct, "loss_sum": None, "num_evaluated": of_all}
        for agent, (correct, of_all) in enumerate(told)
    }
    with_target, without = (small_setup(small_config(target_metric=x), small_fleet(2)) for x in (0.75, 0.0))
    assert reaches_target(with_target, marks) is reached
    assert reaches_target(without, marks) is False, "there is none"
