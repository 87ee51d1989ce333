"""A run's folder and what it prints: everything is there at the end, and a failed run cannot be mistaken."""

import io
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import pytest
from rich.console import Console

from comdml_flwr.core.config import parse_config
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.program import NOBODY
from comdml_flwr.runs import results, terminal
from comdml_flwr.runs.loop import last, run_rounds
from comdml_flwr.runs.records import RoundRecord, RunRecord
from comdml_flwr.runs.results import RunFolder, recorded
from comdml_flwr.runs.summary import summarize
from comdml_flwr.runs.terminal import QUIET_S, WIDTH, Terminal
from tests.small import idle_program, run_local, small_config, small_fleet

PHASES = ("introduce", "train", "adopt")
IDS = (0, 1, 2)
FIRST = {
    "data": {"num_samples": 4, "label_counts": [1, 3]},
    "device": "cpu",
    "batches_per_s": 2.0,
    "timeline": [],
}
PAIR = {"slow": 2, "fast": 0, "cut": 3, "finish_s": 2.5, "bytes": 1e6}


class FakeCarrier:
    """Reports what a small run might; fails at an exchange if it is told to."""

    why_gone = MappingProxyType({})

    def __init__(self, fails_at=None, error=None):
        self._fails_at, self._error, self._count = fails_at, error, 0

    def exchange(self, steps, absence=NOBODY):
        self._count += 1
        if self._count == self._fails_at:
            raise self._error
        return {
            agent: {
                "correct": 3,
                "num_evaluated": 4,
                "loss_sum": 1.0,
                "bytes_sent": 10,
                "weights_sha256": "ab" * 32,
                "end_s": 4.0,
                "training_end_s": 3.0,
                "evaluation_s": 0.5,
                **(FIRST if step.round == 1 else {}),
                "no_offload_virtual_time_s": 8.0,
                "no_offload_makespan_s": 6.0,
                "predicted_s": 2.5,
                **({"pair": PAIR} if agent == 2 else {}),
            }
            for agent, (step, *_) in steps.items()
        }

    def close(self):
        pass


def printed_by(num_rounds=2, width=WIDTH):
    """Return a terminal that prints into memory, and a function that says what it printed."""
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False, soft_wrap=True)
    return Terminal(num_rounds, console), out.getvalue


def config_in(folder, **keys):
    return small_config(results_dir=str(folder), **keys)


def record(folder, carrier=None, **keys):
    """Run two made-up rounds; return what was printed."""
    screen, printed = printed_by()
    config = config_in(folder, **keys)
    rounds = run_rounds(carrier or FakeCarrier(), idle_program(*PHASES), IDS, config, screen)
    last(recorded(rounds, config, len(IDS), screen))
    return printed()


def files(folder):
    return sorted(file.name for file in folder.iterdir())


def test_a_run_writes_its_configuration_its_rounds_and_its_summary(tmp_path):
    record(tmp_path / "new" / "results", seed=4)
    (folder,) = (tmp_path / "new" / "results").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}-comdml-few-digits-seed4", folder.name)
    assert files(folder) == ["agents.json", "config.json", "rounds.jsonl", "summary.json"]

    written = json.loads((folder / "config.json").read_text())
    assert parse_config(written) == config_in(tmp_path / "new" / "results", seed=4)
    rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    assert [line["round"] for line in rounds] == [1, 2]
    of_record = {*RoundRecord.__dataclass_fields__, "accuracy", "loss"} - {"agents", "scores"}
    assert rounds[0].keys() == of_record | {"chain_sha256"}
    told = json.loads((folder / "agents.json").read_text())
    first = {**FIRST["data"], "device": "cpu", "batches_per_s": 2.0, "timeline": []}
    assert told == {"round": 1, "agents": [{"agent": agent, **first} for agent in IDS]}
    assert rounds[0]["plan"] == {"pairs": [PAIR], "solo": [1]}
    assert rounds[1]["accuracy"] == 0.75
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["num_rounds"], summary["virtual_time_s"], summary["bytes_sent"]) == (2, 8.0, 60)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RunError("agent 3 failed: disk full"), "agent 3 failed: disk full"),
        (KeyboardInterrupt(), "interrupted"),
        (ZeroDivisionError("division by zero"), "division by zero"),
    ],
    ids=["an agent", "ctrl-c", "a bug"],
)
def test_a_run_that_failed_says_why_and_has_no_summary(error, reason, tmp_path):
    with pytest.raises(type(error)):
        record(tmp_path, FakeCarrier(fails_at=4, error=error))
    (folder,) = tmp_path.iterdir()
    assert files(folder) == ["agents.json", "config.json", "failed.txt", "rounds.jsonl"]
    assert (folder / "failed.txt").read_text() == f"{reason}\n"
    assert len((folder / "rounds.jsonl").read_text().splitlines()) == 1, "the round that was done is kept"


