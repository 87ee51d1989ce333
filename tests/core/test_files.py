"""Files are whole or not there, whatever the disk does, and as open to others as their folder."""

import ast
import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

import comdml_flwr
from comdml_flwr.core import files
from comdml_flwr.core.files import append_line, make_folder, write_file, write_files, write_new

SOURCE = Path(comdml_flwr.__file__).parent
LONG = bytes(3000)


@pytest.fixture
def short_files():
    """Let no file be longer than a kilobyte meanwhile, as on a disk that becomes full in its middle."""
    limits, before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refuses(path, write, reason="File too large"):
    with pytest.raises(OSError, match=reason) as caught:
        write()
    assert caught.value.filename == str(path)


def test_a_disk_that_becomes_full_leaves_the_file_as_it_was(short_files, tmp_path):
    path = tmp_path / "there"
    path.write_bytes(b"old")
    refuses(path, lambda: write_file(path, LONG))
    refuses(path, lambda: write_file(path, LONG, sync=True))
    refuses(tmp_path / "new", lambda: write_new(tmp_path / "new", LONG))
    assert contents(tmp_path) == {"there": b"old"}


def test_of_files_that_belong_together_all_are_written_or_none(short_files, tmp_path):
    (tmp_path / "b").write_bytes(b"old")
    made = {tmp_path / "a": b"new", tmp_path / "b": b"new", tmp_path / "c": LONG}
    refuses(tmp_path / "c", lambda: write_files(made))
    assert contents(tmp_path) == {"b": b"old"}
    write_files({**made, tmp_path / "c": b"new"})
    assert contents(tmp_path) == {"a": b"new", "b": b"new", "c": b"new"}


def test_a_line_is_added_whole_or_not_at_all(short_files, tmp_path):
    path = tmp_path / "lines"
    append_line(path, bytes(1000), sync=True)
    refuses(path, lambda: append_line(path, bytes(1000)))
    append_line(path, b"short")
    assert path.read_bytes() == bytes(1000) + b"\nshort\n"


@pytest.mark.parametrize("write", [write_file, write_new, append_line])
def test_a_folder_that_is_a_file_is_named(write, tmp_path):
    (tmp_path / "file").touch()
    refuses(tmp_path / "file" / "x", lambda: write(tmp_path / "file" / "x", b""), "Not a directory")


def test_a_new_file_replaces_nothing(tmp_path, monkeypatch):
    path = tmp_path / "there"
    write_new(path, b"first")
    refuses(path, lambda: write_new(path, b"second"), "File exists")
    monkeypatch.setattr(
        files.os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no links here"))
    )
    refuses(path, lambda: write_new(path, b"second"), "no links here")
    write_new(tmp_path / "other", b"third")
    assert contents(tmp_path) == {"there": b"first", "other": b"third"}


def modes(folder):
    return {oct(path.stat().st_mode & 0o777) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("of_folder", "expected"), [(0o700, {"0o700", "0o600"}), (0o755, {"0o755", "0o644"})]
)
def test_what_is_made_is_as_open_as_its_folder(of_folder, expected, tmp_path):
    before, folder = os.umask(0o022), tmp_path / "run"
    try:
        folder.mkdir()
        folder.chmod(of_folder)
        make_folder(folder / "a" / "b")
        write_file(folder / "c" / "d" / "file", b"")
        write_new(folder / "new", b"")
        append_line(folder / "lines", b"")
        files.open_lock(folder / "lock").close()
        assert modes(folder) == expected
    finally:
        os.umask(before)


def test_a_key_is_private_wherever_it_lies_and_whatever_was_left_there(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "key.partial").touch(0o666)
    write_file(tmp_path / "key", b"secret", mode=files.PRIVATE_FILE)
    assert modes(tmp_path) == {"0o600"}


@pytest.mark.slow
def test_a_full_disk_that_is_one_leaves_what_there_was(tmp_path):
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "x", tmp_path], check=False).returncode
    ):
        pytest.skip("only who may mount a small disk can fill it")
    try:
        write_file(tmp_path / "there", bytes(20_000))
        append_line(tmp_path / "lines", bytes(1000))
        before = contents(tmp_path)
        for path, write in {
            tmp_path / "there": lambda: write_file(tmp_path / "there", bytes(100_000), sync=True),
            tmp_path / "new": lambda: write_new(tmp_path / "new", bytes(100_000)),
            tmp_path / "lines": lambda: append_line(tmp_path / "lines", bytes(100_000), sync=True),
            tmp_path / "b": lambda: write_files({tmp_path / "a": b"", tmp_path / "b": bytes(100_000)}),
        }.items():
            refuses(path, write, "No space left on device")
            assert contents(tmp_path) == before
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        refuses(tmp_path / "there", lambda: write_file(tmp_path / "there", b""), "Read-only file system")
        refuses(tmp_path / "lines", lambda: append_line(tmp_path / "lines", b""), "Read-only file system")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def calls_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            words = [word.value for word in node.args if isinstance(word, ast.Constant)]
            yield node.func.attr, words


def test_nothing_else_in_the_package_writes_files():
    """A decoded folder of images and a log of Flower's are no files of ours in this sense."""
    apart = {SOURCE / "core" / "files.py", SOURCE / "learning" / "data" / "pixel_cache.py"}
    writes = {"write_text", "write_bytes", "copyfile", "copy2", "copytree", "move", "touch"}
    found = [
        f"{path.relative_to(SOURCE)}: {name}"
        for path in sorted({*SOURCE.rglob("*.py")} - apart)
        for name, words in calls_of(path)
        if name in writes or (name == "open" and {*words} & {"w", "wb", "a", "ab", "x", "xb", "w+", "r+b"})
    ]
    assert found == []
