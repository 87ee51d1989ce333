"""`comdml ...` as a user meets it: what it prints, what it loads, and one line where something is wrong."""

import json
import subprocess
import sys
from itertools import product
from types import SimpleNamespace

import pytest
from rich.markup import render
from typer.main import get_command
from typer.testing import CliRunner

import comdml_flwr
from comdml_flwr.cli import main as cli
from comdml_flwr.core.errors import RunError
from comdml_flwr.planning.costs import TIME_MODELS
from comdml_flwr.planning.pairing import SOLVERS
from tests.small import fleet_text

# The slow agent alone needs 10 s, the fast one 2.5 s; with half a batch each both end at 5 s.
CUTS = """
[[cuts]]
slow_share = 0.5
fast_share = 0.5
bytes_per_batch = 1e3
[links]
bandwidth_mbps = 8
[[agents]]
id = 0
batches_per_s = 1
num_batches = 10
[[agents]]
id = 1
batches_per_s = 4
num_batches = 10
[[agents]]
id = 2
batches_per_s = 10
num_batches = 1
"""
MODEL = """
[model]
name = "resnet-56"
input = [1, 8, 8]
batch_size = 32
[links]
bandwidth_mbps = 100
[[agents]]
id = 3
flops_per_s = 0.2e9
num_samples = 144
[[agents]]
id = 4
flops_per_s = 4e9
num_samples = 144
"""
CONTRACT = {
    "solver", "time_model", "makespan_s", "solo_makespan_s", "lower_bound_s", "pairs", "solo", "solve_s",
    "virtual_time_s", "no_offload_virtual_time_s", "left_out",
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory, with fleet files next to it."""
    for name, text in (("cuts", CUTS), ("model", MODEL), ("run", fleet_text(2)), ("bad", "[[agents]\n")):
        (tmp_path / f"{name}.toml").write_text(text)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def in_a_process(*words, cwd):
    """Run `comdml` with these words as a user does; return exit status, standard output and error."""
    code = "from comdml_flwr.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def loaded_by(statement, *words):
    """Return which modules a new process has loaded after a statement; their first names."""
    code = f"""
import sys
try:
    {statement}
except SystemExit as end:
    assert not end.code
print()
print(*{{name.partition(".")[0] for name in sys.modules}})
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


HEAVY = {"torch", "torchvision", "flwr", "flwr_datasets", "datasets", "ray", "sklearn"}
COMDML = "from comdml_flwr.cli.main import main; main()"


def test_importing_the_package_loads_nothing():
    loaded = loaded_by("import comdml_flwr")
    assert "comdml_flwr" in loaded
    assert not loaded & {*HEAVY, "numpy", "scipy", "pydantic", "rich", "typer"}


@pytest.mark.parametrize(
    "words", [["--help"], ["plan", "--help"], ["run", "--help"], ["report", "--help"]], ids=" ".join
)
def test_help_loads_nothing_that_takes_long(words):
    loaded = loaded_by(COMDML, *words)
    assert "typer" in loaded
    assert not loaded & {*HEAVY, "numpy", "scipy", "pydantic", "matplotlib"}


def test_a_plan_from_a_table_of_cuts_needs_neither_torch_nor_flower(here):
    loaded = loaded_by(COMDML, "plan", str(here.parent / "cuts.toml"))
    assert "numpy" in loaded
    assert not loaded & HEAVY


def test_help_names_the_commands_and_the_options():
    for words, named in (
        ([], ["plan", "run"]),
        (["plan"], ["FLEET", "--solver", "--time-model", "--json", *SOLVERS]),
        (["run"], ["--set", "KEY=VALUE", "--num-agents", "--num-workers"]),
    ):
        result = CliRunner().invoke(cli.app, [*words, "--help"], env={"COLUMNS": "200"})
        assert result.exit_code == 0
        assert all(name in result.output for name in named)


def help_texts():
    """All commands' texts, and the options' and arguments'."""
    commands = [get_command(cli.app)]
    for command in commands:
        commands += getattr(command, "commands", {}).values()
        yield command.name, command.help
        yield from ((f"{command.name} {parameter.name}", parameter.help) for parameter in command.params)


def test_every_command_argument_and_option_has_a_help_text():
    assert [name for name, text in help_texts() if not text] == []


def test_no_word_of_a_help_text_is_lost_as_markup():
    """What stands in brackets would be a style of Rich's."""
    for name, text in help_texts():
        assert render(text).plain.replace("\b", "") == text.replace("\\[", "[").replace("\b", ""), name


def test_a_plan_as_json_is_one_object_with_the_keys_of_the_contract(here):
    """In a process of its own: nothing else may be on standard output, and nothing on standard error."""
    status, out, err = in_a_process("plan", "../cuts.toml", "--json", "--time-model", "overlap", cwd=here)
    assert (status, err) == (0, "")
    plan = json.loads(out)
    assert plan.keys() == CONTRACT
    assert plan.pop("solve_s") >= 0
    pair = {"slow": 0, "fast": 1, "cut": 1, "finish_s": 5.0, "bytes": 10_000.0}
    alone = pair | {"fast": 2}
    assert plan.pop("pairs") in ([pair], [alone])
    assert plan.pop("solo") in ([1], [2])
    assert plan == {
        "solver": "exact",
        "time_model": "overlap",
        "makespan_s": 5.0,
        "solo_makespan_s": 10.0,
        "lower_bound_s": 5.0,
        "virtual_time_s": None,  # the size of the model is not known
        "no_offload_virtual_time_s": None,
        "left_out": [],
    }


@pytest.mark.parametrize(
    ("fleet", "solver", "time_model"),
    [*product(["../cuts.toml"], SOLVERS, TIME_MODELS), ("../model.toml", "exact", "pipeline")],
)
def test_every_plan_keeps_the_contract(comdml, fleet, solver, time_model):
    status, out, err = comdml("plan", fleet, "--json", "--solver", solver, "--time-model", time_model)
    assert (status, err) == (0, "")
    plan = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    proof = {"integer-program": {"proven", "gap", "solved_by"}, "shared": {"stopped"}}.get(solver, set())
    assert plan.keys() == CONTRACT | proof
    assert (plan["solver"], plan["time_model"]) == (solver, time_model)
    assert all(pair.keys() == {"slow", "fast", "cut", "finish_s", "bytes"} for pair in plan["pairs"])
    roles = [*plan["solo"], *(pair[role] for pair in plan["pairs"] for role in ("slow", "fast"))]
    assert sorted(roles) == ([0, 1, 2] if "cuts" in fleet else [3, 4])
    assert plan["pairs"]
    assert plan["lower_bound_s"] <= plan["makespan_s"] < plan["solo_makespan_s"]
    assert all(pair["finish_s"] <= plan["makespan_s"] for pair in plan["pairs"])


def test_the_pipeline_adds_fill_and_drain_and_is_the_default(comdml):
    """By hand, 0 to 2: ten batches of 0.5 s, 1000 bytes over 10^6 bytes/s, and half a batch at 10/s."""
    found = [
        json.loads(comdml("plan", "../cuts.toml", "--json", *words)[1])
        for words in (["--time-model", "overlap"], ["--time-model", "pipeline"], [])
    ]
    assert [plan["makespan_s"] for plan in found] == [5.0, *[pytest.approx(10 * 0.5 + 0.001 + 0.05)] * 2]


def test_a_plan_for_people_says_who_helps_whom_and_what_it_gains(comdml):
    status, out, err = comdml("plan", "../cuts.toml", "--time-model", "overlap", "--solver", "greedy")
    assert (status, err) == (0, "")
    assert "0 offloads to 1" in out or "0 offloads to 2" in out
    assert "straggler: pair 0 -> " in out
    text = " ".join(out.split())
    assert "training takes 5.0 s (modelled) instead of 10.0 s: 2.00 times as fast" in text
    assert "5.0 s is a lower bound" in text
    assert "solver: greedy, time model: overlap" in text


def assert_one_line(outcome, here, *named):
    """Bad input: exit status 2, one line that names these things, and nothing left behind."""
    status, out, err = outcome
    assert status == 2
    assert out == ""
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1, err
    assert all(name in err for name in ("comdml: ", *named)), err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["../none.toml"], ["fleet = '../none.toml'", "No such file"]),
        (["."], ["fleet = '.'", "directory"]),
        (["../bad.toml"], ["fleet = '../bad.toml'", "is not TOML"]),
        (["../run.toml"], ["../run.toml", "model"]),
        (["../cuts.toml", "--solver", "magic"], ["solver = 'magic'", "must be one of exact, greedy"]),
        (["../model.toml", "--solver", "magic"], ["solver = 'magic'", "must be one of exact, greedy"]),
        (["../cuts.toml", "--time-model", "sundial"], ["'sundial'", "must be one of overlap, pipeline"]),
        (["../cuts.toml", "--jsno"], ["--jsno"]),
        (["../cuts.toml", "../model.toml"], ["../model.toml"]),
        ([], ["FLEET"]),
    ],
    ids=lambda value: " ".join(value) or "nothing",
)
def test_bad_input_for_a_plan_is_one_line_and_status_2(comdml, here, words, named):
    assert_one_line(comdml("plan", *words), here, *named)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            ("batches_per_s = 1\n", "batches_per_s = 1\nspeeed = 3\n"),
            ["agents[0].speeed = 3", "is not known"],
        ),
        (("batches_per_s = 1\n", "batches_pers = 1\n"), ["did you mean batches_per_s?"]),
        (("batches_per_s = 1\n", "batches_per_s = 0\n"), ["agents[0].batches_per_s = 0", "> 0"]),
        (("id = 1", "id = 0"), ["agents[1].id = 0", "different"]),
        (("[[cuts]]", "[cuts]"), ["cuts"]),
    ],
    ids=lambda value: value[1].replace("\n", " ").strip() if isinstance(value, tuple) else "",
)
def test_a_mistake_in_a_fleet_file_is_one_line_and_status_2(comdml, here, change, named):
    fleet = here.parent / "wrong.toml"
    fleet.write_text(CUTS.replace(*change, 1))
    assert fleet.read_text() != CUTS
    assert_one_line(comdml("plan", str(fleet)), here, str(fleet), *named)


