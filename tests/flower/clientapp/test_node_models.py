"""The models that a run under Flower leaves: in its folder, or on each node where nodes share none."""

import json
from pathlib import Path

import pytest
import safetensors.torch

from comdml_flwr.core.errors import RunError
from comdml_flwr.flower.clientapp import models as node_models
from comdml_flwr.flower.clientapp import peer_client_app, session
from comdml_flwr.flower.clientapp.models import place_of_models, read_news, read_written
from comdml_flwr.flower.serverapp.messenger import Messenger
from comdml_flwr.flower.serverapp.serverless_run import run_serverless
from comdml_flwr.runs.model_files import read_model
from comdml_flwr.runs.trained_models import SavedModel
from tests.carriers.direct_runs import free_addresses
from tests.carriers.interrupted import models_of, only_run_in
from tests.flower.loop_grid import LoopGrid, quiet_terminal
from tests.flower.test_direct import SideBySideGrid
from tests.flower.test_methods_with_server import run_with_server
from tests.runs.test_trained_models import accuracy_of, lines_of, summary_of, values_of
from tests.runs.test_trained_models import run as run_here
from tests.small import CATALOGUE, fleet_text, small_config

NUM_AGENTS = 5
ROUNDS = 4


def run(folder, carrier, **keys):
    """Run under Flower's messages; return the run's folder and what it printed."""
    config = small_config(**{"num_rounds": ROUNDS, "local_epochs": 1, **keys}).model_copy(
        update={"carrier": carrier, "results_dir": str(folder)}
    )
    app = peer_client_app.peer_client_app(models=CATALOGUE.models, datasets=CATALOGUE.datasets)
    grid = (SideBySideGrid if carrier == "direct" else LoopGrid)(
        app, NUM_AGENTS, config.with_defaults_named()
    )
    if carrier == "direct":
        grid.tell_addresses(free_addresses(NUM_AGENTS))
    terminal = quiet_terminal(config.num_rounds)
    run_serverless(grid, config, fleet_text(NUM_AGENTS), terminal)
    return only_run_in(folder), terminal.console.file.getvalue()


def left_by_local_carrier(folder, **keys):
    """Return the run's folder on the local carrier."""
    folder.mkdir()
    run_here(values_of(folder, **{"num_rounds": ROUNDS, **keys}))
    return only_run_in(folder / "results")


DIFFERING = {"method": "gossip", "participation": 0.6}
AGREEING = {"participation": 0.6, "learning_rate": 0.05}


def cases(*everyday):
    """Return each carrier with one model and with some that differ; those not named are slow."""
    return [
        pytest.param(
            carrier, keys, id=f"{carrier}-{name}", marks=() if case in everyday else pytest.mark.slow
        )
        for carrier in ("grid", "direct")
        for name, keys in (("one model", AGREEING), ("models differ", DIFFERING))
        for case in [(carrier, name)]
    ]


@pytest.mark.parametrize(("carrier", "keys"), cases(("grid", "models differ"), ("direct", "one model")))
def test_where_nodes_share_a_folder_the_runs_folder_has_the_models_of_the_local_carrier(
    carrier, keys, tmp_path, temporary, flower_home
):
    """Also the best one, which an agent of gossip ends before it trains on."""
    here = left_by_local_carrier(tmp_path / "here", **keys)
    folder, printed = run(tmp_path / "results", carrier, rounds_per_message=3, **keys)
    assert summary_of(folder)["models"] == summary_of(here)["models"]
    for entry in summary_of(folder)["models"]:
        mine, other = (safetensors.torch.load_file(run / entry["file"]) for run in (folder, here))
        assert all((mine[name] == tensor).all() for name, tensor in other.items())
        assert read_model(folder / entry["file"]).facts["run"] == folder.name
    assert str(folder / summary_of(folder)["models"][0]["file"].split("/")[0]) in printed
    assert not flower_home.exists()
    assert not list(temporary.rglob("*.safetensors")), "nothing else is left of the run"


