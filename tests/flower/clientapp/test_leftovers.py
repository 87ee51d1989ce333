"""What runs that were killed have left at a node, its keys above all, is gone when the next run begins."""

import os
import shutil
import subprocess
import tempfile
import time

import pytest

from comdml_flwr.core import temporary
from comdml_flwr.core.errors import RunError
from comdml_flwr.flower.clientapp import leftovers, peer_client_app, session
from comdml_flwr.flower.clientapp.leftovers import LONGEST_PAUSE_S, OWNER, note_message, remove_leftovers
from comdml_flwr.flower.mail import make_own_folder, own_folder
from tests.flower.wiretap import NUM_AGENTS, Wiretap, patterned_config, run


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The folder for temporary files."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


@pytest.fixture
def folder():
    """The own folder of a run that is handled by the process that has started this one."""
    made = own_folder(7, 1)
    make_own_folder(made, "token of 7", "[links]")
    note_message(made)
    return made


def test_a_run_that_goes_on_keeps_what_it_has(folder):
    remove_leftovers(["token of 8"])
    assert folder.exists()


def test_what_a_dead_serverapp_left_is_gone(folder):
    remove_leftovers(["token of 8", "token of 7"])
    assert not folder.exists()


def test_what_a_dead_supernode_left_is_gone(folder, monkeypatch):
    with subprocess.Popen(["sleep", "60"]) as supernode:
        monkeypatch.setattr(leftovers.os, "getppid", lambda: supernode.pid)
        note_message(folder)
        remove_leftovers([])
        assert folder.exists()
        supernode.kill()
    remove_leftovers([])
    assert not folder.exists()


def test_a_later_process_of_the_same_number_is_another_one(folder):
    host, boot, namespace, process, began = (folder / OWNER).read_text().split()
    (folder / OWNER).write_text(" ".join([host, boot, namespace, process, f"1{began}"]))
    remove_leftovers([])
    assert not folder.exists()


@pytest.mark.parametrize(
    ("changed", "is_kept"),
    [
        ({0: "another-machine", 3: "1"}, True),
        ({1: "another-boot"}, False),
        ({2: "another-container", 4: "1"}, True),
    ],
    ids=["another machine", "before it was booted", "another container"],
)
def test_only_what_can_be_seen_from_here_is_judged(changed, is_kept, folder):
    words = (folder / OWNER).read_text().split()
    (folder / OWNER).write_text(" ".join(changed.get(place, word) for place, word in enumerate(words)))
    remove_leftovers([])
    assert folder.exists() == is_kept


def test_after_a_week_without_a_message_it_is_gone(folder):
    os.utime(folder, (0, time.time() - LONGEST_PAUSE_S - 60))
    note_message(folder)
    remove_leftovers([])
    assert folder.exists(), "a message has come"
    os.utime(folder, (0, time.time() - LONGEST_PAUSE_S - 60))
    remove_leftovers([])
    assert not folder.exists()


@pytest.mark.parametrize("shares", [True, False], ids=["the run's folder", "its own folder"])
def test_a_node_that_still_works_when_its_run_is_removed_leaves_nothing(shares, tmp_path, place, monkeypatch):
    if not shares:
        monkeypatch.setattr(session, "is_shared", lambda folder, token: False)
    config, real, removed = patterned_config(tmp_path), peer_client_app.run_steps, []

    def run_steps(*which):
        done = real(*which)
        if not removed:
            removed.extend(path.parent for path in place.glob("**/run-token"))
            for folder in removed:
                shutil.rmtree(folder)
        return done

    monkeypatch.setattr(peer_client_app, "run_steps", run_steps)
    with pytest.raises(RunError):
        run(Wiretap(config), config)
    assert len(removed) == (1 if shares else NUM_AGENTS + 1)
    assert [*place.glob("comdml-*/*")] == []


class Killed(BaseException):
    """Ends a ServerApp where it is."""


def test_killed_runs_and_a_good_one_leave_nothing(tmp_path, place, monkeypatch):
    """A ServerApp that is killed says no goodbye, and removes nothing."""
    monkeypatch.setattr(session, "is_shared", lambda folder, token: False)
    config = patterned_config(tmp_path)

    def die(message):
        if message.metadata.message_type == "train.steps":
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(temporary.shutil, "rmtree", lambda *_, **__: None)
        for _ in range(3):
            grid = Wiretap(config)
            grid.change = die
            with pytest.raises(Killed):
                run(grid, config)
    assert len([*place.glob("comdml-flwr-*-node/*/keys/*/*")]) == 3 * NUM_AGENTS
    run(Wiretap(config), config)
    assert [path.name for path in place.glob("comdml-*")] == [f"comdml-flwr-{os.getuid()}-node"]
    assert [*place.glob("comdml-flwr-*-node/*")] == []
