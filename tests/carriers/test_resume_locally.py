"""A run that was killed goes on and comes to the bits of an undisturbed one: the local carrier."""

import json

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from comdml_flwr.carriers.local import LocalCarrier
from comdml_flwr.core.errors import RunError
from comdml_flwr.core.program import Step
from comdml_flwr.runs.local_run import run_locally
from tests.carriers.interrupted import (
    FOLLOWS_METRIC,
    SCENARIOS,
    Killed,
    lines_of,
    models_of,
    only_run_in,
    outcome_of,
    write_fleet,
)
from tests.flower.loop_grid import quiet_terminal
from tests.runs.tracking.wandb_files import records
from tests.small import CATALOGUE

NUM_ROUNDS = 6
LOCAL = {
    **SCENARIOS,
    "fedavg": {"method": "fedavg", "participation": 0.6},
    "splitfed": {"method": "splitfed", "cut": 2, "participation": 0.6},
    "a rate that follows the metric": {"method": "allreduce", **FOLLOWS_METRIC},
}


def values_of(tmp_path, keys, results):
    """Return the run configuration of the small run."""
    return {
        "model": "four-stages",
        "dataset": "few-digits",
        "num-rounds": NUM_ROUNDS,
        "batch-size": 8,
        "local-epochs": 1,
        "fleet": write_fleet(tmp_path),
        "results-dir": str(tmp_path / results),
        **keys,
    }


def run(values, num_agents=5, **options):
    return run_locally(
        values, num_agents=num_agents, catalogue=CATALOGUE, terminal=quiet_terminal(NUM_ROUNDS), **options
    )


def die_at(monkeypatch, exchange):
    """Let the process die as the carrier begins its n-th exchange."""
    real, count = LocalCarrier.exchange, [0]

    def dies(self, steps, *rest):
        count[0] += 1
        if count[0] == exchange:
            raise Killed
        return real(self, steps, *rest)

    monkeypatch.setattr(LocalCarrier, "exchange", dies)


def count_exchanges(monkeypatch):
    real, count = LocalCarrier.exchange, [0]

    def counts(self, steps, *rest):
        count[0] += 1
        return real(self, steps, *rest)

    monkeypatch.setattr(LocalCarrier, "exchange", counts)
    return count


