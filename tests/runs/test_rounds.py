"""The loop: who takes part, which steps share an exchange, and what the agents' reports add up to."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from itertools import product
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.program import NOBODY, Step
from comdml_flwr.core.strict_json import to_json
from comdml_flwr.planning.participation import draw_participants
from comdml_flwr.runs.loop import last, run_rounds
from comdml_flwr.runs.record_reading import read_record
from comdml_flwr.runs.records import RoundRecord, add_up, as_json
from tests.small import Silent, idle_program, run_local, small_config, small_fleet, small_setup

LAW = settings(max_examples=200)
PHASES = ("introduce", "train", "average", "adopt")
IDS = (2, 3, 5, 7, 11, 13)


@LAW
@given(
    st.lists(st.integers(0, 99), min_size=1, max_size=20, unique=True).map(sorted).map(tuple),
    st.floats(0.001, 1),
    st.integers(0, 2**63 - 1),
    st.integers(1, 1000),
)
def test_participants_are_a_sample_of_the_agents_of_the_size_asked_for(ids, participation, seed, round_):
    present = draw_participants(ids, participation, seed, round_)
    assert list(present) == sorted(set(present) & set(ids))
    assert len(present) >= 1
    assert abs(len(present) - participation * len(ids)) <= 0.5 or len(present) == 1
    assert present == draw_participants(ids, participation, seed, round_), "everybody draws the same"


def test_all_take_part_where_all_are_asked_for():
    assert draw_participants(IDS, 1.0, 1, 1) == IDS


def test_who_takes_part_changes_with_the_round_and_the_seed_and_is_fair():
    draws = [draw_participants(IDS, 0.5, 1, round_) for round_ in range(1, 401)]
    assert [draw_participants(IDS, 0.5, 2, round_) for round_ in range(1, 401)] != draws
    times = Counter(agent for present in draws for agent in present)
    assert sum(times.values()) == 400 * 3
    assert all(140 <= times[agent] <= 260 for agent in IDS), "200 each, give or take six standard deviations"


def report(**facts):
    return {
        "correct": 6,
        "num_evaluated": 10,
        "loss_sum": 5.0,
        "bytes_sent": 100,
        "weights_sha256": "ab",
        "end_s": 4.0,
        "training_end_s": 3.0,
        "evaluation_s": 0.25,
        **facts,
    }


class Recorder:
    """A carrier and a listener that write down what they are asked; the reports are made up."""

    why_gone = MappingProxyType({})

    def __init__(self, reports=None):
        self.exchanges, self.begun, self.ended = [], [], []
        self._reports = reports or {}

    def exchange(self, steps, absence=NOBODY):
        self.exchanges.append(dict(steps))
        return {
            agent: report(**self._reports.get((agent, step.round), {})) for agent, (step, *_) in steps.items()
        }

    def close(self):
        raise AssertionError("whoever made the carrier closes it")

    def exchange_begins(self, round_, phase, num_agents):
        self.begun.append((round_, phase, num_agents))


def run(recorder, ids=IDS, phases=PHASES, **keys):
    for record in run_rounds(recorder, idle_program(*phases), ids, small_config(**keys), recorder):
        recorder.ended.append((record.last.round, len(recorder.exchanges)))
    return record


def test_the_last_phase_rides_with_the_next_rounds_first():
    recorder = Recorder()
    run(recorder, ids=(4, 9), num_rounds=2)
    everybody = [
        (Step(1, 0),),
        (Step(1, 1),),
        (Step(1, 2),),
        (Step(1, 3), Step(2, 0)),
        (Step(2, 1),),
        (Step(2, 2),),
        (Step(2, 3),),
    ]
    assert recorder.exchanges == [{4: steps, 9: steps} for steps in everybody]
    assert recorder.begun == [
        (1, "introduce", 2),
        (1, "train", 2),
        (1, "average", 2),
        (2, "introduce", 2),
        (2, "train", 2),
        (2, "average", 2),
        (2, "adopt", 2),
    ]
    assert recorder.ended == [(1, 4), (2, 7)], "a round is yielded as soon as its last reports are in"


@pytest.mark.parametrize("num_phases", [2, 3, 5])
@pytest.mark.parametrize("num_rounds", [1, 2, 4])
def test_n_phases_cost_n_minus_1_exchanges_a_round_and_one_at_the_end(num_phases, num_rounds):
    recorder = Recorder()
    run(recorder, phases=[f"phase {n}" for n in range(num_phases)], num_rounds=num_rounds)
    assert len(recorder.exchanges) == num_rounds * (num_phases - 1) + 1
    assert [round_ for round_, _ in recorder.ended] == list(range(1, num_rounds + 1))


def test_where_the_rate_follows_the_metric_each_round_is_over_before_the_next_begins():
    """All rounds are as good as the first: with a patience of one, each after the second is slower."""
    recorder = Recorder()
    run(recorder, ids=(4, 9), num_rounds=4, schedule="plateau", schedule_patience=1)
    told = {(step.round, step.num_reductions) for steps in recorder.exchanges for step in steps[4]}
    assert told == {(1, 0), (2, 0), (3, 1), (4, 2)}
    assert recorder.ended == [(round_, round_ * len(PHASES)) for round_ in range(1, 5)]


def test_every_agent_runs_every_phase_of_the_rounds_it_takes_part_in_and_no_other():
    recorder = Recorder()
    record = run(recorder, participation=0.5, num_rounds=6)
    present = {round_: draw_participants(IDS, 0.5, 1, round_) for round_ in range(1, 7)}
    assert len(set(present.values())) > 1
    for agent in IDS:
        ran = [step for steps in recorder.exchanges for step in steps.get(agent, ())]
        assert ran == [
            Step(round_, phase)
            for round_, agents in present.items()
            if agent in agents
            for phase in range(len(PHASES))
        ], "in order, each once"
    assert all(list(steps) == sorted(steps) and all(steps.values()) for steps in recorder.exchanges)
    assert [r.num_agents for r in record.rounds] == [len(present[round_]) for round_ in range(1, 7)]


def test_the_observer_hears_how_many_agents_an_exchange_has():
    """The terminal says "2 of 3 agents": those that only end their last round reply too."""
    recorder = Recorder()
    run(recorder, participation=0.5, num_rounds=6)
    assert [num_agents for *_, num_agents in recorder.begun] == [len(s) for s in recorder.exchanges]


def test_the_reports_of_a_round_are_of_those_who_took_part_in_it():
    """In the exchange that two rounds share, a newcomer's report belongs to neither sum."""
    present = [draw_participants(IDS, 0.5, 1, round_) for round_ in (1, 2)]
    newcomers = set(present[1]) - set(present[0])
    assert newcomers
    recorder = Recorder({(agent, 2): {"bytes_sent": 7} for agent in present[1]})
    record = run(recorder, participation=0.5, num_rounds=2)
    assert [r.bytes_sent for r in record.rounds] == [300, 21]


