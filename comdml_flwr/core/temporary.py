"""Temporary folders that hold keys and states, and do not outlive their process for long.

Each has a lock that its process holds, so that whoever makes the next one finds those of processes that were
killed, and removes them. A folder on storage that several machines share is removed from its own one only;
one without a lock, as those of older versions are, after a week.
"""

import fcntl
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from comdml_flwr.core.files import open_lock, write_file

LOCK, NOTE = "lock", "note"
LONGEST_S = 7 * 86_400.0
_MADE = re.compile(r"[a-z0-9_]{8}")  # what mkdtemp adds to a prefix


@contextmanager
def temporary_folder(prefix: str, note: str = "") -> Iterator[tuple[Path, list[str]]]:
    """Make a private folder, and remove it at the end.

    Parameters
    ----------
    prefix : str
        With which its name begins.
    note : str
        For whoever has to remove it in place of this process.

    Yields
    ------
    tuple[Path, list[str]]
        The folder, and the notes of those with this prefix whose processes have died: they are removed.
    """
    swept = _sweep(prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        with ExitStack() as held:
            new = folder / f"{LOCK}.new"
            file = held.enter_context(open_lock(new))
            with suppress(OSError):  # a file system without locks: the folder is never swept
                fcntl.flock(file, fcntl.LOCK_EX)
                write_file(folder / NOTE, f"{socket.gethostname()}\n{note}".encode())
                new.rename(folder / LOCK)  # it is looked for under this name, and held by then
            yield folder, [*swept.values()]
    finally:
        for path in (folder, *swept):  # others that worked for a killed process may have written once more
            shutil.rmtree(path, ignore_errors=True)


def _sweep(prefix: str) -> dict[Path, str]:
    """Remove the folders of this user's processes here that have died; return them and their notes."""
    swept = {}
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError, ValueError):  # it goes on, or somebody else removes it right now
            is_made = _MADE.fullmatch(folder.name.removeprefix(prefix)) is not None
            if is_made and folder.lstat().st_uid == os.getuid() and not folder.is_symlink():
                note = _note_of_dead(folder)
                shutil.rmtree(folder, ignore_errors=True)
                swept[folder] = note
    return swept


def _note_of_dead(folder: Path) -> str:
    """Return the note of a folder whose process has died. Raises OSError where it lives, or may live."""
    if not (folder / LOCK).exists():
        if time.time() - folder.stat().st_mtime < LONGEST_S:
            raise FileNotFoundError
        return ""
    host, _, note = (folder / NOTE).read_text().partition("\n")
    if host != socket.gethostname():
        raise PermissionError
    with (folder / LOCK).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return note
