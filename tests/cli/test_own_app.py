"""`--app`: an app of the user's own on the command line."""

import json
import subprocess
import sys

import pytest

from comdml_flwr.core.errors import InterruptedRun
from tests.small import fleet_text
from tests.small_app import SETTINGS, write_small_app


@pytest.fixture
def here(tmp_path, monkeypatch, forget_apps):
    """An empty working directory beside an app."""
    write_small_app(tmp_path / "app")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def only_run_in(folder):
    (run,) = (folder / "results").iterdir()
    return run


def summary_of(run):
    return json.loads((run / "summary.json").read_text())


def test_a_run_takes_the_apps_model_and_data_and_all_agents_of_its_fleet(comdml, here):
    status, out, err = comdml("run", "--app", "../app", "--set", "seed=3")
    assert (status, err) == (0, "")
    assert out.startswith("3 agents are there; results go to ")
    summary = summary_of(only_run_in(here))
    expected = {"model": "dense", "dataset": "load_data", "num_rounds": 2, "seed": 3, "num_agents": 3}
    assert {key: summary[key] for key in expected} == expected


def test_a_run_goes_on_with_its_app_and_says_so_without(comdml, here, tmp_path):
    assert comdml("run", "--app", "../app")[0] == 0
    whole = only_run_in(here).rename(tmp_path / "whole")
    words = ("--set", "num-rounds=1", "--set", "checkpoint-every=1", "--num-agents", "3")
    assert comdml("run", "--app", "../app", *words)[0] == 0
    run = only_run_in(here)
    resume = ("run", "--resume", str(run), "--set", "num-rounds=2")
    status, _, err = comdml(*resume)
    assert (status, len(err.splitlines())) == (2, 1)
    assert err.startswith("comdml: model = 'dense': must be one of resnet-110, resnet-56;")
    assert err.endswith("a run of an app of your own is resumed with --app\n")
    (tmp_path / "app" / "pyproject.toml").write_text(SETTINGS.replace("batch-size = 8", "batch-size = 9"))
    status, _, err = comdml(*resume, "--app", "../app")
    assert (status, err) == (0, ""), "the run has its batch size, whatever the app says now"
    assert summary_of(run)["weights_sha256"] == summary_of(whole)["weights_sha256"]


def test_who_interrupts_a_run_is_told_how_it_goes_on(comdml, monkeypatch):
    def interrupt(*_, **__):
        raise InterruptedRun("interrupted; to go on after round 1: comdml run --resume results/RUN")

    monkeypatch.setattr("comdml_flwr.runs.local_run.run_locally", interrupt)
    status, _, err = comdml("run", "--app", "../app")
    assert (status, err.endswith("comdml run --resume results/RUN --app ../app\n")) == (130, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--app", "../none"],
            "app = '../none': must be the folder of a Flower app: there is no such",
        ),
        (["--app", ".."], "app = '..': must be the folder of a Flower app: it has no pyproject.toml"),
        (["--app", "../app", "--set", "num-round=1"], "num-round = 1: is no key"),
        (
            ["--app", "../app", "--set", "model=resnet-56"],
            "model = 'resnet-56': must be left out: tests",
        ),
        (["--app", "../app", "--set", "dataset=digits"], "dataset = 'digits': must be left out"),
        (["--app", "../app", "--num-agents", "4"], "has 3 agents, too few for 4"),
        (["--app", "../app", "--set", "profiles=measured"], "profiles = 'measured': must be 'fleet' (or"),
        (["--app", "../app", "--dry-run"], "--app = '../app': does not go with --dry-run"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_status_2(comdml, here, words, told):
    status, out, err = comdml("run", *words)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert told in err
    assert list(here.iterdir()) == []


def test_an_error_in_the_apps_code_is_one_line_and_status_1(comdml, here, tmp_path):
    task = tmp_path / "app" / "small_app" / "task.py"
    task.write_text(task.read_text().replace("    x, y = ", "    x, y = 1 / 0, "))
    status, out, err = comdml("run", "--app", "../app")
    assert (status, out) == (1, "")
    place = "small_app/task.py, line 24, in load_data"
    reason = "ZeroDivisionError: division by zero (loading the data of partition 0)"
    assert err == f"comdml: {place}: {reason}\n"
    assert list(here.iterdir()) == []


def test_in_an_apps_folder_a_run_without_it_says_how_it_is_run(comdml, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "app")
    _, _, err = comdml("run", "--set", "model=none")
    note = "note: the app in this folder, tests.small-app, is not used; `comdml run --app .` runs it\n"
    assert err.startswith(note)


def test_a_plan_is_that_of_the_first_round_of_a_run(comdml, here, tmp_path):
    task = tmp_path / "app" / "small_app" / "task.py"
    task.write_text(task.read_text().replace("    x, y = ", "    print('loading')\n    x, y = "))
    status, out, err = comdml("plan", "--app", "../app", "--set", "batch-size=4", "--json")
    assert err.startswith("loading\n"), "what the app prints is not in the JSON"
    assert status == 0
    plan = json.loads(out)
    words = ("--set", "batch-size=4", "--set", "num-rounds=1")
    assert comdml("run", "--app", "../app", *words)[0] == 0
    (line,) = (only_run_in(here) / "rounds.jsonl").read_text().splitlines()
    round_ = json.loads(line)
    assert plan["pairs"] == round_["plan"]["pairs"] != []
    for of_plan, of_round in (
        ("makespan_s", "predicted_s"),
        ("solo_makespan_s", "no_offload_makespan_s"),
        ("virtual_time_s", "virtual_time_s"),
        ("no_offload_virtual_time_s", "no_offload_virtual_time_s"),
    ):
        assert plan[of_plan] == round_[of_round], of_plan


def test_an_app_is_planned_on_another_fleet_too_and_explained(comdml, here):
    (here / "two.toml").write_text(fleet_text(2))
    status, out, _ = comdml("plan", "two.toml", "--app", "../app", "--json")
    plan = json.loads(out)
    assert (status, len(plan["pairs"]) * 2 + len(plan["solo"])) == (0, 2)
    status, out, _ = comdml("explain", "--app", "../app", "--agent", "2", "--json")
    assert (status, json.loads(out)["agent"]) == (0, 2)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["plan"], "FLEET = None: must be given, or --app"),
        (["plan", "ten", "--set", "seed=2"], "--set = 'seed=2': needs --app"),
        (["explain", "ten", "--agent", "3", "--set", "seed=2"], "--set = 'seed=2': needs --app"),
        (["plan", "--app", "../none"], "app = '../none': must be"),
        (["doctor", "--app", "../none"], "app = '../none': must be"),
        (["doctor", "--node-config", "partition-id=0"], "--node-config = 'partition-id=0': needs --app"),
        (["doctor", "--app", "../app", "--node-config", "partition-id=3 num-partitions=3"], "with N below M"),
        (
            ["doctor", "--app", "../app", "--node-config", "partition-id=O"],
            "must be KEY=VALUE ..., with texts",
        ),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_status_2(comdml, here, words, told):
    status, out, err = comdml(*words)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert told in err