def test_the_digest_of_a_run_is_over_all_agents_in_id_order():
    recorder = Recorder({(agent, 2): {"weights_sha256": "cd"} for agent in IDS})
    record = run(recorder, ids=(3, 20, 100), num_rounds=1)
    assert record.weights_sha256 == hashlib.sha256(b"ababab").hexdigest()

    reports = {(agent, round_): {"weights_sha256": f"{round_:02}"} for agent in IDS for round_ in range(1, 5)}
    record = run(Recorder(reports), participation=0.5, num_rounds=4)
    last = {a: r for r in range(1, 5) for a in draw_participants(IDS, 0.5, 1, r)}
    expected = "".join(f"{last[agent]:02}" for agent in sorted(last))
    assert record.weights_sha256 == hashlib.sha256(expected.encode()).hexdigest()


def test_a_carrier_that_fails_ends_the_run():
    class Broken(Recorder):
        def exchange(self, steps, absence=NOBODY):
            if len(self.exchanges) == 2:
                raise RunError("agent 3 failed")
            return super().exchange(steps, absence)

    with pytest.raises(RunError, match="agent 3 failed"):
        run(Broken())


def test_a_rounds_reports_added_up_by_hand():
    pair = {"slow": 5, "fast": 2, "cut": 3, "finish_s": 2.5, "bytes": 1e6}
    forecast = {
        "predicted_s": 2.5,
        "no_offload_makespan_s": 7.0,
        "no_offload_virtual_time_s": 8.0,
    }
    reports = {
        5: report(correct=2, num_evaluated=7, loss_sum=3.5, end_s=4.5, training_end_s=1.0, pair=pair),
        2: report(
            correct=6,
            evaluation_s=0.75,
            num_evaluated=8,
            loss_sum=2.5,
            bytes_sent=11,
            training_end_s=2.75,
            **forecast,
        ),
        3: report(correct=0, num_evaluated=0, loss_sum=0.0, bytes_sent=9, end_s=3.0, refused=[9, 8]),
        4: report(correct=1, num_evaluated=5, loss_sum=4.0, bytes_sent=0, refused=[8]),
    }
    assert add_up(6, reports, 1.25) == RoundRecord(
        round=6,
        scores={"accuracy": (2 + 6 + 0 + 1) / 20, "loss": (3.5 + 2.5 + 4.0) / 20},
        num_evaluated=20,
        virtual_time_s=4.5,
        makespan_s=3.0,
        predicted_s=2.5,
        no_offload_virtual_time_s=8.0,
        no_offload_makespan_s=7.0,
        elapsed_s=1.25,
        evaluation_s=0.75,
        bytes_sent=120,
        num_agents=4,
        plan={"pairs": [pair], "solo": [3, 4]},
        refused=[8, 9],
    )