def test_a_round_is_on_disk_before_the_next_begins(tmp_path):
    seen = []

    class Looking(FakeCarrier):
        def exchange(self, steps, absence=NOBODY):
            seen.append([len(path.read_text().splitlines()) for path in tmp_path.glob("*/rounds.jsonl")])
            return super().exchange(steps, absence)

    record(tmp_path, Looking(), num_rounds=3)
    # introduce and train; end of round 1 with introduce, train; end of round 2 with introduce, train; end
    assert seen == [[], [], [], [1], [1], [2], [2]]


def test_two_runs_in_the_same_second_get_two_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "time", SimpleNamespace(strftime=lambda layout: "20261123-173337"))
    paths = [RunFolder(config_in(tmp_path)).path for _ in range(3)]
    name = "20261123-173337-comdml-few-digits-seed1"
    assert [path.name for path in paths] == [name, f"{name}-2", f"{name}-3"]
    assert files(tmp_path) == sorted(path.name for path in paths)


def test_a_relative_folder_counts_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = RunFolder(config_in("here")).path
    assert path.is_absolute()
    assert path.parent == tmp_path / "here"


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunFolder(config_in("~/runs")).path.parent == tmp_path / "runs"


def test_a_folder_that_cannot_be_written_is_bad_input_in_one_line(tmp_path):
    """A file stands in the way; a missing permission would not stop root."""
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError) as caught:
            record(folder)
        line = str(caught.value)
        assert line.startswith(f"results-dir = '{folder}': must be a folder to write in (")
        assert "\n" not in line
    assert files(tmp_path) == ["file"]


def test_the_home_of_somebody_unknown_is_bad_input_in_one_line():
    with pytest.raises(InputError, match=r"^results-dir = '~nobody-of-this-name/runs': "):
        RunFolder(config_in("~nobody-of-this-name/runs"))


def test_a_data_set_of_an_own_app_may_have_a_slash_in_its_name(tmp_path):
    """As all names of the Hugging Face hub have."""
    folder = RunFolder(config_in(tmp_path, dataset="uoft-cs/cifar10"))
    assert json.loads((folder.path / "config.json").read_text())["dataset"] == "uoft-cs/cifar10"
    assert folder.path.parent == tmp_path


def round_record(**facts):
    return replace(
        RoundRecord(
            round=1,
            scores={"accuracy": 0.12345, "loss": 2.34567},
            virtual_time_s=17.04,
            makespan_s=15.0,
            predicted_s=15.0,
            no_offload_virtual_time_s=24.4,
            no_offload_makespan_s=23.0,
            elapsed_s=3.44,
            evaluation_s=0.25,
            bytes_sent=10,
            num_agents=3,
            plan={"pairs": [PAIR], "solo": [1]},
        ),
        **facts,
    )


def test_a_run_prints_a_header_and_a_line_a_round():
    screen, printed = printed_by(num_rounds=12)
    screen.round_ends(round_record())
    screen.round_ends(round_record(round=2, plan={"pairs": [], "solo": [0, 1, 2]}))
    screen.round_ends(round_record(round=12, plan={"pairs": [PAIR, PAIR | {"slow": 5}], "solo": []}))
    assert [line.split() for line in printed().splitlines()] == [
        [],
        ["round", "accuracy", "loss", "virtual", "no", "offload", "speed-up", "elapsed", "pairs"],
        ["1/12", "0.1235", "2.3457", "17.0", "s", "24.4", "s", "1.43x", "3.4", "s", "2->0@3"],
        ["2/12", "0.1235", "2.3457", "17.0", "s", "24.4", "s", "1.43x", "3.4", "s", "none"],
        ["12/12", "0.1235", "2.3457", "17.0", "s", "24.4", "s", "1.43x", "3.4", "s", "2->0@3", "5->0@3"],
    ]


def test_a_method_that_foretells_nothing_prints_nothing_of_no_offload():
    screen, printed = printed_by()
    silent = {"no_offload_virtual_time_s": None, "no_offload_makespan_s": None}
    screen.round_ends(round_record(**silent, plan={"pairs": [], "solo": [0, 1, 2]}))
    _, header, line = printed().splitlines()
    assert header.split() == ["round", "accuracy", "loss", "virtual", "elapsed"]
    assert line.split() == ["1/2", "0.1235", "2.3457", "17.0", "s", "3.4", "s"]


