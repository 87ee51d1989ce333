"""A results folder that goes away or cannot take more, and Ctrl-C: one line, and what there is stays."""

import os
import resource
import shutil
import signal
import sys

import pytest

from comdml_flwr.cli import main as cli
from comdml_flwr.cli.commands import fleet, picture
from comdml_flwr.core.errors import InputError, InterruptedRun, RunError
from comdml_flwr.runs.local_run import run_locally
from comdml_flwr.runs.terminal import Terminal
from tests.carriers.interrupted import only_run_in
from tests.flower.loop_grid import quiet_terminal
from tests.small import CATALOGUE, fleet_text


class AfterRound(Terminal):
    """Prints nothing and does something when a round has ended."""

    def __init__(self, round_, action):
        super().__init__(3, quiet_terminal(3).console)
        self._round, self._action = round_, action

    def round_ends(self, record):
        if record.round == self._round:
            self._action()


def run(folder, terminal, **keys):
    devices = folder / "fleet.toml"
    devices.write_text(fleet_text(2))
    values = {"model": "four-stages", "dataset": "few-digits", "fleet": str(devices), "num-rounds": 3}
    values |= {"local-epochs": 1, "results-dir": str(folder / "results"), **keys}
    return run_locally(values, num_agents=2, catalogue=CATALOGUE, terminal=terminal)


def test_a_folder_that_is_removed_meanwhile_ends_the_run_in_one_line(tmp_path):
    results = tmp_path / "results"
    with pytest.raises(RunError) as caught:
        run(tmp_path, AfterRound(1, lambda: shutil.rmtree(results)))
    assert str(caught.value).startswith(f"results cannot be written: {results}")
    assert str(caught.value).endswith("rounds.jsonl: No such file or directory")


@pytest.fixture
def with_room_for_nothing():
    """Return a function after which no file may have a byte more, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


def test_a_disk_that_takes_no_more_ends_the_run_in_one_line(with_room_for_nothing, tmp_path):
    with pytest.raises(RunError, match=r"^results cannot be written: .*: File too large$"):
        run(tmp_path, AfterRound(1, with_room_for_nothing))
    folder = only_run_in(tmp_path / "results")
    assert not (folder / "summary.json").exists()
    assert len((folder / "rounds.jsonl").read_text().splitlines()) == 1


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("keys", "end"),
    [
        ({}, "has no checkpoint to go on from (checkpoint-every keeps them)"),
        ({"checkpoint-every": 1}, "to go on after round 1: comdml run --resume {folder}"),
    ],
)
def test_who_interrupts_a_run_is_told_how_it_goes_on(keys, end, tmp_path):
    with pytest.raises(InterruptedRun) as caught:
        run(tmp_path, AfterRound(2, interrupt), **keys)
    folder = only_run_in(tmp_path / "results")
    assert str(caught.value).startswith("interrupted; ")
    assert str(caught.value).endswith(end.format(folder=folder))
    assert (folder / "failed.txt").read_text() == "interrupted\n"


def test_an_interrupted_command_says_so_with_status_130(monkeypatch, capsys):
    def stop(*_, **__):
        raise InterruptedRun("interrupted; to go on after round 1: comdml run --resume results/x")

    monkeypatch.setattr("comdml_flwr.runs.local_run.run_locally", stop)
    monkeypatch.setattr(sys, "argv", ["comdml", "run"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err.endswith("comdml run --resume results/x\n")


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    """Its half-written part cannot be removed either, as on a read-only disk."""
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^--picture = .*: Not a directory$"):
        picture._write(tmp_path / "file" / "x.svg", b"")
    with pytest.raises(InputError, match=r"^--output = .*: cannot be written: Not a directory$"):
        fleet._write_new(tmp_path / "file" / "x.toml", "")