def findings_of(comdml, *words):
    status, out, _ = comdml("doctor", "--app", "../app", "--json", *words)
    found = {finding["check"]: finding for finding in json.loads(out)["findings"]}
    assert status == any(finding["state"] == "wrong" for finding in found.values())
    return found


def test_the_doctor_loads_the_data_cuts_the_model_and_counts_its_memory(comdml, here):
    found = findings_of(comdml)
    assert {found[check]["state"] for check in ("app", "data", "model", "memory", "method")} == {"ok"}
    assert found["data"]["says"] == "load_data: 3 agents have 40 to 60 training samples, 10 test samples"
    assert found["model"]["facts"].pop("batch_s") > 0
    assert found["model"]["facts"] == {"num_cuts": 3, "num_possible_cuts": 3}
    assert "dense" in found["memory"]["says"]
    found = findings_of(comdml, "--node-config", 'partition-id=1 num-partitions=3 data-path="/srv/x"')
    assert found["data"]["facts"] == {"num_samples": [50], "num_test": [10]}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("    x, y = ", "    x, y = 1 / 0, ", "small_app/task.py, line 24, in load_data: ZeroDivisionError"),
        ("    return (x[10:], y[10:])", "    return (x[10:], y[11:])", "number of targets = 39: must be 40"),
        ("nn.Linear(32, num_classes)", "nn.Linear(33, num_classes)", "model dense"),
        ("nn.Linear(32, num_classes)", "nn.Flatten(0)", "model dense"),
    ],
)
def test_the_doctor_says_in_one_line_what_is_wrong_with_an_app(comdml, here, tmp_path, old, new, told):
    task = tmp_path / "app" / "small_app" / "task.py"
    assert old in task.read_text()
    task.write_text(task.read_text().replace(old, new))
    finding = findings_of(comdml)["training"]
    assert finding["state"] == "wrong"
    assert told in finding["says"]
    assert "\n" not in finding["says"]


def test_the_lines_that_load_its_model_take_the_builder_from_the_app(comdml, here, tmp_path):
    assert comdml("run", "--app", "../app", "--set", "num-rounds=1")[0] == 0
    status, out, _ = comdml("model", str(only_run_in(here)), "--app", "../app")
    assert status == 0
    lines = out.partition("\n\n")[2]
    assert f"from small_app.task import dense  # in {tmp_path / 'app'}\nmodel = dense((64,), 10," in lines
    code = f"import sys; sys.path.insert(0, '../app')\n{lines}"
    subprocess.run([sys.executable, "-c", code], check=True)
