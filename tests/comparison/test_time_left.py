"""What is left of a comparison, however much its runs differ."""

import heapq

import pytest

from comdml_flwr.cli.commands.time_left import TimeLeft
from comdml_flwr.comparison.schedule import PlannedRun, longest_first

ROUND_S = {("10 agents", "ComDML"): 2.0, ("10 agents", "FedAvg"): 1.0, ("100 agents", "ComDML"): 15.0}
ROUND_S["100 agents", "FedAvg"] = 10.0
NUM_ROUNDS = 10


def runs():
    return longest_first(
        PlannedRun(
            case=case,
            label=label,
            seed=seed,
            num_agents=int(case.split()[0]),
            config={"num-rounds": NUM_ROUNDS, "local-epochs": 2, "method": label.lower(), "seed": seed},
            fleet_text="",
            data_dir="data",
        )
        for case, label in ROUND_S
        for seed in (1, 2, 3)
    )


def told(num_workers):
    """Play a comparison; return (time, what is told to be left, kinds so far) by round, and its end."""
    waiting, left, events, seen, kinds = runs(), TimeLeft(runs()), [], [], set()

    def begin(now_s):
        run = waiting.pop(0)
        left.begins(run, now_s)
        heapq.heappush(events, (now_s + ROUND_S[run.case, run.label], str(run), 1, run))

    for _ in range(num_workers):
        begin(0.0)
    now_s = 0.0
    while events:
        now_s, name, round_, run = heapq.heappop(events)
        left.round_ends(run, round_, now_s)
        kinds.add((run.case, run.label))
        seen.append((now_s, left.of_all(), len(kinds)))
        if round_ < NUM_ROUNDS:
            heapq.heappush(events, (now_s + ROUND_S[run.case, run.label], name, round_ + 1, run))
            continue
        left.ends(run)
        if waiting:
            begin(now_s)
    return seen, now_s


def is_within(factor, left_s, truth_s):
    return truth_s / factor <= left_s <= truth_s * factor


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_what_is_left_is_never_told_ten_times_too_long(num_workers):
    seen, end_s = told(num_workers)
    for at_s, left_s, num_kinds in seen:
        if at_s < 0.95 * end_s:
            factor = 2 if num_kinds == len(ROUND_S) else 4
            assert is_within(factor, left_s, end_s - at_s), (at_s, left_s, end_s)


def test_nothing_is_told_before_a_round_has_ended():
    left = TimeLeft(runs())
    left.begins(runs()[0], 0.0)
    assert left.of_all() is None
    assert left.of_run(runs()[0]) is None
