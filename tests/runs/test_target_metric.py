"""A run ends with the first round whose test accuracy reaches `target-metric`; until then no bit differs."""

import json
from dataclasses import replace

import pytest

from comdml_flwr.core.errors import InputError
from comdml_flwr.runs.local_run import run_locally
from comdml_flwr.runs.resuming import find_run
from tests.flower.loop_grid import grid_config, quiet_terminal, run_on_grid
from tests.methods.test_all import EVERY
from tests.small import CATALOGUE, fleet_text, run_local, small_config, small_fleet

NUM_AGENTS, ROUNDS = 4, 4
QUICK = {"batch_size": 16, "local_epochs": 1, "num_rounds": ROUNDS, "learning_rate": 0.02}
FLEET = small_fleet(NUM_AGENTS)
EVERY_DAY = ("comdml", "splitfed 2", "gossip")


def modelled(record):
    """Return the rounds without what a stopwatch measured."""
    return [replace(line, elapsed_s=0.0, evaluation_s=0.0) for line in record.rounds]


def target_of(record, before=ROUNDS):
    """Return an accuracy that a run reaches before a round, and the first round that reaches it."""
    accuracies = [line.score for line in record.rounds]
    target = max(accuracies[: before - 1])
    return target, accuracies.index(target) + 1


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(keys, id=name, marks=() if name in EVERY_DAY else pytest.mark.slow)
        for name, keys in EVERY.items()
    ],
)
def test_a_run_ends_with_the_first_round_that_reaches_its_target(keys):
    whole, _ = run_local(small_config(**QUICK, **keys), FLEET)
    target, first = target_of(whole)
    stopped, agents = run_local(small_config(target_metric=target, **QUICK, **keys), FLEET)
    assert modelled(stopped) == modelled(whole)[:first]
    shorter, there = run_local(small_config(**{**QUICK, "num_rounds": first}, **keys), FLEET)
    assert stopped.weights_sha256 == shorter.weights_sha256
    assert [a.weights_sha256() for a in agents] == [a.weights_sha256() for a in there], "and no more training"


def test_a_target_that_is_not_reached_changes_nothing():
    keys = {**QUICK, "participation": 0.6}
    whole, never = (run_local(small_config(target_metric=t, **keys), FLEET)[0] for t in (0.0, 1.0))
    assert modelled(never) == modelled(whole)
    assert never.weights_sha256 == whole.weights_sha256


@pytest.mark.parametrize("keys", [{}, {"participation": 0.5}], ids=["all", "half of them"])
def test_so_does_a_run_on_the_grid(keys, tmp_path):
    """Whoever was absent has the model when it takes part again, though each round ends by itself."""
    keys = {**QUICK, **keys, "num_rounds": 5}
    whole, _ = run_local(small_config(**keys), FLEET)
    target = max(line.score for line in whole.rounds)
    config = small_config(target_metric=target, **keys)
    here, _ = run_local(config, FLEET)
    run_on_grid(grid_config(config, tmp_path), fleet_text(NUM_AGENTS), NUM_AGENTS)
    (folder,) = tmp_path.iterdir()
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    assert [line["accuracy"] for line in lines] == [line.score for line in here.rounds]
    assert [line["bytes_sent"] for line in lines] == [line.bytes_sent for line in here.rounds]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["stopped"] == f"target-metric reached in round {len(lines)}"
    assert summary["weights_sha256"] == here.weights_sha256


@pytest.fixture
def stopped(tmp_path):
    """A run that has reached its target, with a checkpoint of that round; and its undisturbed record."""
    (tmp_path / "fleet.toml").write_text(fleet_text(NUM_AGENTS))
    values = {
        "model": "four-stages",
        "dataset": "few-digits",
        "fleet": str(tmp_path / "fleet.toml"),
        "results-dir": str(tmp_path / "results"),
        **{key.replace("_", "-"): value for key, value in QUICK.items()},
    }
    keys = {"num_agents": NUM_AGENTS, "catalogue": CATALOGUE, "terminal": quiet_terminal(ROUNDS)}
    whole = run_locally({**values, "results-dir": str(tmp_path / "whole")}, **keys)
    target, first = target_of(whole)
    run_locally({**values, "target-metric": target, "checkpoint-every": 3}, **keys)
    (folder,) = (tmp_path / "results").iterdir()
    return folder, whole, target, first


def test_a_run_that_stopped_has_finished_and_a_larger_target_trains_on(stopped):
    folder, whole, target, first = stopped
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["num_rounds"], summary["stopped"]) == (first, f"target-metric reached in round {first}")
    with pytest.raises(InputError) as caught:
        find_run(str(folder), {"num-rounds": 9})
    assert f"it reached its target-metric {target:g} in round {first}; a larger one" in str(caught.value)
    assert find_run(str(folder), {"target-metric": 1.0}).checkpoint.round == first
    keys = {"catalogue": CATALOGUE, "terminal": quiet_terminal(ROUNDS)}
    record = run_locally({"resume": str(folder), "target-metric": 1.0}, **keys)
    assert record.weights_sha256 == whole.weights_sha256
    assert [line.score for line in record.rounds] == [line.score for line in whole.rounds]
    assert json.loads((folder / "summary.json").read_text())["stopped"] is None


def test_a_run_that_died_after_the_round_that_reached_it_only_writes_its_summary(stopped):
    folder, _, _, first = stopped
    before = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").unlink()
    keys = {"catalogue": CATALOGUE, "terminal": quiet_terminal(ROUNDS)}
    record = run_locally({"resume": str(folder)}, **keys)
    assert len(record.rounds) == first
    after = json.loads((folder / "summary.json").read_text())
    assert {**after, "elapsed_s": 0} == {**before, "elapsed_s": 0}
