"""The files of checkpoints: a folder for each, whole or not there, and in it a file for each agent.

Of an agent's state the last round's trainings and notes are left out: the next round forgets them as it
begins (`Agent.begin_round`). What is written is brought to the disk before the folder gets its name.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from comdml_flwr.core.files import make_folder

NUM_KEPT = 2


@contextmanager
def new_checkpoint(root: Path, round_: int) -> Iterator[Path]:
    """Give a folder to fill; on leaving, it is the checkpoint of a round, and the last two are kept."""
    remove_partial(root)
    partial = root / f"{round_}.partial"
    make_folder(partial)
    yield partial
    _sync(partial)
    _remove(root, [round_])
    partial.rename(root / str(round_))
    _sync(root)
    _remove(root, rounds_in(root)[:-NUM_KEPT])


def rounds_in(root: Path) -> list[int]:
    """Return the rounds of which a folder holds checkpoints, ascending."""
    return sorted(int(path.name) for path in root.glob("*") if path.name.isdecimal())


def go_back(root: Path, round_: int) -> None:
    """Remove the checkpoints of later rounds, and those that were never finished."""
    remove_partial(root)
    _remove(root, [later for later in rounds_in(root) if later > round_])


def remove_partial(root: Path) -> None:
    """Remove what a process that was ended has left."""
    for path in root.glob("*.partial"):
        shutil.rmtree(path, ignore_errors=True)


def _remove(root: Path, rounds: list[int]) -> None:
    """Remove checkpoints, each under another name first: half a one is none."""
    for path in (root / str(round_) for round_ in rounds):
        if path.exists():
            shutil.rmtree(path.rename(root / f"{path.name}-old.partial"))


def _sync(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