@pytest.mark.parametrize("method", ["splitfed", "fedavg", "gossip", "comdml"])
def test_only_a_method_that_offloads_says_what_it_gains(method):
    config = small_config(method=method, num_rounds=1, **({"cut": 1} if method == "splitfed" else {}))
    run_record, _ = run_local(config, small_fleet(3))
    screen, printed = printed_by()
    screen.summary(summarize(run_record, config, 3, 1.0), Path("results"))
    assert ("without offload" in printed()) == (method == "comdml")
    assert "after 1 round " in printed()


def test_what_takes_less_than_a_tenth_of_a_second_is_said_in_milliseconds():
    screen, printed = printed_by()
    screen.round_ends(round_record(virtual_time_s=0.0174, no_offload_virtual_time_s=0.0244, elapsed_s=0.004))
    assert printed().split()[-8:] == ["17.4", "ms", "24.4", "ms", "1.40x", "4.0", "ms", "2->0@3"]


def test_the_columns_stand_under_their_names():
    screen, printed = printed_by()
    screen.round_ends(round_record())
    _, header, line = printed().splitlines()
    for name, value in (("accuracy", "0.1235"), ("virtual", "17.0 s"), ("elapsed", "3.4 s")):
        assert header.index(name) + len(name) == line.index(value) + len(value)
    assert header.index("pairs") == line.index("2->0@3")


def test_a_round_with_many_pairs_is_still_one_line():
    pairs = [PAIR | {"slow": slow, "fast": slow + 100} for slow in range(100, 150)]
    screen, printed = printed_by()
    screen.round_ends(round_record(plan={"pairs": pairs, "solo": []}))
    assert len(printed().splitlines()) == 3


UNKNOWN_LOSS = {"accuracy": 0.12345, "loss": None}


def test_a_loss_that_is_not_finite_is_null_in_the_file_and_a_dash_on_the_screen(tmp_path):
    folder, (screen, printed) = RunFolder(config_in(tmp_path)), printed_by()
    folder.add_round(round_record(scores=UNKNOWN_LOSS, elapsed_s=float("inf")))
    (line,) = (folder.path / "rounds.jsonl").read_text().splitlines()
    assert '"loss": null' in line
    assert '"elapsed_s": null' in line
    screen.round_ends(round_record(scores=UNKNOWN_LOSS))
    assert printed().splitlines()[-1].split()[:3] == ["1/2", "0.1235", "-"]


def test_a_share_that_was_left_out_is_told():
    screen, printed = printed_by()
    screen.round_ends(round_record(refused=[4, 7]))
    line = "  agents 4, 7: the helper disagreed on the plan, so the share is left out"
    assert printed().splitlines()[-1] == line


def test_agents_whose_training_was_not_finite_are_told_in_one_line():
    screen, printed = printed_by()
    screen.round_ends(round_record(not_finite=[1, 4]))
    assert printed().splitlines()[-1] == "  agents 1, 4: training gave NaN or infinity, which is left out"


@pytest.mark.parametrize(
    ("left_out", "line"),
    [
        ({"1": 4}, "left out agent 1 in 4, of 4 rounds"),
        ({"1": 1, "3": 4}, "left out agent 3 in 4, agent 1 in 1, of 4 rounds"),
        (
            {str(agent): 2 for agent in range(100)},
            "left out agent 0 in 2, agent 1 in 2, agent 2 in 2, agent 3 in 2, agent 4 in 2"
            " and 95 more agents, of 4 rounds",
        ),
    ],
    ids=["one", "two", "a hundred"],
)
def test_the_summary_on_the_screen_says_who_was_left_out(left_out, line, tmp_path):
    rounds = tuple(round_record(round=number) for number in range(1, 5))
    none = summarize(RunRecord(rounds=rounds), small_config(), 3, 1.0)
    screen, printed = printed_by()
    screen.summary(none, tmp_path)
    assert "left out" not in printed()
    screen.summary({**none, "left_out": left_out}, tmp_path)
    assert line in " ".join(unframed(printed()).split())


def test_a_run_prints_first_where_its_results_go_and_last_what_it_came_to(tmp_path):
    lines = record(tmp_path).splitlines()
    (folder,) = tmp_path.iterdir()
    assert lines[0] == f"3 agents are there; results go to {folder}"
    assert len([line for line in lines if re.match(r" +\d/2 ", line)]) == 2
    text = " ".join(" ".join(lines).split())
    assert "comdml: four-stages on few-digits, 3 agents" in text
    assert "0.7500 after 2 rounds" in text
    assert "8.0 s; 16.0 s without offload: 2.00 times as fast" in text
    assert "6.0 s; 12.0 s without offload" in text
    digest = json.loads((folder / "summary.json").read_text())["weights_sha256"]
    assert f"sha256 {digest[:16]}" in text


