"""A whole run of each task: its metric is in all records, gets better, and decides when to stop."""

import json

import pytest

from comdml_flwr.core.errors import InputError
from comdml_flwr.runs.catalogue import Catalogue
from comdml_flwr.runs.local_run import run_locally
from comdml_flwr.runs.model_files import read_model
from tests.fleets import agent_tables
from tests.flower.loop_grid import quiet_terminal
from tests.learning.tasks.small_tasks import TASKS
from tests.small import run_local, small_config, small_fleet

ROUNDS = 4
SPEEDS = (4e7, 2e7, 1e6, 0.5e6)  # FLOP/s: slow ones, so that it pays to offload a tiny model


def run(name, tmp_path, **keys):
    task, data_for, build = TASKS[name]
    catalogue = Catalogue(models={"tiny": build}, datasets={"tiny": lambda config: data_for(task)})
    tmp_path.mkdir(exist_ok=True)
    fleet = tmp_path / "fleet.toml"
    fleet.write_text(f"[links]\nbandwidth_mbps = 100\n{agent_tables(4, flops_per_s=SPEEDS)}")
    values = {
        "model": "tiny",
        "dataset": "tiny",
        "num-rounds": ROUNDS,
        "batch-size": 8,
        "learning-rate": 0.02,
        "fleet": str(fleet),
        "results-dir": str(tmp_path / "results"),
        **keys,
    }
    record = run_locally(values, num_agents=4, catalogue=catalogue, terminal=quiet_terminal(ROUNDS))
    (folder,) = (tmp_path / "results").iterdir()
    return record, folder


@pytest.mark.parametrize("method", ["comdml", "allreduce"])
@pytest.mark.parametrize("name", TASKS)
def test_each_task_is_learned(name, method, tmp_path):
    task = TASKS[name][0]
    record, folder = run(name, tmp_path, method=method)
    first, last, metric = record.rounds[0], record.rounds[-1], task.metrics.primary
    assert last.loss < first.loss
    assert (last.score > first.score) == (task.metrics.better == "higher")
    assert (method == "comdml") == bool(first.plan["pairs"]), "somebody offloads"
    # the same names and values in every file
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["metric"], summary["better"]) == (metric, task.metrics.better)
    assert summary[metric] == last.score
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    assert [line[metric] for line in lines] == [line.score for line in record.rounds]
    best = (max if task.metrics.better == "higher" else min)(line.score for line in record.rounds)
    model = read_model(folder / "model-best.safetensors")
    assert (model.metric, model.score) == (metric, best)
    assert ("accuracy" in summary) == (metric == "accuracy")


@pytest.mark.parametrize("name", ["language model", "regression"])
def test_a_target_ends_the_run_in_its_own_direction(name, tmp_path):
    record, _ = run(name, tmp_path / "whole")
    target = record.rounds[1].score
    stopped, folder = run(name, tmp_path / "stopped", **{"target-metric": target})
    assert len(stopped.rounds) == 2
    assert json.loads((folder / "summary.json").read_text())["stopped"] == "target-metric reached in round 2"


def test_a_run_goes_on_from_its_checkpoint_with_its_metric_and_its_rate(tmp_path):
    halved = {"schedule": "step", "schedule-every": 1, "schedule-factor": 0.5}
    task, data_for, build = TASKS["language model"]
    whole, _ = run("language model", tmp_path / "whole", **halved)
    _, folder = run("language model", tmp_path / "part", **halved, **{"num-rounds": 2, "checkpoint-every": 1})
    catalogue = Catalogue(models={"tiny": build}, datasets={"tiny": lambda config: data_for(task)})
    record = run_locally(
        {"resume": str(folder), "num-rounds": ROUNDS}, catalogue=catalogue, terminal=quiet_terminal(ROUNDS)
    )
    assert [line.score for line in record.rounds] == [line.score for line in whole.rounds]
    assert record.weights_sha256 == whole.weights_sha256
    assert [line.metrics["learning_rate"] for line in record.rounds] == [0.02, 0.01, 0.005, 0.0025]


def test_the_key_says_which_head_a_slow_agent_learns_by(tmp_path):
    keys = {"num_rounds": 1, "local_epochs": 1}
    records = [
        run_local(small_config(**keys, aux_head=h), small_fleet(3))[0] for h in ("auto", "pool", "conv")
    ]
    auto, pool, conv = (record.weights_sha256 for record in records)
    assert (auto == pool, pool == conv) == (True, False)
    with pytest.raises(InputError, match=r"activation shape of the auxiliary head 'conv' = \(8,\): must be"):
        run("regression", tmp_path / "conv", **{"aux-head": "conv"})
    with pytest.raises(
        InputError, match="aux-head = 'mean': must be auto: LanguageModel has heads of its own"
    ):
        run("language model", tmp_path / "mean of tokens", **{"aux-head": "mean"})


def test_what_cannot_be_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"target-metric = 1.5: must be at most 1, which is the best r2"):
        run("regression", tmp_path, **{"target-metric": 1.5})
    with pytest.raises(InputError, match=r"partition = 'dirichlet': must be one that needs no classes"):
        run("regression", tmp_path, partition="dirichlet")
