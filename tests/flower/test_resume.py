"""Runs under Flower that were killed go on, with new run ids, keys and folders, to the undisturbed bits."""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from flwr.app import Context, RecordDict

from comdml_flwr.core.config import parse_config
from comdml_flwr.core.errors import ComdmlError
from comdml_flwr.flower import mail
from comdml_flwr.flower.clientapp import peer_client_app, session
from comdml_flwr.flower.serverapp import direct_run
from comdml_flwr.flower.serverapp.messenger import Messenger
from comdml_flwr.flower.serverapp.peer_server_app import peer_server_app
from comdml_flwr.runs.local_run import run_locally
from tests.carriers.direct_runs import free_addresses
from tests.carriers.interrupted import (
    FOLLOWS_METRIC,
    NUM_AGENTS,
    SCENARIOS,
    Killed,
    lines_of,
    models_of,
    only_run_in,
    outcome_of,
    write_fleet,
)
from tests.flower.loop_grid import LoopGrid, quiet_terminal
from tests.flower.test_direct import SideBySideGrid
from tests.small import CATALOGUE

NUM_ROUNDS = 6
NAMES = {"models": CATALOGUE.models, "datasets": CATALOGUE.datasets}


HOMES = ("one folder", "folders of their own")


@pytest.fixture(params=HOMES)
def home(request, tmp_path, temporary, monkeypatch):
    """Flower's own folder, in which nodes keep checkpoints unless all see the run's folder."""
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr"))
    if request.param == "folders of their own":
        monkeypatch.setattr(session, "is_shared", lambda folder, token: False)
    return tmp_path / "flwr" / "comdml-flwr"


def values_of(tmp_path, keys, results):
    return {
        "model": "four-stages",
        "dataset": "few-digits",
        "num-rounds": NUM_ROUNDS,
        "batch-size": 8,
        "local-epochs": 1,
        "profiles": "fleet",
        "fleet": write_fleet(tmp_path),
        "results-dir": str(tmp_path / results),
        **keys,
    }


def flwr_run(values, num_nodes=NUM_AGENTS):
    """Start the app as `flwr run --run-config` does: what is not given has its default."""
    run_config = parse_config(values).with_defaults_named()
    client = peer_client_app.peer_client_app(**NAMES)
    grid_class = SideBySideGrid if values.get("carrier") == "direct" else LoopGrid
    grid = grid_class(client, num_nodes, run_config)
    if grid_class is SideBySideGrid:
        grid.tell_addresses(free_addresses(num_nodes))
    context = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config=run_config)
    peer_server_app(**NAMES)(grid, context)


def undisturbed(keys):
    """Return what the local carrier comes to, but for the carrier's name."""
    of_method = {name: keys[name] for name in keys.keys() - {"carrier", "rounds-per-message"}}
    lines, summary = local_outcome(tuple(sorted(of_method.items())))
    return lines, summary | {"carrier": keys["carrier"]}


@cache
def local_outcome(keys):
    with TemporaryDirectory() as folder:
        run_locally(
            values_of(Path(folder), dict(keys), "results") | {"carrier": "local"},
            num_agents=NUM_AGENTS,
            catalogue=CATALOGUE,
            terminal=quiet_terminal(NUM_ROUNDS),
        )
        return outcome_of(only_run_in(Path(folder) / "results"))


def die_at(monkeypatch, number, *, kinds=("train.steps", "train.rounds", "train.keep")):
    """Let the ServerApp die when the nodes have done what its n-th messages (of these kinds) ask for."""
    real, count = Messenger.exchange, [0]

    real_ask = direct_run.DirectRun._ask

    def may_die(message_type):
        if message_type in kinds:
            count[0] += 1
            if count[0] == number:
                raise Killed

    def dies(messenger, message_type, *args, **keys):
        replies = real(messenger, message_type, *args, **keys)
        may_die(message_type)
        return replies

    def dies_among_rounds(*args):
        asked = real_ask(*args)
        may_die("train.rounds")
        return asked

    monkeypatch.setattr(Messenger, "exchange", dies)
    monkeypatch.setattr(direct_run.DirectRun, "_ask", dies_among_rounds)
    return count