FOLDERS = ["short", "long/" * 40, "x" * 120, "a name with many spaces " * 8, "out [final]", "[/b] :smile:"]


@pytest.mark.parametrize("name", FOLDERS, ids=lambda name: name[:12])
def test_the_folder_is_printed_in_full_at_the_beginning_and_at_the_end(name, tmp_path):
    """Long, or with brackets in it that a console might take for markup: it can be copied from there."""
    lines = record(tmp_path / name)
    (path,) = (tmp_path / name).iterdir()
    beginning, summary = lines.splitlines()[0], lines[lines.index("test accuracy") :]
    assert beginning.endswith(f"results go to {path}")
    assert str(path) in unframed(summary)


def unframed(text):
    """Return what stands in a box, its lines joined: a long path may be broken over several of them."""
    inside = [line.strip("│╭╮╰╯─ \n") for line in text.splitlines()]
    return "".join(inside) + "\n" + " ".join(inside)


def test_signs_of_life_come_only_after_quiet_time(monkeypatch):
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: now.s))
    screen, printed = printed_by()
    screen.exchange_begins(3, "train slow side", 5)
    screen.reply()
    now.s += QUIET_S
    screen.reply()
    assert printed() == "", "quiet for not longer than allowed"
    now.s += 0.1
    screen.reply()
    (line,) = printed().splitlines()
    assert "round 3: train slow side" in line
    assert "3 of 5 agents" in line
    now.s += QUIET_S
    screen.reply()
    screen.heartbeat()
    assert printed().splitlines() == [line], "a sign of life is a line too"
    now.s += 0.1
    screen.exchange_begins(3, "gather", 5)
    screen.heartbeat()
    assert "round 3: gather" in printed().splitlines()[1]
    assert "0 of 5 agents" in printed().splitlines()[1]


def test_a_rounds_line_is_a_sign_of_life(monkeypatch):
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: now.s))
    screen, printed = printed_by()
    now.s += QUIET_S
    screen.round_ends(round_record())
    now.s += QUIET_S
    screen.reply()
    assert "..." not in printed()


def test_it_looks_the_same_in_a_log_as_in_a_terminal(capsys):
    """`flwr run --stream` shows the log of another process: no colours, no width but our own."""
    long = round_record(plan={"pairs": [PAIR | {"slow": slow} for slow in range(30)], "solo": []})
    Terminal(1).round_ends(long)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert len(printed.splitlines()) == 3
    screen, expected = printed_by(num_rounds=1)
    screen.round_ends(long)
    assert printed == expected()


def test_what_is_written_of_a_round_is_all_that_is_known_of_it(tmp_path):
    folder = RunFolder(config_in(tmp_path))
    folder.add_round(round_record(refused=[4]))
    (line,) = (folder.path / "rounds.jsonl").read_text().splitlines()
    known = asdict(round_record(refused=[4]))
    assert known.pop("agents") == (), "stands in a file of its own"
    written = json.loads(line)
    assert len(written.pop("chain_sha256")) == 64
    assert written == {**known.pop("scores"), **known}
    assert Path(folder.path / "config.json").is_file()


@pytest.mark.parametrize(
    ("gone", "mostly_gone", "status", "line"),
    [
        ([[], [2], []], [], "complete", None),
        ([[], [1, 2], [], []], [2], "complete", "note: in round 2 more agents were gone than took part"),
        ([[1, 2], [1, 2], []], [1, 2], "incomplete", "incomplete: in rounds 1, 2 more agents were gone"),
        ([[], [], [1, 2]], [3], "incomplete", "incomplete: in round 3 more agents were gone"),
    ],
)
def test_a_run_that_lost_most_of_its_agents_is_incomplete_and_says_so(
    gone, mostly_gone, status, line, tmp_path
):
    rounds = [round_record(round=n, gone=out, num_agents=3 - len(out)) for n, out in enumerate(gone, 1)]
    record = RunRecord(rounds=tuple(rounds))
    summary = {**summarize(record, config_in(tmp_path), 3, 1.0), "models": []}
    assert (summary["mostly_gone"], summary["status"]) == (mostly_gone, status)
    screen, printed = printed_by()
    screen.summary(summary, Path("results"))
    lines = [text for text in printed().splitlines() if "took part" in text]
    assert len(lines) == (line is not None)
    assert all(text.startswith(line) for text in lines)
