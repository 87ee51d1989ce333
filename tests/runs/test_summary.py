"""What a whole run came to: sums by hand, and the names that scripts rely on."""

from dataclasses import replace
from hashlib import sha256

from comdml_flwr.runs.records import RunRecord, add_up, as_json
from comdml_flwr.runs.summary import summarize
from tests.runs.test_rounds import report
from tests.small import small_config

ROUND = add_up(1, {0: report()}, 0.5)


def test_a_summary_by_hand():
    rounds = (
        replace(
            ROUND,
            virtual_time_s=4.0,
            makespan_s=3.0,
            no_offload_virtual_time_s=8.0,
            no_offload_makespan_s=7.0,
        ),
        replace(
            ROUND,
            round=2,
            virtual_time_s=2.0,
            makespan_s=1.0,
            no_offload_virtual_time_s=4.0,
            no_offload_makespan_s=3.0,
            scores={"accuracy": 0.75, "loss": 0.5},
            bytes_sent=23,
        ),
    )
    config = small_config(seed=5, method="allreduce", num_rounds=9)
    record = RunRecord(rounds=rounds, digests={1: "feed"})
    assert summarize(record, config, 6, 1.5) == {
        "method": "allreduce",
        "model": "four-stages",
        "dataset": "few-digits",
        "num_agents": 6,
        "num_rounds": 2,
        "seed": 5,
        "carrier": "local",
        "profiles": "fleet",
        "status": "complete",
        "missing": [],
        "mostly_gone": [],
        "diverged": False,
        "metric": "accuracy",
        "better": "higher",
        "accuracy": 0.75,
        "metric_round": 2,
        "own_tests": None,
        "virtual_time_s": 6.0,
        "no_offload_virtual_time_s": 12.0,
        "virtual_time_ratio": 0.5,
        "virtual_training_s": 4.0,
        "no_offload_virtual_training_s": 10.0,
        "virtual_training_ratio": 0.4,
        "elapsed_s": 1.5,
        "bytes_sent": 123,
        "stopped": None,
        "left_out": {},
        "weights_sha256": sha256(b"feed").hexdigest(),
    }


def test_a_summary_says_in_how_many_rounds_an_agent_was_left_out_whatever_the_reason():
    rounds = (
        replace(ROUND, not_finite=[10], gone=[2]),
        replace(ROUND, not_finite=[2], gone=[2], taken_back=[5]),
        replace(ROUND, refused=[10], not_committed=[0]),
    )
    summary = summarize(RunRecord(rounds=rounds), small_config(), 11, 1.0)
    assert summary["left_out"] == {"0": 1, "2": 2, "10": 2}
    assert list(summary["left_out"]) == ["0", "2", "10"], "by id, and who takes layers back is in"


def test_a_summary_claims_no_gain_where_nothing_was_predicted_and_a_lost_forecast_counts_as_it_was():
    alone = replace(ROUND, virtual_time_s=4.0, makespan_s=3.0)
    told = replace(alone, no_offload_virtual_time_s=10.0, no_offload_makespan_s=9.0)
    names = (
        "no_offload_virtual_time_s", "virtual_time_ratio",
        "no_offload_virtual_training_s", "virtual_training_ratio",
    )  # fmt: skip
    for rounds, expected in (
        ((alone, alone), (None, None, None, None)),
        ((told, alone), (14.0, 8 / 14, 12.0, 6 / 12)),
    ):
        record = RunRecord(rounds=rounds, digests={1: "feed"})
        summary = summarize(record, small_config(), 1, 1.5)
        assert tuple(summary[name] for name in names) == expected


def test_a_summary_has_the_keys_of_the_contract():
    """Scripts rely on these names."""
    contract = (
        "method, model, dataset, num_agents, num_rounds, seed, carrier, accuracy, virtual_time_s,"
        " no_offload_virtual_time_s, elapsed_s, bytes_sent, weights_sha256"
    )
    record = RunRecord(rounds=(ROUND,), digests={1: "feed"})
    assert set(contract.split(", ")) <= set(summarize(record, small_config(), 1, 1.5))
    line = "accuracy, loss, virtual_time_s, elapsed_s, bytes_sent, plan"
    assert set(line.split(", ")) <= set(as_json(ROUND))