GRID = {name: {**keys, "carrier": "grid"} for name, keys in SCENARIOS.items()}
DIRECT = {
    f"{name}, direct": {**SCENARIOS[name], "carrier": "direct", "rounds-per-message": 3}
    for name in ("comdml", "gossip", "dpsgd")
}
FOLLOWING = {
    f"a rate that follows the metric, {carrier}": {**FOLLOWS_METRIC, "carrier": carrier, "participation": 0.6}
    for carrier in ("grid", "direct")
}
EVERY_DAY = (  # each carrier with each home, and a method whose models differ
    ("comdml", "one folder"),
    ("gossip", "folders of their own"),
    ("comdml, direct", "one folder"),
    ("comdml, direct", "folders of their own"),
)


@pytest.mark.parametrize(
    ("keys", "home"),
    [
        pytest.param(
            keys, home, id=f"{name}-{home}", marks=() if (name, home) in EVERY_DAY else pytest.mark.slow
        )
        for name, keys in {**GRID, **DIRECT, **FOLLOWING}.items()
        for home in HOMES
    ],
    indirect=["home"],
)
def test_a_resumed_run_comes_to_what_an_undisturbed_one_does(keys, tmp_path, home, monkeypatch):
    whole = undisturbed(keys)
    with monkeypatch.context() as patch:
        count = die_at(patch, -1)
        flwr_run(values_of(tmp_path, keys, "kept") | {"checkpoint-every": 2})
    assert outcome_of(only_run_in(tmp_path / "kept")) == whole, "checkpoints change nothing"
    left = list((home / "checkpoints").rglob("*.safetensors"))
    assert not left, "nodes keep no state of a finished run"

    for number in (count[0] * 3 // 4, count[0]):
        results = tmp_path / f"killed-{number}"
        with monkeypatch.context() as patch:
            die_at(patch, number)
            with pytest.raises(Killed):
                flwr_run(values_of(tmp_path, keys, results.name) | {"checkpoint-every": 2})
        killed = only_run_in(results)
        flwr_run({"carrier": keys["carrier"], "resume": str(killed)})
        assert outcome_of(killed) == whole
        assert models_of(killed) == models_of(only_run_in(tmp_path / "kept"))
        assert json.loads((killed / "config.json").read_text())["resume"] == ""


@pytest.mark.parametrize(
    ("carrier", "home"),
    [
        ("grid", "folders of their own"),
        ("direct", "one folder"),
        pytest.param("grid", "one folder", marks=pytest.mark.slow),
        pytest.param("direct", "folders of their own", marks=pytest.mark.slow),
    ],
    indirect=["home"],
)
def test_a_serverapp_that_dies_when_the_nodes_have_written_goes_on_from_the_checkpoint_before(
    carrier, tmp_path, home, monkeypatch
):
    """The nodes then have two: that of round 2, which the run's folder names, and that of round 4."""
    keys = {**SCENARIOS["comdml"], "carrier": carrier}
    whole = undisturbed(keys)
    with monkeypatch.context() as patch:
        die_at(patch, 2, kinds=["train.keep"])
        with pytest.raises(Killed):
            flwr_run(values_of(tmp_path, keys, "killed") | {"checkpoint-every": 2})
    killed = only_run_in(tmp_path / "killed")
    assert len(lines_of(killed)) == 4
    assert [path.name for path in (killed / "checkpoints").glob("[0-9]")] == ["2"]
    with monkeypatch.context() as patch:  # once more, with another step
        die_at(patch, 1, kinds=["train.keep"])
        with pytest.raises(Killed):
            flwr_run({"carrier": carrier, "resume": str(killed), "checkpoint-every": 1})
    flwr_run({"carrier": carrier, "resume": str(killed)})
    assert outcome_of(killed) == whole


@pytest.fixture
def killed(tmp_path, home, monkeypatch):
    """A run that was killed after its checkpoint of round 4."""
    with monkeypatch.context() as patch:
        die_at(patch, 2, kinds=["train.keep"])
        with pytest.raises(Killed):
            flwr_run(values_of(tmp_path, GRID["comdml"], "killed") | {"checkpoint-every": 2, "seed": 7})
    return only_run_in(tmp_path / "killed")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_contradicts_the_run_is_one_line_and_changes_nothing(killed):
    before = contents(killed)
    for values, num_nodes, line in (
        ({"seed": 8}, 5, r"seed = 8: contradicts the run in .*, which has 7"),
        ({"carrier": "direct"}, 5, "carrier = 'direct': contradicts the run in .*, which has 'grid'"),
        ({}, 4, "resume = .*: has 5 agents, 4 are there; it needs the same ones"),
    ):
        with pytest.raises(ComdmlError, match=f"^{line}$"):
            flwr_run({"resume": str(killed), **values}, num_nodes)
        assert contents(killed) == before


def test_a_damaged_file_is_one_line_and_changes_nothing(killed, home):
    paths = [*killed.rglob("2/agent-3.safetensors"), *home.rglob("2/agent-3.safetensors")]
    assert len(paths) == 1
    (path,) = paths
    blob = path.read_bytes()
    for damaged in (None, blob[:-9], blob[:-1] + bytes([blob[-1] ^ 1])):
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        before = contents(killed)
        with pytest.raises(ComdmlError) as caught:
            flwr_run({"resume": str(killed)})
        assert "is damaged: agent-3.safetensors" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert contents(killed) == before
    path.write_bytes(blob)
    flwr_run({"resume": str(killed)})
    assert (killed / "summary.json").exists()


def test_nodes_that_have_removed_theirs_are_told_in_one_line(tmp_path, home, monkeypatch):
    """A finished run trains on where its checkpoints are in its folder."""
    values = values_of(tmp_path, GRID["allreduce"], "results") | {"num-rounds": 2, "checkpoint-every": 1}
    flwr_run(values)
    run = only_run_in(tmp_path / "results")
    if (run / "checkpoints" / "2").exists():
        flwr_run({"resume": str(run), "num-rounds": 3})
        assert len(lines_of(run)) == 3
        return
    with pytest.raises(ComdmlError) as caught:
        flwr_run({"resume": str(run), "num-rounds": 3})
    line = f"resume = '{run}': has finished, and its nodes have removed what they kept of it"
    assert str(caught.value) == line


def test_nodes_that_see_another_folder_than_before_are_one_line(killed, monkeypatch):
    was_shared = any(killed.rglob("agent-3.safetensors"))
    is_shared = (lambda *_: False) if was_shared else mail.is_shared
    monkeypatch.setattr(session, "is_shared", is_shared)
    before = contents(killed)
    with pytest.raises(ComdmlError) as caught:
        flwr_run({"resume": str(killed)})
    assert str(caught.value).endswith("whether all nodes see the run's folder must be as it was")
    assert contents(killed) == before


def test_a_method_with_a_server_refuses_checkpoints_in_one_line(tmp_path, monkeypatch):
    line = "checkpoint-every = 2: must be 0 for fedavg under `flwr run`; `comdml run` keeps checkpoints of it"
    values = values_of(tmp_path, {"method": "fedavg", "carrier": "grid"}, "results") | {"checkpoint-every": 2}
    run_config = parse_config(values).with_defaults_named()
    context = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config=run_config)
    app = peer_server_app(**NAMES, with_server={"fedavg": lambda *_: None})
    with pytest.raises(ComdmlError, match=f"^{line}$"):
        app(LoopGrid(peer_client_app.peer_client_app(**NAMES), 2, run_config), context)