@pytest.mark.parametrize(("carrier", "keys"), cases(("grid", "one model"), ("direct", "models differ")))
def test_where_nodes_share_no_folder_each_keeps_its_models_and_the_last_lines_name_them(
    carrier, keys, tmp_path, apart, flower_home
):
    here = left_by_local_carrier(tmp_path / "here", **keys)
    folder, printed = run(tmp_path / "results", carrier, rounds_per_message=3, **keys)
    assert not list(folder.rglob("*.safetensors")), "no weight reaches the ServerApp"
    entries, rounds = summary_of(folder)["models"], lines_of(folder)
    last_lines = printed.splitlines()[-1 - len(entries) :]
    for entry, line in zip(entries, last_lines, strict=False):
        path = flower_home / "comdml-flwr" / "models" / folder.name / f"agent-{entry['node']}"
        name = "model.safetensors" if entry["kind"] == "last" else "model-best.safetensors"
        assert entry["file"] == str(path / name)
        found = read_model(path / name)
        assert (found.round, found.weights_sha256) == (entry["round"], entry["weights_sha256"])
        assert found.score == rounds[entry["round"] - 1]["accuracy"]
        assert line.endswith(f"round {entry['round']}, on the node of agent {entry['node']}: {path / name}")
    local = {(e["kind"], e.get("agent"), e["round"], e["weights_sha256"]) for e in summary_of(here)["models"]}
    mine = {(e["kind"], e.get("agent"), e["round"], e["weights_sha256"]) for e in entries}
    assert local <= mine
    best = max(rounds, key=lambda line: (line["accuracy"], -line["round"]))
    assert len([e for e in entries if e["kind"] == "best"]) == best["num_agents"]
    if keys is AGREEING:
        blobs = {(e["kind"], e["round"]): set() for e in entries}
        for entry in entries:
            blobs[entry["kind"], entry["round"]].add(Path(entry["file"]).read_bytes())
        assert all(len(same) == 1 for same in blobs.values()), "the same file on each node"
        assert accuracy_of(entries[0]["file"]) == rounds[entries[0]["round"] - 1]["accuracy"]


@pytest.mark.parametrize("method", ["fedavg", "splitfed"])
def test_the_server_of_a_method_that_has_one_writes_the_model(method, tmp_path):
    keys = {"method": method, "cut": 2, "num_rounds": 3, "local_epochs": 1}
    here = left_by_local_carrier(tmp_path / "here", **keys)
    folder, _ = run_with_server(small_config(**keys), tmp_path / "results")
    assert models_of(folder) == models_of(here)
    for entry in summary_of(folder)["models"]:
        assert accuracy_of(folder / entry["file"]) == entry["accuracy"]


@pytest.mark.parametrize("carrier", ["grid", "direct"])
def test_a_node_whose_disk_takes_no_model_costs_one_line(carrier, tmp_path, apart, monkeypatch):
    real = node_models.place_of_models

    def blocked(shared, run, agent):
        place = real(shared, run, agent)
        if agent == 2:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("a file stands in the way")
        return place

    monkeypatch.setattr(session, "place_of_models", blocked)
    folder, printed = run(tmp_path / "results", carrier, method="allreduce", num_rounds=2)
    assert {entry["node"] for entry in summary_of(folder)["models"]} == {0, 1, 3, 4}
    (line,) = [line for line in printed.splitlines() if "agent 2 failed" in line]
    assert line.startswith("agent 2 failed in writing its model: ")
    assert "model.safetensors is not written: " in line


@pytest.mark.parametrize(
    "told",
    ["", "[]", "{}", 7, '{"run": "../over", "config_sha256": "", "is_own": false}', '{"run": ".."}'],
)
def test_a_node_writes_only_into_folders_of_its_own(told):
    with pytest.raises(RunError, match=r"in a message says nothing about a run's models$"):
        read_news(told)


def test_a_run_of_any_name_that_we_give_is_taken(tmp_path):
    news = node_models.ModelNews(
        run="20261130-174854-comdml-uoft-cs-cifar10-seed1-2", config_sha256="", is_own=True
    )
    assert read_news(news.pack()) == news
    assert place_of_models(tmp_path, news.run, 3) == tmp_path / "models" / "3"


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "worst"},
        {"file": "a\nb"},
        {"weights_sha256": "12"},
        {"round": "1"},
        {"accuracy": None},
        {"metric": "perplexity"},
        {"metric": "round"},
    ],
)
def test_what_a_node_says_of_its_models_is_read_with_care(entry):
    model = SavedModel(kind="last", file="/x", round=1, metric="accuracy", score=0.5, weights_sha256="0" * 64)
    assert read_written(node_models.pack_written([model])) == [model]
    for packed in (json.dumps([{**model.as_json(), **entry}]), "7", "{", "[3]"):
        with pytest.raises(RunError, match=r"in a reply is no list of models$"):
            read_written(packed)


def test_a_run_is_not_lost_when_the_nodes_cannot_be_asked_for_their_models(tmp_path, apart, monkeypatch):
    real = Messenger.push

    def refuse(messenger, message_type, contents, *, group):
        if message_type == "train.model":
            raise RunError("models: Flower took 0 of 5 messages")
        return real(messenger, message_type, contents, group=group)

    monkeypatch.setattr(Messenger, "push", refuse)
    folder, printed = run(tmp_path / "results", "grid", method="allreduce", num_rounds=1)
    assert summary_of(folder)["models"] == []
    assert "the trained models are not written: models: Flower took 0 of 5 messages\n" in printed
