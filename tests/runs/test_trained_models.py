"""The models that a run in this process leaves: PyTorch loads them, and they are what the run says."""

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import nn

from comdml_flwr.carriers.local import LocalCarrier
from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.split import load_floats, write_floats
from comdml_flwr.learning.state_layout import layout_of
from comdml_flwr.runs.local_run import run_locally
from comdml_flwr.runs.model_files import config_sha256, read_model, write_model
from comdml_flwr.runs.trained_models import best_round, last_rounds
from tests.carriers.interrupted import Killed, only_run_in
from tests.flower.loop_grid import quiet_terminal
from tests.runs.test_results import round_record
from tests.small import CATALOGUE, few_digits, fleet_text, four_stages

NUM_AGENTS = 5
QUICKSTART = Path(__file__).resolve().parents[2] / "docs" / "quickstart.md"


def values_of(folder, **keys):
    (folder / "fleet.toml").write_text(fleet_text(NUM_AGENTS))
    return {
        "model": "four-stages",
        "dataset": "few-digits",
        "num-rounds": 4,
        "batch-size": 8,
        "local-epochs": 1,
        "fleet": str(folder / "fleet.toml"),
        "results-dir": str(folder / "results"),
        **{name.replace("_", "-"): value for name, value in keys.items()},
    }


def run(values, num_agents=NUM_AGENTS):
    terminal = quiet_terminal(4)
    run_locally(values, num_agents=num_agents, catalogue=CATALOGUE, terminal=terminal)
    return terminal.console.file.getvalue()


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def lines_of(folder):
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def accuracy_of(path):
    """Load a model as anybody would, strictly, and judge it."""
    model = four_stages((1, 8, 8), 10, torch.Generator())
    model.load_state_dict(safetensors.torch.load_file(path))
    data = few_digits()
    with torch.no_grad():
        right = model.eval()(data.x_test_NCHW).argmax(1) == data.y_test_N
    return right.double().mean().item()


