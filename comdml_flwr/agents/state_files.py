"""An agent's state and the mail that waits for it, as files."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.files import read_file, write_file
from comdml_flwr.core.messages import Array, Envelope, Inbox
from comdml_flwr.core.wire import decode, decode_envelope, encode, encode_envelope

if TYPE_CHECKING:  # `comdml run --dry-run` needs no torch
    from comdml_flwr.agents.agent import Agent

_STATE, _MAIL = "state/", "mail/"


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


def agent_file(agent: int) -> str:
    """Return the name of an agent's file in a checkpoint."""
    return "server.safetensors" if agent < 0 else f"agent-{agent}.safetensors"


def write_agent(folder: Path, agent: "Agent", waiting: Waiting) -> str:
    """Write an agent's state and the mail that waits for it; return the file's SHA-256."""
    arrays, facts = agent.state_dict(between_rounds=True)
    packed: dict[str, Array] = {_STATE + name: array for name, array in arrays.items()}
    for number, envelope in enumerate((*waiting.for_first, *waiting.for_second)):
        packed[f"{_MAIL}{number}"] = np.frombuffer(encode_envelope(envelope), np.uint8)
    waiting_counts = {"for_first": len(waiting.for_first), "for_second": len(waiting.for_second)}
    blob = encode(packed, {**facts, **waiting_counts})
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
        mail = tuple(_envelope(arrays[f"{_MAIL}{number}"]) for number in range(first + second))
    except (RunError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise damaged(folder, f"{agent_file(agent.id)}: {error}") from None
    return Waiting(for_first=mail[:first], for_second=mail[first:])


def _envelope(array: Array) -> Envelope:
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


def save_state(agent: "Agent", folder: Path, exchange: int) -> None:
    """Write an agent's state after an exchange, and drop those from before the last one."""
    states = sorted(_state_path(folder, agent.id, 0).parent.glob("*.safetensors"), key=lambda p: int(p.stem))
    write_file(_state_path(folder, agent.id, exchange), encode(*agent.state_dict()))
    for path in states[:-1]:
        path.unlink(missing_ok=True)


def load_state(agent: "Agent", folder: Path, exchange: int) -> None:
    """Read the state that an agent had after an exchange.

    Raises
    ------
    RunError
        It is not in this folder.
    """
    path = _state_path(folder, agent.id, exchange)
    try:
        blob = read_file(path)
    except OSError:
        hint = "a Ray cluster of several hosts needs TMPDIR on shared storage"
        raise RunError(f"agent {agent.id}: {path} is not there; {hint}") from None
    agent.load_state_dict(*decode(blob))


def read_waiting(folder: Path, agent: int) -> Inbox:
    """Return the mail that waits for an agent's next phase, opened."""
    paths = sorted(_waiting(folder, agent).glob("*.safetensors"), key=lambda path: int(path.stem))
    return tuple(decode_envelope(read_file(path)) for path in paths)


def write_waiting(folder: Path, agent: int, mail: Inbox) -> None:
    """Let mail wait for an agent's next phase, in place of what waited."""
    for path in _waiting(folder, agent).glob("*.safetensors"):
        path.unlink()
    for number, envelope in enumerate(mail):
        write_file(_waiting(folder, agent) / f"{number}.safetensors", encode_envelope(envelope))


def _waiting(folder: Path, agent: int) -> Path:
    return folder / "waiting-mail" / str(agent)


def _state_path(folder: Path, agent: int, exchange: int) -> Path:
    return folder / "state" / str(agent) / f"{exchange}.safetensors"