def test_a_model_that_is_not_there_is_one_line_and_status_2(comdml, here):
    fleet = here.parent / "wrong.toml"
    fleet.write_text(MODEL.replace("resnet-56", "resnet-57"))
    assert_one_line(comdml("plan", str(fleet)), here, "model.name = 'resnet-57'", "resnet-110, resnet-56")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--set", "num-rounds"], ["--set = 'num-rounds'", "must be KEY=VALUE"]),
        (["--set", "num-round=3"], ["num-round = 3", "did you mean 'num-rounds'?"]),
        (["--set", "=3"], ["= 3", "is no key of the run configuration"]),
        (["--set", "num-rounds=0"], ["num-rounds = 0", "at least 1"]),
        (["--set", "num-rounds=many"], ["num-rounds = 'many'", "must be"]),
        (["--set", "num-rounds=1.5"], ["num-rounds = 1.5", "must be"]),
        (["--set", "num-rounds=true"], ["num-rounds = True", "must not be true or false"]),
        (["--set", "download=1"], ["download = 1", "must be true or false"]),
        (["--set", "learning-rate=nan"], ["learning-rate = nan", "finite"]),
        (["--set", "learning-rate=1e999"], ["learning-rate = inf", "finite"]),
        (["--set", "seed=" + "9" * 5000], ["seed = "]),
        (["--set", "participation=2"], ["participation = 2", "at most 1"]),
        (["--set", "optimizer="], ["optimizer = ''", "'sgd', 'adam' or 'adamw'"]),
        (["--set", "method=magic"], ["method = 'magic'", "must be one of allreduce, braintorrent, comdml, "]),
        (["--set", "model=resnet-57"], ["model = 'resnet-57'", "resnet-110, resnet-56"]),
        (
            ["--set", "dataset=mnist"],
            ["dataset = 'mnist'", "cifar-10, cifar-100, cinic-10, digits, fashion-mnist, folder, hf:NAME"],
        ),
        (["--set", "carrier=grid"], ["carrier = 'grid'", "must be 'local'"]),
        (["--set", "fleet=../none.toml"], ["fleet = ", "none.toml", "No such file"]),
        (["--set", "fleet=../bad.toml"], ["fleet = ", "bad.toml", "is not TOML"]),
        (["--num-agents", "3", "--set", "fleet=../run.toml"], ["run.toml", "has 2 agents", "3"]),
        (
            ["--set", "dataset=cifar-10", "--set", "data-dir=../none"],
            ["data-dir = ", "../none'", "cifar-10-batches-py"],
        ),
        (["--num-agents", "0"], ["--num-agents", "0"]),
        (["--num-agents", "few"], ["--num-agents", "few"]),
        (["--num-workers", "-1"], ["--num-workers", "-1"]),
        (["num-rounds=3"], ["num-rounds=3"]),
        (["--sett", "num-rounds=3"], ["--sett"]),
    ],
    ids=lambda value: " ".join(value)[:50],
)
def test_bad_input_for_a_run_is_one_line_and_status_2(comdml, here, words, named):
    assert_one_line(comdml("run", *words), here, *named)


