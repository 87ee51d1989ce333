"""A dry run: the same plans and the same virtual times as a run, to the bit, without training."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from comdml_flwr.cli import main as cli
from comdml_flwr.core.config import parse_config
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.planning.fleet.presets import preset_text
from comdml_flwr.runs.catalogue import MODELS
from comdml_flwr.runs.dry_run import DryRun
from comdml_flwr.runs.model_costs import model_costs
from tests.fleets import agent_tables
from tests.small import resnet_20, run_local, small_config

ROOT = Path(__file__).resolve().parents[2]
MODEL = '[model]\nname = "resnet-56"\ninput = [1, 8, 8]\nbatch_size = 16\n'
SPEEDS = (4e9, 2e9, 1e9, 0.5e9, 0.2e9)
SCENARIO = "[scenario]\nshare = 0.6\nevery = 1\nlinks = true\nspeed_noise = 0.1\n"
TRACE = "[[availability]]\nround = 2\nagent = 3\npresent = false\n"


def fleet_of(num_agents, num_samples, links, tables=""):
    agents = agent_tables(
        num_agents, flops_per_s=SPEEDS, num_samples=num_samples, bandwidth_mbps=(100, 20, 0, 50)
    )
    return parse_fleet(MODEL + links + agents + tables, "test fleet")


LINKS = "[links]\nbandwidth_mbps = 100\nlatency_ms = 3\nrelay_bandwidth_mbps = 7\n"
WITH_LINK = LINKS + "[[link]]\nbetween = [0, 4]\nbandwidth_mbps = 50\nlatency_ms = 1\n"


@pytest.mark.parametrize(
    ("keys", "tables"),
    [
        ({}, ""),
        ({"hysteresis": 0.3, "participation": 0.6, "num_rounds": 3}, SCENARIO + TRACE),
        ({"method": "allreduce", "participation": 0.6}, SCENARIO),
    ],
    ids=["constant", "changing", "allreduce"],
)
def test_a_dry_run_takes_the_virtual_time_of_a_run_to_the_bit(keys, tables, monkeypatch):
    """Its model has the cuts of ResNet-56, and fewer layers."""
    monkeypatch.setitem(MODELS, "resnet-56", resnet_20)
    num_agents = 5
    config = small_config(**{"model": "resnet-56", "local_epochs": 1, "batch_size": 16, **keys})
    fleet = fleet_of(num_agents, 40, WITH_LINK, tables)
    record, _ = run_local(config, fleet)
    (rounds,) = DryRun(fleet, config, num_agents).rounds([config.hysteresis]).values()
    for real, dry in zip(record.rounds, rounds, strict=True):
        assert real.plan == dry.plan
        for name in (
            "virtual_time_s", "makespan_s", "predicted_s", "no_offload_virtual_time_s",
            "no_offload_makespan_s", "bytes_sent", "num_agents",
        ):  # fmt: skip
            assert getattr(real, name) == getattr(dry, name), name


@pytest.mark.slow
@pytest.mark.parametrize("table", ["", "speed_noise = 0.05\n"], ids=["paper", "new speeds in each round"])
def test_two_hundred_rounds_of_a_hundred_agents_take_ten_seconds_of_one_core(table):
    text = preset_text("comdml-100").replace("every = 100\n", f"every = 100\n{table}")
    model_costs(fleet_of(1, 1, LINKS))  # loads torch
    began = time.process_time()
    dry = DryRun(parse_fleet(text, "comdml-100"), parse_config({"num-rounds": 200}), 100)
    rounds = dry.rounds([0.0, 0.1])
    assert time.process_time() - began <= 10
    assert [len(lines) for lines in rounds.values()] == [200, 200]


@pytest.fixture
def comdml(monkeypatch, capsys, tmp_path):
    """Run `comdml run` with these words in a folder with a fleet; return exit status, output and error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cuts.toml").write_text(CUTS + SCENARIO.replace("0.6", "0.2"))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["comdml", "run", "--set", "fleet=cuts.toml", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


CUTS = "[[cuts]]\nslow_share = 0.3\nfast_share = 0.8\nbytes_per_batch = 1e6\n[links]\nbandwidth_mbps = 50\n"
CUTS += agent_tables(
    10, batches_per_s=[speed / 1e9 for speed in SPEEDS], num_batches=[20.5 + n for n in range(10)]
)


def test_the_command_says_what_hysteresis_does(comdml, tmp_path):
    words = ("--dry-run", "--set", "num-rounds=30", "--set", "hysteresis=0.2")
    status, out, err = comdml(*words, "--json")
    assert (status, err) == (0, "")
    summary = json.loads(out)
    without = summary["without_hysteresis"]
    assert 0 < summary["num_new_pairs"] < without["num_new_pairs"]
    assert 1 <= summary["virtual_training_s"] / without["virtual_training_s"] <= 1 / (1 - 0.2)
    folder = Path(summary["folder"])
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "rounds.jsonl", "summary.json"]
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == list(range(1, 31))
    assert sum(line["virtual_time_s"] for line in lines) == summary["virtual_time_s"]
    status, out, err = comdml(*words)
    assert (status, err) == (0, "")
    change = summary["num_new_pairs"] / without["num_new_pairs"] - 1
    assert f"hysteresis 0.2: {change:+.0%} new pairs" in out


def test_a_table_of_cuts_needs_no_torch(tmp_path):
    (tmp_path / "cuts.toml").write_text(CUTS)
    settings = [f"fleet={tmp_path / 'cuts.toml'}", f"results-dir={tmp_path}", "num-rounds=2"]
    words = ["comdml", "run", "--dry-run", *(word for key in settings for word in ("--set", key))]
    code = f"import sys; sys.argv = {words}\nfrom comdml_flwr.cli.main import main\ntry:\n    main()\n"
    code += "except SystemExit as end:\n    assert not end.code\n    assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--dry-run", "--num-agents", "11"], "cuts.toml': has 10 agents, fewer than 11"),
        (["--dry-run", "--set", "target-metric=0.9"], "target-metric = 0.9: does not go with --dry-run"),
        (["--dry-run", "--set", "batch-size=8"], "batch-size = 8: is not read by --dry-run"),
        (["--dry-run", "--set", "method=fedavg"], "method = 'fedavg': must be one of comdml, allreduce"),
        (["--dry-run", "--set", "hysteresis=1"], "hysteresis = 1: must be less than 1"),
        (["--json"], "--json = True: needs --dry-run"),
    ],
)
def test_bad_words_are_one_line_and_leave_nothing(comdml, tmp_path, words, named):
    status, out, err = comdml(*words)
    assert (status, out) == (2, "")
    assert named in err
    assert len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["cuts.toml"]


def test_times_of_very_fast_devices_are_told_in_milliseconds(comdml, tmp_path):
    text = (tmp_path / "cuts.toml").read_text()
    fast = [line + "e5" if line.startswith("batches_per_s") else line for line in text.splitlines()]
    (tmp_path / "cuts.toml").write_text("\n".join(fast))
    status, out, _ = comdml("--dry-run", "--set", "num-rounds=2")
    assert status == 0
    (training,) = [line for line in out.splitlines() if line.split()[:1] == ["training"]]
    assert training.split()[-1] == "ms"
    assert float(training.split()[-2]) > 0
