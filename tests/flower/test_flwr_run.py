"""`flwr run .` for real: Flower's engine, Ray actors, and a SuperLink that may belong to another checkout."""

import json
from importlib.metadata import version

import pytest

from comdml_flwr.cli.doctor.network import check_superlink
from comdml_flwr.runs.local_run import run_locally
from comdml_flwr.runs.model_files import read_model
from tests.flower.engine import ROOT, Engine, copy_of_checkout
from tests.flower.loop_grid import quiet_terminal

NUM_NODES = 4
RUN_CONFIG = "num-rounds=2 local-epochs=1 num-chunks=2 batch-size=100 participation=0.7"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """A SuperLink that the first run starts."""
    folder = tmp_path_factory.mktemp("engine")
    engine = Engine(folder / "home")
    (folder / "home").mkdir()
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def engine_of_another_checkout(tmp_path_factory):
    """A SuperLink that was started in another checkout, whose client code cannot run."""
    folder = tmp_path_factory.mktemp("engine")
    other = copy_of_checkout(folder / "other-checkout")
    agent = other / "comdml_flwr" / "agents" / "agent.py"
    agent.write_text(agent.read_text() + "\nraise RuntimeError('the code of the other checkout')\n")
    engine = Engine(folder / "home")
    (folder / "home").mkdir()
    log = engine.run(other, "num-rounds=1", num_supernodes=2, num_actors=1)
    assert "the code of the other checkout" in log
    yield engine
    engine.stop()


def test_flower_gives_the_weights_of_the_local_carrier(engine, tmp_path):
    assert_a_run_gives_the_weights_of_the_local_carrier(engine, 2, tmp_path)
    assert engine.last_status() == "finished:completed"
    found = check_superlink(f"127.0.0.1:{engine.http_port}")
    assert (found.state, f"Flower {version('flwr')} without TLS" in found.says) == ("warning", True)


@pytest.mark.slow
def test_so_it_does_where_the_superlink_was_started_in_another_checkout(engine_of_another_checkout, tmp_path):
    """What everyday runs prove of this without a SuperLink: test_own_code.py."""
    engine = engine_of_another_checkout
    assert engine.last_status() == "finished:failed", "a run that raises is shown as failed"
    for num_actors in (1, 2):
        folder = tmp_path / str(num_actors)
        assert_a_run_gives_the_weights_of_the_local_carrier(engine, num_actors, folder)
    assert engine.last_status() == "finished:completed"


def assert_a_run_gives_the_weights_of_the_local_carrier(engine, num_actors, tmp_path):
    values = {"num-rounds": 2, "local-epochs": 1, "num-chunks": 2, "batch-size": 100, "participation": 0.7}
    here = run_locally(
        {**values, "results-dir": str(tmp_path / "local")}, num_agents=NUM_NODES, terminal=quiet_terminal(2)
    )
    log = engine.run(
        ROOT,
        f'{RUN_CONFIG} results-dir="{tmp_path}/grid"',
        num_supernodes=NUM_NODES,
        num_actors=num_actors,
    )
    summaries = list((tmp_path / "grid").glob("*/summary.json"))
    assert summaries, log
    summary = json.loads(summaries[0].read_text())
    assert summary["weights_sha256"] == here.weights_sha256
    assert summary["num_agents"] == NUM_NODES
    assert str(summaries[0].parent) in log
    (local,) = (tmp_path / "local").iterdir()
    assert summary["models"] == json.loads((local / "summary.json").read_text())["models"]
    for entry in summary["models"]:
        found = read_model(summaries[0].parent / entry["file"])
        assert (found.weights_sha256, found.round) == (entry["weights_sha256"], entry["round"])
        assert str(found.path) in log
    assert "No additional application dependencies needed installation" in log


@pytest.mark.slow
def test_bad_input_is_the_last_line_of_the_error_and_the_run_is_failed(engine, tmp_path):
    log = engine.run(ROOT, f'momentum=1.5 results-dir="{tmp_path}/results"', num_supernodes=2, num_actors=1)
    assert last_line_of_the_error(log).endswith("momentum = 1.5: must be less than 1"), log
    assert engine.last_status() == "finished:failed"
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_checkout_without_the_guard_is_refused_in_one_line(tmp_path):
    """It holds an older version of this package, whose ClientApp does not bring its code."""
    old = copy_of_checkout(tmp_path / "old-checkout")
    (old / "comdml_flwr" / "flower" / "own_code.py").unlink()
    engine = Engine(tmp_path / "home")
    try:
        engine.run(old, "num-rounds=0", num_supernodes=2, num_actors=1)
        log = engine.run(
            ROOT, f'num-rounds=1 results-dir="{tmp_path}/results"', num_supernodes=2, num_actors=1
        )
        line = log.strip().splitlines()[-1]  # behind the traceback that Flower logs for its actor
        assert line.startswith("comdml: a node cannot run this app")
        assert line.endswith("end it (`pkill -f flower-superlink`) and try again")
        assert engine.last_status() == "finished:failed"
    finally:
        engine.stop()


def last_line_of_the_error(log):
    assert "Traceback" not in log
    return log.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_run_goes_on_under_another_run_id(tmp_path):
    """Values that are not given again are those of the run, not the app's defaults."""
    values = {"local-epochs": 1, "method": "allreduce", "seed": 3, "batch-size": 100}
    whole = {**values, "num-rounds": 3, "results-dir": str(tmp_path / "local")}
    here = run_locally(whole, num_agents=3, terminal=quiet_terminal(3))
    engine = Engine(tmp_path / "home")
    try:
        first = 'local-epochs=1 method="allreduce" seed=3 batch-size=100 num-rounds=2 checkpoint-every=1'
        results = tmp_path / "grid"
        log = engine.run(ROOT, f'{first} results-dir="{results}"', num_supernodes=3, num_actors=1)
        assert engine.last_status() == "finished:completed", log
        (run,) = results.iterdir()
        log = engine.run(ROOT, f'num-rounds=3 resume="{run}"', num_supernodes=3, num_actors=1)
        assert engine.last_status() == "finished:completed", log
        assert f"goes on after round 2 of 3: {run}" in log
        assert json.loads((run / "summary.json").read_text())["weights_sha256"] == here.weights_sha256
        assert len((run / "rounds.jsonl").read_text().splitlines()) == 3

        log = engine.run(ROOT, f'seed=4 resume="{run}"', num_supernodes=3, num_actors=1)
        line = f"seed = 4: contradicts the run in {run}, which has 3"
        assert last_line_of_the_error(log).endswith(line), log
    finally:
        engine.stop()
