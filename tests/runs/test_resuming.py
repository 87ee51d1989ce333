"""How a run goes on: what its folder says holds, what contradicts it is one line, and nothing is changed."""

import json
import shutil
from pathlib import Path

import pytest

from comdml_flwr.core.config import keys_declared, parse_config
from comdml_flwr.core.errors import InputError
from comdml_flwr.runs.local_run import run_locally
from comdml_flwr.runs.resuming import find_run, given_to_flower
from tests.flower.loop_grid import quiet_terminal
from tests.small import CATALOGUE, fleet_text


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of four rounds with checkpoints after the third and the last."""
    root = tmp_path_factory.mktemp("runs")
    (root / "fleet.toml").write_text(fleet_text(3))
    values = {
        "model": "four-stages",
        "dataset": "few-digits",
        "num-rounds": 4,
        "local-epochs": 1,
        "seed": 2,
        "checkpoint-every": 3,
        "participation": 0.7,
        "fleet": str(root / "fleet.toml"),
        "results-dir": str(root / "results"),
    }
    run_locally(values, num_agents=3, catalogue=CATALOGUE, terminal=quiet_terminal(4))
    (run,) = (root / "results").iterdir()
    return run


@pytest.fixture
def run(finished, tmp_path):
    """A copy of its folder, as if it had died before its summary."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "summary.json").unlink()
    return run


def refusal(run, **given):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(InputError) as caught:
        find_run(str(run), {key.replace("_", "-"): value for key, value in given.items()})
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_what_is_not_given_is_as_the_run_has_it(run):
    found = find_run(str(run), {"resume": str(run), "seed": 2})
    assert (found.config.seed, found.config.participation, found.config.resume) == (2, 0.7, "")
    assert (found.checkpoint.round, found.folder) == (4, run)
    assert [record.round for record in found.record.rounds] == [1, 2, 3, 4]
    assert found.checkpoint.ids == (0, 1, 2)
    assert len(found.fleet.agents) == 3


OTHER = {
    "seed": 8,
    "method": "gossip",
    "model": "resnet-56",
    "dataset": "digits",
    "partition": "dirichlet",
    "alpha": 0.1,
    "fleet": "ten",
    "threads-per-agent": 2,
    "num-chunks": 2,
    "hysteresis": 0.5,
    "carrier": "grid",
    "wandb": "offline",
    "batch-size": 4,
}


@pytest.mark.parametrize("key", OTHER)
def test_what_contradicts_the_run_is_one_line(key, run):
    has = json.loads((run / "config.json").read_text())[key]
    assert refusal(run, **{key: OTHER[key]}) == (
        f"{key} = {OTHER[key]!r}: contradicts the run in {run}, which has {has!r}"
    )


def test_what_no_bit_depends_on_may_be_another(run):
    changes = {"checkpoint-every": 1, "data-dir": "/data", "download": True, "rounds-per-message": 2}
    changes |= {"target-metric": 0.9, "min-agents": 2}
    assert {*changes, "num-rounds"} == keys_declared("on_resume", "may change")
    found = find_run(str(run), {**changes, "num-rounds": 9, "results-dir": "elsewhere"}).config
    values = found.with_defaults_named()
    assert {key: values[key] for key in changes} == changes
    assert found.num_rounds == 9
    assert found.results_dir == parse_config(json.loads((run / "config.json").read_text())).results_dir


def test_an_unknown_key_and_an_impossible_value_are_refused_as_ever(run):
    assert refusal(run, num_round=3).startswith("num-round = 3: is no key")
    assert refusal(run, num_rounds=0) == "num-rounds = 0: must be at least 1"


def test_rounds_that_are_over_cannot_be_taken_back(run):
    assert refusal(run, num_rounds=3) == "num-rounds = 3: must be at least 4: as many are over"


def test_a_finished_run_has_nothing_left_to_do(finished):
    assert refusal(finished) == (
        f"resume = '{finished}': has finished its 4 rounds; a larger num-rounds trains on"
    )
    assert find_run(str(finished), {"num-rounds": 5}).config.num_rounds == 5


def test_where_somebody_new_comes_after_the_last_round_it_goes_on_from_the_one_before(finished):
    """Two of three take part, other ones in rounds 4 and 5; who comes has no model from round 4."""
    assert find_run(str(finished), {"num-rounds": 5}).checkpoint.round == 3


