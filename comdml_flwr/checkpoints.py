"""Checkpoints: all that the rest of a run depends on, between two rounds, on disk.

    checkpoints/8/checkpoint.json         how far the run is, and digests of what lies beside it
    checkpoints/8/agent-0.safetensors     an agent's state, and the mail that waits for it
    ...

Everything else follows from the configuration and the seed (seeds.py), and the rounds so far are in
`rounds.jsonl`. Of an agent's state the last round's trainings and notes are left out: the next round forgets
them as it begins (`Agent.begin_round`).

A checkpoint is written into a folder `8.partial`, brought to the disk, and then renamed, so whatever ends the
process, a folder with a round's number is whole. The last two are kept: where agents' files lie on other
machines (flower/node_checkpoints.py), these have the newest a moment before `checkpoint.json` is there.
"""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from comdml_flwr.agent import Agent
from comdml_flwr.config import RunConfig
from comdml_flwr.errors import InputError, RunError
from comdml_flwr.messages import Array, Envelope, Inbox, Json
from comdml_flwr.rounds import Progress
from comdml_flwr.wire import decode, decode_envelope, encode, encode_envelope, read_file, write_file

FORMAT = 1
FOLDER, ABOUT, LOCK = "checkpoints", "checkpoint.json", "lock"
NUM_KEPT = 2
_STATE, _MAIL = "state/", "mail/"
_OF_ONE_ROUND = ("own/", "partner/")  # tensors that `Agent.begin_round` forgets


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What `checkpoint.json` says.

    Parameters
    ----------
    round : int
        After which it was written.
    num_rounds : int
        How many the run was to have.
    files : Mapping[int, str]
        SHA-256 of each agent's file, by id.
    digests : Mapping[int, str]
        The last digest of each who holds a whole model; see `Progress`.
    fleet : str
        Text of the fleet file.
    token : str
        Under which nodes know the run when it goes on.
    at_nodes : bool
        Whether the agents' files lie on the nodes.
    """

    round: int
    num_rounds: int
    files: Mapping[int, str]
    digests: Mapping[int, str]
    fleet: str
    token: str
    at_nodes: bool

    @property
    def ids(self) -> tuple[int, ...]:
        """All agents, ascending, without a server."""
        return tuple(agent for agent in sorted(self.files) if agent >= 0)


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


@dataclass(slots=True, kw_only=True)
class Checkpoints:
    """Writes a run's checkpoints: a `Keeper`.

    Parameters
    ----------
    config : RunConfig
        Number of rounds, and of rounds between two checkpoints.
    fleet_text : str
        Text of the fleet file.
    keep : Callable[[Path, int], Mapping[int, str]]
        (folder, round) -> SHA-256 of each agent's file, by id; lets the agents write them.
    at_nodes : bool
        Whether the agents' files lie on the nodes: these remove them at the end, so the last round has none.
    begun : Progress
        Where the run begins.
    token : str
        Under which nodes know it.
    """

    config: RunConfig
    fleet_text: str
    keep: Callable[[Path, int], Mapping[int, str]]
    at_nodes: bool = False
    begun: Progress = field(default_factory=Progress)
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    _folder: Path | None = None

    def write_into(self, run_folder: Path) -> None:
        """Say in which run's folder they are kept."""
        self._folder = run_folder / FOLDER

    def is_due(self, round_: int) -> bool:
        """Tell whether a checkpoint follows on a round: on the last one, too, as the run may train on."""
        every = self.config.checkpoint_every
        if every and round_ == self.config.num_rounds:
            return not self.at_nodes
        return bool(every) and round_ % every == 0

    def save(self, progress: Progress) -> None:
        """Write a checkpoint; see `Keeper.save`.

        Raises
        ------
        RunError
            The disk does not take it.
        """
        try:
            self._save(progress)
        except OSError as error:
            reason = f"{error.strerror or error}; the ones before are there"
            raise RunError(f"checkpoint of round {len(progress.rounds)}: {reason}") from error

    def _save(self, progress: Progress) -> None:
        assert self._folder is not None, "write_into comes first"
        round_ = len(progress.rounds)
        with new_checkpoint(self._folder, round_) as folder:
            checkpoint = Checkpoint(
                round=round_,
                num_rounds=self.config.num_rounds,
                files=self.keep(folder, round_),
                digests=progress.digests,
                fleet=self.fleet_text,
                token=self.token,
                at_nodes=self.at_nodes,
            )
            write_file(folder / ABOUT, _as_text(checkpoint).encode(), sync=True)


@contextmanager
def hold(run_folder: Path) -> Iterator[None]:
    """Keep others from going on with a run as long as this process works on it.

    Raises
    ------
    InputError
        Another process does.
    """
    path = run_folder / FOLDER / LOCK
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError("resume", str(run_folder), "is a run that still goes on") from None
        except OSError:
            pass  # a file system without locks
        yield


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


def write_agent(folder: Path, agent: Agent, waiting: Waiting) -> str:
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


def read_agent(folder: Path, agent: Agent, sha256: str) -> Waiting:
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
        raise _damaged(folder, f"{agent_file(agent.id)}: {error}") from None
    return Waiting(for_first=mail[:first], for_second=mail[first:])


def _letter(array: Array) -> Envelope:
    return decode_envelope(bytearray(array.tobytes()))  # a copy, which is aligned


def read_checked(folder: Path, agent: int, sha256: str) -> bytearray:
    """Return the bytes of an agent's file. Raises InputError where they are not those that were written."""
    try:
        blob = read_file(folder / agent_file(agent))
    except OSError as error:
        raise _damaged(folder, f"{agent_file(agent)}: {error.strerror}") from None
    if hashlib.sha256(blob).hexdigest() != sha256:
        raise _damaged(folder, f"{agent_file(agent)} is not as it was written")
    return blob


def read_checkpoint(run_folder: Path, round_: int) -> Checkpoint:
    """Read what `checkpoint.json` says.

    Raises
    ------
    InputError
        It is damaged, or of another version of the format.
    """
    folder = run_folder / FOLDER / str(round_)
    try:
        content = json.loads((folder / ABOUT).read_text("utf-8"))
        if content["format"] != FORMAT:
            raise InputError(
                "checkpoint", str(folder), f"has format {content['format']!r}; this version reads {FORMAT}"
            )
        if content.pop("sha256") != _digest(content):
            raise ValueError("is not as it was written")
        del content["format"]
        by_id = {key: {int(a): str(d) for a, d in content[key].items()} for key in ("files", "digests")}
        return Checkpoint(**{**content, **by_id})
    except OSError as error:
        raise _damaged(folder, f"{ABOUT}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise _damaged(folder, f"{ABOUT}: {' '.join(str(error).split())}") from None


def _as_text(checkpoint: Checkpoint) -> str:
    content: dict[str, Json] = {"format": FORMAT, **json.loads(json.dumps(asdict(checkpoint)))}
    return json.dumps({**content, "sha256": _digest(content)}, indent=2) + "\n"


def _digest(content: Mapping[str, Json]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _damaged(folder: Path, reason: str) -> InputError:
    return InputError("checkpoint", str(folder), f"is damaged: {reason}")
