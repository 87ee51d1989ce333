"""A run's folder in which anything was changed: it goes on, or one line says what is wrong with it."""

import hashlib
import json
import random
import shutil

import pytest

from comdml_flwr.cli.commands.model import model
from comdml_flwr.core.errors import ComdmlError
from comdml_flwr.core.strict_json import to_json
from comdml_flwr.runs.local_run import run_locally
from comdml_flwr.runs.resuming import find_run
from comdml_flwr.runs.rounds_file import KEY, Chain
from tests.flower.loop_grid import quiet_terminal
from tests.mutations import changed_bytes, changed_value, text_of, went_well_or_one_line
from tests.small import CATALOGUE, fleet_text

TABLES = ("config.json", "agents.json", "summary.json", "checkpoints/2/checkpoint.json")
LINES, OF_AGENT = "rounds.jsonl", "checkpoints/2/agent-1.safetensors"
FILES = (*TABLES, LINES, OF_AGENT, "model.safetensors", "model-best.safetensors")
MORE = {"num-rounds": 3}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of two rounds, with all that a run leaves."""
    root = tmp_path_factory.mktemp("runs")
    (root / "fleet.toml").write_text(fleet_text(2))
    values = {
        "model": "four-stages",
        "dataset": "few-digits",
        "num-rounds": 2,
        "local-epochs": 1,
        "checkpoint-every": 2,
        "fleet": str(root / "fleet.toml"),
        "results-dir": str(root / "results"),
    }
    run_locally(values, num_agents=2, catalogue=CATALOGUE, terminal=quiet_terminal(2))
    (run,) = (root / "results").iterdir()
    return run


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def change(path, rng):
    """Change a file; half of the time so that its own digests say nothing of it."""
    if path.suffix == ".safetensors" or rng.random() < 0.3:
        path.write_bytes(changed_bytes(path.read_bytes(), rng))
    elif path.name == LINES:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            del line[KEY]
        changed = changed_value(lines, rng)
        tables = changed if isinstance(changed, list) else [changed]
        chain = Chain()
        can_link = rng.random() < 0.5 and all(isinstance(table, dict) and table for table in tables)
        path.write_text("".join(f"{chain.link(t) if can_link else to_json(t)}\n" for t in tables))
    else:
        value = changed_value(json.loads(path.read_text()), rng)
        if isinstance(value, dict) and "sha256" in value and rng.random() < 0.7:
            del value["sha256"]
            value["sha256"] = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
        path.write_text(text_of(value))


@pytest.mark.parametrize("name", FILES)
def test_whatever_is_changed_is_read_or_told_in_one_line(name, run):
    whole = (run / name).read_bytes()
    outcomes = []
    for seed in range(60):
        change(run / name, random.Random(f"{name} {seed}"))
        outcomes += [
            went_well_or_one_line(lambda: find_run(str(run), MORE)),
            went_well_or_one_line(lambda: model(run)),
        ]
        (run / name).write_bytes(whole)
    if name not in ("agents.json", OF_AGENT):  # which are read later, or never
        assert not all(outcomes)
    assert all(went_well_or_one_line(call) for call in (lambda: find_run(str(run), MORE), lambda: model(run)))


def test_a_changed_round_is_named_where_the_run_is_to_go_on(run):
    path = run / LINES
    path.write_text(path.read_text().replace('"bytes_sent": ', '"bytes_sent": 1', 1))
    with pytest.raises(ComdmlError) as caught:
        find_run(str(run), MORE)
    assert str(caught.value) == (
        f"resume = '{run}': has a damaged rounds.jsonl: line 1 is not as it was written"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_whatever_is_changed_the_run_goes_on_or_one_line_is_told(name, run, finished):
    went_on = []
    for seed in range(8):
        change(run / name, random.Random(f"{name}, goes on {seed}"))
        values = {"resume": str(run), **MORE}
        went_on.append(
            went_well_or_one_line(
                lambda v=values: run_locally(v, catalogue=CATALOGUE, terminal=quiet_terminal(3))
            )
        )
        shutil.rmtree(run)
        shutil.copytree(finished, run)
    if name in ("config.json", LINES, OF_AGENT, "checkpoints/2/checkpoint.json"):  # the others are made again
        assert not all(went_on)
