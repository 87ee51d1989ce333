"""Whoever moves the mail: tasks of another kind than classes come to the same weights and the same metric."""

import json

import pytest

from comdml_flwr.core.config import parse_config
from comdml_flwr.core.errors import RunError
from comdml_flwr.flower.clientapp.peer_client_app import peer_client_app
from comdml_flwr.flower.serverapp.asked_run import as_result
from comdml_flwr.flower.serverapp.serverless_run import run_serverless
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.runs.assemble import assemble
from comdml_flwr.runs.catalogue import Catalogue
from comdml_flwr.runs.local_run import run_locally
from tests.carriers.direct_runs import run_direct
from tests.fleets import agent_tables
from tests.flower.loop_grid import LoopGrid, quiet_terminal
from tests.learning.tasks.small_tasks import TASKS

FLEET = f"[links]\nbandwidth_mbps = 100\n{agent_tables(4, flops_per_s=(4e7, 2e7, 1e6, 0.5e6))}"


def catalogue_of(name):
    task, data_for, build = TASKS[name]
    return Catalogue(models={"tiny": build}, datasets={"tiny": lambda config: data_for(task)})


def values_of(tmp_path, carrier, **keys):
    """Return a run's keys; its fleet lies beside the results."""
    (tmp_path / "fleet.toml").write_text(FLEET)
    return {
        "model": "tiny",
        "dataset": "tiny",
        "num-rounds": 2,
        "batch-size": 8,
        "local-epochs": 1,
        "learning-rate": 0.02,
        "profiles": "fleet",
        "fleet": str(tmp_path / "fleet.toml"),
        "results-dir": str(tmp_path / carrier),
        "carrier": carrier,
        **{name.replace("_", "-"): value for name, value in keys.items()},
    }


def over_grid(name, tmp_path, **keys):
    config, catalogue = parse_config(values_of(tmp_path, "grid", **keys)), catalogue_of(name)
    app = peer_client_app(models=catalogue.models, datasets=catalogue.datasets)
    grid = LoopGrid(app, 4, config.with_defaults_named())
    result = as_result(run_serverless(grid, config, FLEET, quiet_terminal(2)))
    (folder,) = (tmp_path / "grid").iterdir()
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    return [line[line["metric"]] for line in lines], summary["weights_sha256"], result


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("regression", "float32"),
        ("own", "float32"),
        ("language model", "float32"),
        ("two inputs", "float32"),
        pytest.param("own", "bfloat16", marks=pytest.mark.slow),
        pytest.param("regression", "bfloat16", marks=pytest.mark.slow),
        ("language model", "bfloat16"),
        ("two inputs", "float16"),
    ],
)
def test_every_carrier_gives_the_same_outcome(name, precision, tmp_path):
    task, catalogue = TASKS[name][0], catalogue_of(name)
    values = values_of(tmp_path, "local", precision=precision)
    here = run_locally(values, num_agents=4, catalogue=catalogue, terminal=quiet_terminal(2))
    expected = [line.score for line in here.rounds]
    assert here.rounds[0].plan["pairs"], "targets travel"

    scores, digest, result = over_grid(name, tmp_path, precision=precision)
    assert (scores, digest) == (expected, here.weights_sha256)
    assert result.evaluate_metrics_clientapp[2][task.metrics.primary] == expected[-1]

    config, fleet = (
        parse_config(values_of(tmp_path, "direct", precision=precision)),
        parse_fleet(FLEET, "fleet"),
    )
    records, digest, _ = run_direct(config, fleet, setup=assemble(config, fleet, 4, catalogue))
    assert ([line.score for line in records], digest) == (expected, here.weights_sha256)


def test_a_target_that_the_nodes_metric_cannot_reach_is_one_line(tmp_path):
    line = "target-metric = 2.0: must be at most 1, which is the best r2 that there is"
    with pytest.raises(RunError, match=line):
        over_grid("regression", tmp_path, target_metric=2.0)
    assert not (tmp_path / "grid").exists()


def test_a_target_below_which_a_metric_of_the_nodes_falls_ends_the_run(tmp_path):
    scores, _, result = over_grid("own", tmp_path, target_metric=1e6)
    assert len(scores) == 1
    assert [*result.evaluate_metrics_clientapp[1]] == ["mae", "loss"]