def metadata_of(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


@pytest.mark.parametrize(
    "keys",
    [
        {"method": "comdml"},
        {"method": "allreduce", "participation": 0.6},
        {"method": "fedavg", "participation": 0.6},
        {"method": "splitfed", "cut": 2},
        {"method": "splitfed", "cut": 2, "splitfed_version": 2, "participation": 0.6},
    ],
    ids=lambda keys: f"{keys['method']} {len(keys)}",
)
def test_a_run_leaves_its_last_and_its_best_model(keys, tmp_path):
    printed = run(values_of(tmp_path, **keys, learning_rate=0.05))
    folder = only_run_in(tmp_path / "results")
    rounds = lines_of(folder)
    best = max(rounds, key=lambda line: (line["accuracy"], -line["round"]))
    for entry, line, name in zip(
        summary_of(folder)["models"], (rounds[-1], best), ("model", "model-best"), strict=True
    ):
        path = folder / f"{name}.safetensors"
        assert entry["file"] == path.name
        assert (entry["round"], entry["accuracy"]) == (line["round"], line["accuracy"])
        assert accuracy_of(path) == line["accuracy"]
        facts = metadata_of(path)
        assert (facts["run"], facts["round"]) == (folder.name, str(line["round"]))
        assert (facts["metric"], float(facts["accuracy"])) == ("accuracy", line["accuracy"])
        assert facts["config_sha256"] == config_sha256(json.loads((folder / "config.json").read_text()))
        assert facts["weights_sha256"] == entry["weights_sha256"] == read_model(path).weights_sha256
        assert "agent" not in facts
        assert str(path) in printed


def test_a_files_digest_is_the_one_that_the_agents_report(tmp_path):
    run(values_of(tmp_path, method="allreduce"))
    folder = only_run_in(tmp_path / "results")
    digest = summary_of(folder)["models"][0]["weights_sha256"]
    of_all = hashlib.sha256((digest * NUM_AGENTS).encode()).hexdigest()
    assert summary_of(folder)["weights_sha256"] == of_all


@pytest.mark.parametrize(
    "keys",
    [
        {"method": "gossip", "participation": 0.6},
        {"method": "braintorrent", "participation": 0.6},
        {"method": "dpsgd"},
        {"method": "comdml", "averaging": "mixing"},
    ],
    ids=["gossip", "braintorrent", "dpsgd", "mixing"],
)
def test_where_models_differ_each_agent_leaves_its_own(keys, tmp_path):
    """The best ones are of those who took part in that round, before they trained on."""
    printed = run(values_of(tmp_path, **keys))
    folder = only_run_in(tmp_path / "results")
    rounds, entries = lines_of(folder), summary_of(folder)["models"]
    by_kind = {
        kind: {entry["agent"]: entry for entry in entries if entry["kind"] == kind}
        for kind in ("last", "best")
    }
    everybody = {agent for line in rounds for agent in took_part(line)}
    assert by_kind["last"].keys() == everybody
    best = max(rounds, key=lambda line: (line["accuracy"], -line["round"]))
    assert by_kind["best"].keys() == took_part(best)
    assert {entry["round"] for entry in by_kind["best"].values()} == {best["round"]}
    for agent, entry in by_kind["last"].items():
        assert entry["file"] == f"models/agent-{agent}.safetensors"
        assert metadata_of(folder / entry["file"])["agent"] == str(agent)
        assert entry["round"] == max(line["round"] for line in rounds if agent in took_part(line))
    of_all = hashlib.sha256("".join(e["weights_sha256"] for _, e in sorted(by_kind["last"].items())).encode())
    assert summary_of(folder)["weights_sha256"] == of_all.hexdigest()
    judged = judge_together(folder, by_kind["best"])
    assert judged == best["accuracy"], "what was evaluated in that round"
    assert not (folder / "model.safetensors").exists()
    assert f"{folder / 'models'}\n" in printed


def took_part(line):
    pairs = line["plan"]["pairs"]
    return {*line["plan"]["solo"], *(pair[side] for pair in pairs for side in ("slow", "fast"))}


def judge_together(folder, entries):
    """Return the accuracy of agents that each judge their own share of the test set."""
    data, right = few_digits(), 0
    shares = np.array_split(np.arange(len(data.y_test_N)), len(entries))
    for (_, entry), share in zip(sorted(entries.items()), shares, strict=True):
        model = four_stages((1, 8, 8), 10, torch.Generator())
        model.load_state_dict(safetensors.torch.load_file(folder / entry["file"]))
        with torch.no_grad():
            right += int((model.eval()(data.x_test_NCHW[share]).argmax(1) == data.y_test_N[share]).sum())
    return right / len(data.y_test_N)


def dies_after(monkeypatch, round_):
    """Let the process die when a round has ended, which is known one exchange later."""
    real = LocalCarrier.exchange

    def dies(self, steps, *rest):
        if any(step.round == round_ + 1 and step.phase > 0 for step in next(iter(steps.values()))):
            raise Killed
        return real(self, steps, *rest)

    monkeypatch.setattr(LocalCarrier, "exchange", dies)


def models_in(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("model*/*.safetensors")
    } | {path.name: path.read_bytes() for path in folder.glob("model*.safetensors")}


@pytest.mark.parametrize("method", ["allreduce", "gossip"])
@pytest.mark.parametrize("killed_after", [2, 3])
def test_a_resumed_run_leaves_the_models_of_an_undisturbed_one(method, killed_after, tmp_path, monkeypatch):
    keys = {"method": method, "checkpoint_every": 2, "learning_rate": 0.05, "num_rounds": 5}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    run(values_of(tmp_path / "whole", **keys))
    whole = only_run_in(tmp_path / "whole" / "results")
    with monkeypatch.context() as patch:
        dies_after(patch, killed_after)
        with pytest.raises(Killed):
            run(values_of(tmp_path / "killed", **keys))
    killed = only_run_in(tmp_path / "killed" / "results")
    assert any("best" in name for name in models_in(killed)), "what was the best is there at once"
    run({"resume": str(killed)}, num_agents=None)
    assert summary_of(killed)["models"] == summary_of(whole)["models"]
    mine, other = (
        {name: safetensors.torch.load(blob) for name, blob in models_in(folder).items()}
        for folder in (killed, whole)
    )
    assert mine.keys() == other.keys()
    for name, state in mine.items():
        assert all(torch.equal(tensor, other[name][key]) for key, tensor in state.items())


def test_a_checkpoint_brings_the_last_model_and_keeps_the_best(tmp_path, monkeypatch):
    """A run that goes on from it for fewer rounds has the best of these, not of what was trained after it."""
    keys = {"method": "allreduce", "checkpoint_every": 2, "num_rounds": 4}
    with monkeypatch.context() as patch:
        dies_after(patch, 3)
        with pytest.raises(Killed):
            run(values_of(tmp_path, **keys))
    folder = only_run_in(tmp_path / "results")
    assert read_model(folder / "model.safetensors").round == 2
    accuracies = [line["accuracy"] for line in lines_of(folder)]
    assert accuracies[2] > max(accuracies[:2]), "round 3 was the best when it was killed"
    assert read_model(folder / "model-best.safetensors").round == 3
    kept = read_model(folder / "checkpoints" / "2" / "model-best.safetensors")
    assert kept.score == max(accuracies[:2])
    run({"resume": str(folder), "num-rounds": 2}, num_agents=None)
    best = {entry["kind"]: entry for entry in summary_of(folder)["models"]}["best"]
    assert (best["round"], best["weights_sha256"]) == (kept.round, kept.weights_sha256)


def test_the_same_run_leaves_the_same_bytes_but_for_its_name(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        run(values_of(tmp_path / name, num_rounds=1, results_dir=str(tmp_path / name)))
    blobs = [path.read_bytes() for path in sorted(tmp_path.rglob("model.safetensors"))]
    header = 8 + int.from_bytes(blobs[0][:8], "little")
    assert blobs[0][header:] == blobs[1][header:]


def test_a_model_with_all_kinds_of_state_comes_back_as_it_was(tmp_path):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("steps", torch.tensor(7))
            self.register_buffer("mask", torch.tensor([True, False]))
            self.register_buffer("small", torch.tensor([1, -2], dtype=torch.int16))
            self.scale = nn.Parameter(torch.tensor(2.5))

    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), Odd(), nn.ReLU(), nn.Linear(2, 2))
    weights_P = torch.arange(float(len(write_floats(model))))
    write_model(tmp_path / "m.safetensors", layout_of(model), weights_P.numpy(), {"round": "1"})
    load_floats(model, weights_P)
    state = safetensors.torch.load_file(tmp_path / "m.safetensors")
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert all(state[name].dtype == tensor.dtype for name, tensor in model.state_dict().items())


