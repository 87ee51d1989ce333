"""Checkpoints: all that the rest of a run depends on, between two rounds, on disk.

    checkpoints/8/checkpoint.json         how far the run is, and digests of what lies beside it
    checkpoints/8/agent-0.safetensors     an agent's state, and the mail that waits for it
    checkpoints/8/model-best.safetensors  the best model so far (model_files.py)
    ...

Everything else follows from the configuration and the seed (seeds.py), and the rounds so far are in
`rounds.jsonl`.

A checkpoint is written into a folder `8.partial`, brought to the disk, and then renamed, so whatever ends the
process, a folder with a round's number is whole. The last two are kept: where agents' files lie on other
machines (flower/clientapp/checkpoints.py), these have the newest a moment before `checkpoint.json` is there.
"""

import fcntl
import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from comdml_flwr.agents.state_files import damaged
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import LONGEST_VALUE, InputError, RunError
from comdml_flwr.core.files import open_lock, write_file
from comdml_flwr.core.strict_json import read_json_file, to_json
from comdml_flwr.core.typed_json import Json, as_table, read_bool, read_int, read_ints, read_table, read_text
from comdml_flwr.runs.checkpoint_folders import new_checkpoint
from comdml_flwr.runs.loop import checkpoint_follows, has_ended
from comdml_flwr.runs.model_files import carry_best
from comdml_flwr.runs.records import RunRecord

FORMAT = 1
FOLDER, ABOUT, LOCK = "checkpoints", "checkpoint.json", "lock"


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
        The last digest of each who holds a whole model; see `RunRecord`.
    fleet : str
        Text of the fleet file.
    token : str
        Under which nodes know the run when it goes on.
    at_nodes : bool
        Whether the agents' files lie on the nodes.
    gone : tuple[int, ...]
        Agents that had failed, of which there is no file: they restart without state.
    """

    round: int
    num_rounds: int
    files: Mapping[int, str]
    digests: Mapping[int, str]
    fleet: str
    token: str
    at_nodes: bool
    gone: tuple[int, ...] = ()

    @property
    def ids(self) -> tuple[int, ...]:
        """All agents, ascending, without a server."""
        return tuple(agent for agent in sorted({*self.files, *self.gone}) if agent >= 0)


@dataclass(slots=True, kw_only=True)
class Checkpoints:
    """Writes a run's checkpoints.

    Parameters
    ----------
    config : RunConfig
        Number of rounds, and of rounds between two checkpoints.
    fleet_text : str
        Text of the fleet file.
    ids : tuple[int, ...]
        All agents, ascending, without a server.
    keep : Callable[[Path, RunRecord], Mapping[int, str]]
        (folder, record) -> SHA-256 of each agent's file, by id; lets those who are not gone write them.
    at_nodes : bool
        Whether the agents' files lie on the nodes: these remove them at the end, so the last round has none.
    token : str
        Under which nodes know it.
    """

    config: RunConfig
    fleet_text: str
    ids: tuple[int, ...]
    keep: Callable[[Path, RunRecord], Mapping[int, str]]
    at_nodes: bool = False
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    _folder: Path | None = None

    def write_into(self, run_folder: Path) -> None:
        """Say in which run's folder they are kept."""
        self._folder = run_folder / FOLDER

    def is_due(self, record: RunRecord) -> bool:
        """Tell whether a checkpoint follows on the last of these rounds.

        One follows on a run's last round, too, as the run may train on; none where no agent is left to write.
        """
        if not self.config.checkpoint_every or {*self.ids} <= {*record.gone}:
            return False
        round_ = len(record.rounds)
        if round_ == self.config.num_rounds or has_ended(record.rounds, self.config):
            return not self.at_nodes
        return checkpoint_follows(round_, self.config)

    def save(self, record: RunRecord) -> None:
        """Write a checkpoint; all agents are between two rounds.

        Raises
        ------
        RunError
            The disk does not take it.
        """
        try:
            self._save(record)
        except OSError as error:
            reason = f"{error.strerror or error}; the ones before are there"
            raise RunError(f"checkpoint of round {len(record.rounds)}: {reason}") from error

    def _save(self, record: RunRecord) -> None:
        assert self._folder is not None, "write_into comes first"
        round_ = len(record.rounds)
        with new_checkpoint(self._folder, round_) as folder:
            files = self.keep(folder, record)
            carry_best(self._folder.parent, folder)
            checkpoint = Checkpoint(
                round=round_,
                num_rounds=self.config.num_rounds,
                files=files,
                digests=record.digests,
                fleet=self.fleet_text,
                token=self.token,
                at_nodes=self.at_nodes,
                gone=tuple(agent for agent in self.ids if agent not in files),
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
    with open_lock(run_folder / FOLDER / LOCK) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError("resume", str(run_folder), "is a run that still goes on") from None
        except OSError:
            pass  # a file system without locks
        yield


def read_checkpoint(run_folder: Path, round_: int) -> Checkpoint:
    """Read what `checkpoint.json` says.

    Raises
    ------
    InputError
        It is damaged, or of another version of the format.
    """
    folder = run_folder / FOLDER / str(round_)
    try:
        content = read_table(read_json_file(folder / ABOUT))
        if content["format"] != FORMAT:
            raise InputError(
                "checkpoint",
                str(folder),
                f"has format {repr(content['format'])[:LONGEST_VALUE]}; this version reads {FORMAT}",
            )
        if content.pop("sha256") != _digest(content):
            raise ValueError("is not as it was written")
        checkpoint = Checkpoint(
            round=read_int(content["round"]),
            num_rounds=read_int(content["num_rounds"]),
            files=_read_by_agent(content["files"]),
            digests=_read_by_agent(content["digests"]),
            fleet=read_text(content["fleet"]),
            token=read_text(content["token"]),
            at_nodes=read_bool(content["at_nodes"]),
            gone=read_ints(content["gone"]),
        )
        if checkpoint.round != round_:
            raise ValueError(f"is of round {checkpoint.round}")
    except OSError as error:
        raise damaged(folder, f"{ABOUT}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise damaged(folder, f"{ABOUT}: {' '.join(str(error).split())}") from None
    return checkpoint


def _read_by_agent(value: Json) -> dict[int, str]:
    return {int(agent): read_text(digest) for agent, digest in as_table(value).items()}


def _as_text(checkpoint: Checkpoint) -> str:
    content: dict[str, Json] = {"format": FORMAT, **json.loads(json.dumps(asdict(checkpoint)))}
    return to_json({**content, "sha256": _digest(content)}, indent=2) + "\n"


def _digest(content: Mapping[str, Json]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
