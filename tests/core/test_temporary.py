"""Temporary folders: gone with their process, or when the next one begins."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from comdml_flwr.core import temporary
from comdml_flwr.core.temporary import LONGEST_S, temporary_folder

MADE = """
import sys, time
from comdml_flwr.core.temporary import temporary_folder
with temporary_folder("comdml-test-", note=sys.argv[1]) as (folder, notes):
    (folder / "key").write_text("secret")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The folder for temporary files, here and in processes that a test starts."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def start(note):
    words = [sys.executable, "-c", MADE, note]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline()
    return process


def test_it_is_private_and_gone_at_the_end(place):
    with temporary_folder("comdml-test-") as (folder, notes):
        assert (folder.parent, notes) == (place, [])
        assert folder.stat().st_mode & 0o777 == 0o700
    assert [*place.iterdir()] == []
    with pytest.raises(ValueError, match="x"), temporary_folder("comdml-test-"):
        raise ValueError("x")
    assert [*place.iterdir()] == []


def test_what_killed_processes_left_is_gone_when_the_next_one_begins(place):
    killed, alive = [start("one"), start("two")], start("three")
    for process in killed:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len([*place.glob("*/key")]) == 3
    with temporary_folder("comdml-test-") as (folder, notes):
        assert sorted(notes) == ["one", "two"]
        assert len([*place.glob("*/key")]) == 1
        with temporary_folder("comdml-test-") as (other, more):
            assert more == []
            assert folder.exists()
            assert other.exists()
    alive.kill()
    alive.wait()


def test_so_is_what_others_have_written_for_a_killed_process_since(place):
    killed = start("one")
    (theirs,) = place.iterdir()
    killed.kill()
    killed.wait()
    with temporary_folder("comdml-test-"):
        theirs.mkdir()
        (theirs / "state").touch()
    assert not theirs.exists()


def test_another_machines_and_other_folders_are_left_alone(place, monkeypatch):
    for name in ("comdml-test-mine", "other-abcdefgh"):
        (place / name).mkdir()
        (place / name / "lock").touch()
        (place / name / "note").write_text(f"{temporary.socket.gethostname()}\n")
    dead = start("theirs")
    dead.kill()
    dead.wait()
    monkeypatch.setattr(temporary.socket, "gethostname", lambda: "another")
    with temporary_folder("comdml-test-") as (_, notes):
        assert notes == []
    assert len([*place.iterdir()]) == 3


def test_one_without_a_lock_is_gone_after_a_week(place):
    old = place / "comdml-test-abcd1234"
    old.mkdir()
    with temporary_folder("comdml-test-"):
        assert old.exists()
    os.utime(old, (0, time.time() - LONGEST_S - 60))
    with temporary_folder("comdml-test-"):
        assert not old.exists()