def test_a_model_of_complex_numbers_is_refused_in_one_line():
    model = nn.Sequential(nn.Linear(1, 1))
    model.register_buffer("phases", torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(InputError, match=r"^the model's phases = 'complex64': must hold floats"):
        layout_of(model)


def test_the_best_round_is_the_first_of_the_most_accurate_that_left_a_model():
    rounds = [
        round_record(round=number, scores={"accuracy": accuracy}, not_committed=aside)
        for number, accuracy, aside in (
            (1, 0.5, []),
            (2, 0.7, []),
            (3, 0.9, [1]),
            (4, 0.7, []),
            (5, float("nan"), []),
        )
    ]
    assert best_round(rounds).round == 2
    assert best_round([replace(rounds[0], scores={"accuracy": None})]) is None
    lower = [replace(record, better="lower") for record in rounds[:4]]
    assert best_round(lower).round == 1, "of a loss, the lowest"
    assert {agent: record.round for agent, record in last_rounds(rounds).items()} == {0: 5, 1: 5, 2: 5}


def output_of_documented_program(path):
    """Run the quickstart's six lines for a model's file, as they stand, in a process of their own."""
    (program,) = re.findall(r"```python\n(import safetensors.*?)```", QUICKSTART.read_text(), flags=re.DOTALL)
    assert len([line for line in program.splitlines() if line]) == 6
    assert program.count('"RUN/model.safetensors"') == 1
    program = program.replace("RUN/model.safetensors", str(path))
    check = "import sys; assert 'torchvision' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{check}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_the_documented_program_gets_the_accuracy_of_the_summary(tmp_path):
    """And torchvision is not loaded for it."""
    values = {"num-rounds": 1, "participation": 0.1, "results-dir": str(tmp_path / "results")}
    run_locally(values, num_agents=10, terminal=quiet_terminal(1))
    folder = only_run_in(tmp_path / "results")
    assert output_of_documented_program(folder / "model.safetensors") == summary_of(folder)["accuracy"]