@pytest.mark.parametrize("keys", LOCAL.values(), ids=LOCAL)
def test_a_resumed_run_comes_to_what_an_undisturbed_one_does(keys, tmp_path, monkeypatch):
    values = values_of(tmp_path, keys, "undisturbed")
    run(values)
    undisturbed = only_run_in(tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        count = count_exchanges(patch)
        run({**values, "results-dir": str(tmp_path / "kept"), "checkpoint-every": 2})
    kept = only_run_in(tmp_path / "kept")
    assert outcome_of(kept) == outcome_of(undisturbed), "checkpoints change nothing"

    late, at_the_end = count[0] * 3 // 4, count[0]  # others: test_a_run_that_is_killed_again_and_again
    for exchange in (late, at_the_end) if keys.get("method") in (None, "fedavg") else (late,):
        results = tmp_path / f"killed-{exchange}"
        with monkeypatch.context() as patch:
            die_at(patch, exchange)
            with pytest.raises(Killed):
                run({**values, "results-dir": str(results), "checkpoint-every": 2})
        killed = only_run_in(results)
        assert not (killed / "summary.json").exists()
        run({"resume": str(killed)}, num_agents=None)
        assert outcome_of(killed) == outcome_of(undisturbed)
        assert models_of(killed) == models_of(undisturbed)
        assert only_run_in(results) == killed
        assert not (killed / "failed.txt").exists()
        assert sorted(p.name for p in killed.iterdir()) == sorted(p.name for p in kept.iterdir())
        assert json.loads((killed / "agents.json").read_text()) == json.loads(
            (undisturbed / "agents.json").read_text()
        )


def test_a_run_that_is_killed_again_and_again_arrives(tmp_path, monkeypatch):
    """Each time it comes one checkpoint further, workers side by side or not."""
    values = values_of(tmp_path, SCENARIOS["comdml"], "undisturbed")
    run(values)
    undisturbed = only_run_in(tmp_path / "undisturbed")
    results = tmp_path / "killed"
    for attempt in range(20):
        with monkeypatch.context() as patch:
            die_at(patch, 7)
            try:
                if attempt == 0:
                    run({**values, "results-dir": str(results), "checkpoint-every": 1})
                else:
                    run({"resume": str(only_run_in(results))}, num_agents=None, num_workers=1 + attempt % 2)
            except Killed:
                continue
            break
    assert attempt > 2
    assert outcome_of(only_run_in(results)) == outcome_of(undisturbed)


@pytest.mark.parametrize("keys", [SCENARIOS["comdml"], SCENARIOS["allreduce"]], ids=["newcomers", "all"])
def test_training_on_gives_the_bits_of_a_run_that_had_all_rounds_from_the_beginning(keys, tmp_path):
    """Where the last round handed no model to those who come next, it goes on from the checkpoint before."""
    run(values_of(tmp_path, keys, "whole"))
    run({**values_of(tmp_path, keys, "part"), "num-rounds": 4, "checkpoint-every": 3})
    part = only_run_in(tmp_path / "part")
    assert len(lines_of(part)) == 4
    run({"resume": str(part), "num-rounds": NUM_ROUNDS}, num_agents=None)
    assert outcome_of(part) == outcome_of(only_run_in(tmp_path / "whole"))
    assert json.loads((part / "config.json").read_text())["num-rounds"] == NUM_ROUNDS


def test_a_run_that_died_before_its_summary_gets_one(tmp_path, monkeypatch):
    values = values_of(tmp_path, SCENARIOS["allreduce"], "results") | {"checkpoint-every": 4}
    run(values)
    run_folder = only_run_in(tmp_path / "results")
    whole = outcome_of(run_folder)
    (run_folder / "summary.json").unlink()
    run({"resume": str(run_folder)}, num_agents=None)
    assert outcome_of(run_folder) == whole


def test_tensorboard_goes_on_with_the_same_curves(tmp_path, monkeypatch):
    """What was written of round 5, which is trained again, is not shown twice."""
    values = values_of(tmp_path, SCENARIOS["allreduce"], "results") | {"tensorboard": True}
    with monkeypatch.context() as patch:
        dies_in_round(patch, 6, Killed)
        with pytest.raises(Killed):
            run({**values, "checkpoint-every": 2})
    killed = only_run_in(tmp_path / "results")
    assert len(lines_of(killed)) == 5
    run({"resume": str(killed)}, num_agents=None)
    events = EventAccumulator(str(killed / "tensorboard"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("measured/accuracy")]
    assert shown == [(line["round"], np.float32(line["accuracy"])) for line in lines_of(killed)]


def test_wandb_goes_on_under_the_same_id_with_all_rounds(tmp_path, monkeypatch):
    values = values_of(tmp_path, SCENARIOS["allreduce"], "results") | {"wandb": "offline"}
    with monkeypatch.context() as patch:
        dies_in_round(patch, 6, Killed)
        with pytest.raises(Killed):
            run({**values, "checkpoint-every": 2})
    killed = only_run_in(tmp_path / "results")
    run({"resume": str(killed)}, num_agents=None)
    files = sorted(killed.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    for file, num_rounds, exit_code in zip(files, (5, 6), (1, 0), strict=True):
        found = list(records(file))
        assert {record.run.run_id for record in found if record.HasField("run")} == {killed.name}
        assert len([record for record in found if record.HasField("history")]) == num_rounds
        assert [record.exit.exit_code for record in found if record.HasField("exit")] == [exit_code]


def dies_in_round(monkeypatch, round_, error):
    """Let the run end with an error in the second exchange of a round."""
    real = LocalCarrier.exchange

    def dies(self, steps, *rest):
        if next(iter(steps.values()))[0] == Step(round_, 1):
            raise error
        return real(self, steps, *rest)

    monkeypatch.setattr(LocalCarrier, "exchange", dies)


def test_an_agents_fault_leaves_a_run_that_can_go_on(tmp_path, monkeypatch):
    values = values_of(tmp_path, SCENARIOS["gossip"], "undisturbed")
    run(values)
    with monkeypatch.context() as patch:
        dies_in_round(patch, 5, RunError("disk full"))
        with pytest.raises(RunError, match="disk full"):
            run({**values, "results-dir": str(tmp_path / "failed"), "checkpoint-every": 3})
    failed = only_run_in(tmp_path / "failed")
    assert (failed / "failed.txt").read_text() == "disk full\n"
    run({"resume": str(failed)}, num_agents=None)
    assert outcome_of(failed) == outcome_of(only_run_in(tmp_path / "undisturbed"))