def test_a_shorter_run_may_not_have_handed_over_a_model_in_its_last_round(run):
    shutil.rmtree(run / "checkpoints" / "4")
    assert refusal(run, num_rounds=3) == (
        f"resume = '{run}': has no checkpoint that a run of 3 rounds comes by: who comes next gets the model"
        " in all but the last"
    )


def test_without_the_one_before_that_is_one_line(run):
    shutil.rmtree(run / "checkpoints" / "3")
    assert refusal(run, num_rounds=5) == (
        f"resume = '{run}': has no checkpoint that a run of 5 rounds comes by: who comes next gets the model"
        " in all but the last"
    )


def test_a_folder_without_a_checkpoint_is_one_line(run):
    shutil.rmtree(run / "checkpoints")
    assert refusal(run) == (
        f"resume = '{run}': has no checkpoint to go on from: it kept none (checkpoint-every), or ended before"
        " the first"
    )


@pytest.mark.parametrize("content", [None, "", "[1]", '{"seed": 7'])
def test_a_folder_of_no_run_is_one_line(content, run):
    (run / "config.json").unlink()
    if content is not None:
        (run / "config.json").write_text(content)
    assert refusal(run).startswith(f"resume = '{run}': must be a run's folder; config.json")


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    line = f"resume = '{tmp_path / 'x'}': must be a run's folder; config.json: No such file or directory"
    with pytest.raises(InputError, match=f"^{line}$"):
        find_run(str(tmp_path / "x"), {})


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [],
        lambda lines: lines[:3],
        lambda lines: [lines[0], lines[2], lines[1], lines[3]],
        lambda lines: [*lines[:3], lines[3][:40]],
        lambda lines: [*lines[:3], '{"round": 4}'],
        lambda lines: [*lines[:3], "4"],
    ],
    ids=["empty", "too few", "out of order", "torn", "without numbers", "no table"],
)
def test_rounds_that_are_not_there_are_one_line(damage, run):
    path = run / "rounds.jsonl"
    path.write_text("".join(f"{line}\n" for line in damage(path.read_text().splitlines())))
    assert refusal(run).startswith(f"resume = '{run}': has a ")


def test_a_torn_line_after_the_checkpoint_does_not_matter(run):
    with (run / "rounds.jsonl").open("a") as file:
        file.write('{"round": 5, "accu')
    assert find_run(str(run), {}).checkpoint.round == 4


def test_a_fleet_file_that_has_changed_is_one_line_and_one_that_is_gone_is_not_needed(run):
    path = Path(json.loads((run / "config.json").read_text())["fleet"])
    text = path.read_text()
    try:
        path.write_text(text.replace("100", "90"))
        assert refusal(run) == f"fleet = '{path}': has changed since the run began"
        path.unlink()
        assert len(find_run(str(run), {}).fleet.agents) == 3
    finally:
        path.write_text(text)


def test_of_what_flower_hands_over_the_defaults_do_not_count():
    values = parse_config({"seed": 3, "resume": "here"}).with_defaults_named()
    assert given_to_flower(values, {}) == {"seed": 3, "resume": "here"}
    assert given_to_flower({**values, "num-round": 4}, {}) == {"seed": 3, "resume": "here", "num-round": 4}


def test_of_what_flower_hands_over_an_apps_own_defaults_do_not_count():
    of_app = {"num-rounds": 2, "model": "cnn"}
    assert given_to_flower({**of_app, "resume": "here"}, of_app) == {"resume": "here"}
    assert given_to_flower({**of_app, "num-rounds": 10}, of_app) == {"num-rounds": 10}  # our own default


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_on_the_command_line_a_refusal_is_one_line_and_exit_status_2(comdml, finished, here):
    line = (
        f"comdml: resume = '{here / 'x'}': must be a run's folder; config.json: No such file or directory\n"
    )
    assert comdml("run", "--resume", "x") == (2, "", line)
    status, out, err = comdml("run", "--resume", str(finished), "--set", "seed=3")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("comdml: seed = 3: contradicts the run in ")
    assert comdml("run", "--resume", str(finished), "--dry-run")[0] == 2
    assert list(here.iterdir()) == []


def test_the_number_of_agents_cannot_be_another(comdml, run, here):
    fewer = ("run", "--resume", str(run), "--num-agents", "2")
    status, _, err = comdml(*fewer)
    assert status == 2
    assert err == f"comdml: resume = '{run}': has 3 agents, 2 are there; it needs the same ones\n"