def test_a_method_that_foretells_nothing_has_no_times_without_offload():
    record = add_up(1, {0: report(end_s=9.0, training_end_s=6.0), 1: report()}, 0.0)
    assert (record.virtual_time_s, record.predicted_s) == (9, 6)
    assert (record.no_offload_makespan_s, record.no_offload_virtual_time_s) == (None, None)
    assert record.plan == {"pairs": [], "solo": [0, 1]}
    assert record.refused == []


def test_the_order_of_the_reports_does_not_matter():
    """Floats are summed by ascending id, whoever replies first."""
    reports = {agent: report(loss_sum=loss) for agent, loss in enumerate((1e16, 1.0, -1e16, 0.1))}
    assert add_up(1, reports, 0.0) == add_up(1, dict(reversed(reports.items())), 0.0)


@pytest.mark.parametrize(
    "others", [{1: "ab", 4: "xy"}, {1: "ab", 4: "xy", 7: "xy"}, {1: "ab", 4: "xy", 7: "z"}]
)
def test_agents_with_different_weights_are_an_error_that_names_two_of_them(others):
    reports = {agent: report(weights_sha256=digest) for agent, digest in reversed(others.items())}
    with pytest.raises(RunError) as caught:
        add_up(3, reports, 0.0)
    assert str(caught.value) == "round 3: agents 1 and 4 hold different weights after averaging"


COUNTS = ("correct", "num_evaluated")
NUMBERS = (*COUNTS, "bytes_sent", "end_s", "training_end_s", "evaluation_s")


@pytest.mark.parametrize(
    ("name", "value"),
    [*product(NUMBERS, [None, "3", [3]]), ("loss_sum", "3"), ("loss_sum", [3])],
)
def test_a_report_without_a_number_where_one_belongs_is_an_error_in_one_line(name, value):
    with pytest.raises(RunError) as caught:
        add_up(1, {0: report(), 1: report(**{name: value})}, 0.0)
    kind = "whole number" if name in COUNTS else "number"
    assert str(caught.value) == f"{name} in a report: {value!r} is no {kind}"


def test_a_loss_that_is_not_finite_leaves_the_round_without_one_and_with_its_accuracy():
    record = add_up(1, {0: report(), 1: report(loss_sum=None)}, 0.0)
    assert (record.loss, record.score) == (None, 0.6)
    assert read_record(json.loads(to_json(as_json(record)))) == record


def test_with_whole_batches_the_clock_of_a_run_ends_training_when_the_plan_said():
    """5 agents of 40 samples: five batches of 8 each, none of them small."""
    config, fleet = small_config(num_rounds=2), small_fleet(5)
    assert all(size % 8 == 0 for size in small_setup(config, fleet).num_samples.values())
    record, _ = run_local(config, fleet)
    for round_ in record.rounds:
        assert round_.plan["pairs"]
        assert round_.makespan_s == pytest.approx(round_.predicted_s, rel=1e-9)


def test_a_listener_that_only_listens_changes_nothing():
    watched = run(Recorder())
    silent = last(run_rounds(Recorder(), idle_program(*PHASES), IDS, small_config(), Silent()))
    assert [replace(r, elapsed_s=0.0) for r in watched.rounds] == [
        replace(r, elapsed_s=0.0) for r in silent.rounds
    ]
