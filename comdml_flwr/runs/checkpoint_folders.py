"""The files of checkpoints: a folder for each, whole or not there, and in it a file for each agent.

Of an agent's state the last round's trainings and notes are left out: the next round forgets them as it
begins (`Agent.begin_round`). What is written is brought to the disk before the folder gets its name.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.messages import Array, Envelope, Inbox
from comdml_flwr.core.wire import decode, decode_envelope, encode, encode_envelope, read_file, write_file

if TYPE_CHECKING:  # `comdml run --dry-run` needs no torch
    from comdml_flwr.agents.agent import Agent

NUM_KEPT = 2
_STATE, _MAIL = "state/", "mail/"
_OF_ONE_ROUND = ("own/", "partner/")  # tensors that `Agent.begin_round` forgets


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Mail that waits for an agent between two rounds.

    Parameters
    ----------
    for_first : tuple[Envelope, ...]
        For its first phase of a round, if that comes before its second: from a server.
    for_second : tuple[Envelope, ...]
        For its second phase of a round; see `has_second_phase`.
    """

    for_first: Inbox = ()
    for_second: Inbox = ()


@contextmanager
def new_checkpoint(root: Path, round_: int) -> Iterator[Path]:
    """Give a folder to fill; on leaving, it is the checkpoint of a round, and the last two are kept."""
    remove_partial(root)
    partial = root / f"{round_}.partial"
    partial.mkdir(parents=True)
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


def agent_file(agent: int) -> str:
    """Return the name of an agent's file in a checkpoint."""
    return "server.safetensors" if agent < 0 else f"agent-{agent}.safetensors"


def write_agent(folder: Path, agent: "Agent", waiting: Waiting) -> str:
    """Write an agent's state and the mail that waits for it; return the file's SHA-256."""
    arrays, facts = agent.state_dict()
    packed: dict[str, Array] = {
        _STATE + name: array for name, array in arrays.items() if not name.startswith(_OF_ONE_ROUND)
    }
    for number, envelope in enumerate((*waiting.for_first, *waiting.for_second)):
        packed[f"{_MAIL}{number}"] = np.frombuffer(encode_envelope(envelope), np.uint8)
    letters = {"for_first": len(waiting.for_first), "for_second": len(waiting.for_second)}
    blob = encode(packed, {**facts, "notes": {}, **letters})
    write_file(folder / agent_file(agent.id), blob, sync=True)
    return hashlib.sha256(blob).hexdigest()


def read_agent(folder: Path, agent: "Agent", sha256: str) -> Waiting:
    """Take up what `write_agent` wrote; return the mail that waits.

    Raises
    ------
    InputError
        The file is not there, or not as it was.
    """
    blob = read_checked(folder, agent.id, sha256)
    try:
        arrays, facts = decode(blob)
        agent.load_state_dict(
            {name.removeprefix(_STATE): arrays[name] for name in arrays if name.startswith(_STATE)}, facts
        )
        first, second = (int(str(facts[name])) for name in ("for_first", "for_second"))
        mail = tuple(_letter(arrays[f"{_MAIL}{number}"]) for number in range(first + second))
    except (RunError, KeyError, TypeError, ValueError) as error:
        raise damaged(folder, f"{agent_file(agent.id)}: {error}") from None
    return Waiting(for_first=mail[:first], for_second=mail[first:])


def _letter(array: Array) -> Envelope:
    return decode_envelope(bytearray(array.tobytes()))  # a copy, which is aligned


def read_checked(folder: Path, agent: int, sha256: str) -> bytearray:
    """Return the bytes of an agent's file. Raises InputError where they are not those that were written."""
    try:
        blob = read_file(folder / agent_file(agent))
    except OSError as error:
        raise damaged(folder, f"{agent_file(agent)}: {error.strerror}") from None
    if hashlib.sha256(blob).hexdigest() != sha256:
        raise damaged(folder, f"{agent_file(agent)} is not as it was written")
    return blob


def damaged(folder: Path, reason: str) -> InputError:
    """Return the line that says so of a checkpoint."""
    return InputError("checkpoint", str(folder), f"is damaged: {reason}")