@pytest.mark.parametrize("folder", ["../cuts.toml/results", "~nobody-of-this-name/results"])
def test_a_results_folder_that_cannot_be_is_one_line_and_status_2(comdml, here, folder):
    words = ["--set", f"results-dir={folder}", "--set", "fleet=../run.toml", "--num-agents", "1"]
    assert_one_line(comdml("run", *words), here, "results-dir = ")


def test_an_unknown_command_is_one_line_and_status_2(comdml, here):
    assert_one_line(comdml("plann"), here, "plann")


def test_bad_input_is_one_line_in_a_process_of_its_own_too(here):
    """No library that a run loads has anything to say in between."""
    outcome = in_a_process("run", "--set", "method=magic", cwd=here)
    assert_one_line(outcome, here, "method = 'magic'")


def test_a_run_that_fails_ends_with_one_line_and_status_1(comdml, monkeypatch):
    def fail(*_, **__):
        raise RunError("agent 3 failed: disk full")

    monkeypatch.setattr("comdml_flwr.runs.local_run.run_locally", fail)
    assert comdml("run") == (1, "", "comdml: agent 3 failed: disk full\n")


def test_an_interrupted_command_ends_with_status_130(comdml, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("comdml_flwr.runs.local_run.run_locally", interrupt)
    status, out, err = comdml("run")
    assert (status, out, err.split()) == (130, "", ["comdml:", "interrupted"])


def test_settings_reach_the_run_as_what_they_look_like(comdml, monkeypatch):
    seen = []

    def run(values, **keys):
        seen.append((values, keys))
        return SimpleNamespace(is_complete=True)

    monkeypatch.setattr("comdml_flwr.runs.local_run.run_locally", run)
    settings = ["num-rounds=3", "learning-rate=1e-3", "download=false", "fleet = a=b.toml", "model='3'"]
    words = [word for setting in settings for word in ("--set", setting)]
    assert comdml("run", *words, "--num-agents", "4", "--num-workers", "2") == (0, "", "")
    values = {"num-rounds": 3, "learning-rate": 0.001, "download": False, "fleet": "a=b.toml", "model": "3"}
    assert seen == [(values, {"num_agents": 4, "num_workers": 2, "catalogue": None})]
    assert [type(value) for value in seen[0][0].values()] == [type(value) for value in values.values()]


def test_a_run_trains_prints_and_leaves_its_files(here):
    settings = ["num-rounds=1", "local-epochs=1", "batch-size=128", "fleet=../run.toml", "seed=3"]
    words = [word for setting in settings for word in ("--set", setting)]
    status, out, err = in_a_process("run", *words, "--num-agents", "2", cwd=here)
    assert (status, err) == (0, "")
    (folder,) = (here / "results").iterdir()
    assert out.startswith(f"2 agents are there; results go to {folder}\n")
    assert sorted(file.name for file in folder.iterdir()) == [
        "agents.json",
        "config.json",
        "model-best.safetensors",
        "model.safetensors",
        "rounds.jsonl",
        "summary.json",
    ]
    summary = json.loads((folder / "summary.json").read_text())
    expected = {"method": "comdml", "num_agents": 2, "num_rounds": 1, "seed": 3, "carrier": "local"}
    assert {key: summary[key] for key in expected} == expected
    (line,) = (folder / "rounds.jsonl").read_text().splitlines()
    assert json.loads(line)["plan"]["pairs"], "4e9 and 2e9 FLOP/s: the slower one offloads"
    assert f"{summary['accuracy']:.4f} after 1 round" in out


def test_the_version_is_one_line():
    result = CliRunner().invoke(cli.app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"comdml-flwr {comdml_flwr.__version__}\n")


def test_a_preset_is_planned_by_its_name_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, ["plan", "ten", "--json"])
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["pairs"]) == 4


@pytest.mark.parametrize("words", [["pln"], ["fleet", "neww"], ["run", "--resum", "x"]])
def test_a_suggestion_is_made_once(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["comdml", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("Did you mean") == 1
