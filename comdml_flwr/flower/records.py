"""What goes into Flower's records and how it is read back: one place for both sides."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast

from flwr.app import ConfigRecord, Message, RecordDict

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.messages import Report
from comdml_flwr.core.program import Absence, Step
from comdml_flwr.core.strict_json import to_json
from comdml_flwr.core.typed_json import (
    Json,
    read_as,
    read_float,
    read_floats,
    read_int,
    read_ints,
    read_table,
    read_texts,
)

T = TypeVar("T")
NO_STATE = -1
_EMPTY = "empty"
"""Tells which facts are an empty text, list or bytes."""


def content_of(facts: ConfigRecord) -> RecordDict:
    """Return the content of a message that tells these facts; `facts_of` gives them back.

    Flower's `ConfigRecord.count_bytes`, with which its mods measure messages, fails on empty values: they
    travel by their names.
    """
    empty = [f"{type(x).__name__} {name}" for name, x in facts.items() if x in ("", b"", [])]
    told = {name: x for name, x in facts.items() if x not in ("", b"", [])}
    return RecordDict({"facts": ConfigRecord({**told, _EMPTY: empty} if empty else told)})


def reply_with(message: Message, facts: ConfigRecord) -> Message:
    """Return the reply to a message."""
    return Message(content_of(facts), reply_to=message)


def failure(line: str) -> ConfigRecord:
    """Return the facts of a reply that says why there is none."""
    return ConfigRecord({"failure": line})


def facts_of(message: Message) -> ConfigRecord:
    """Return the facts of a message or a reply.

    Raises
    ------
    RunError
        The node failed, or Flower failed for it: one line with the reason.
    """
    if message.has_error():
        raise RunError(flower_reason(message))
    facts = message.content.config_records["facts"]
    if "failure" in facts:
        raise RunError(text(facts, "failure"))
    if _EMPTY not in facts:
        return facts
    named = (entry.split(" ", 1) for entry in texts(facts, _EMPTY))
    known: dict[str, type[str | bytes | list[int]]] = {"str": str, "bytes": bytes, "list": list}
    empty = {name: known[kind]() for kind, name in named if kind in known}
    return ConfigRecord({**empty, **{name: x for name, x in facts.items() if name != _EMPTY}})


def flower_reason(message: Message) -> str:
    """Return why Flower replied with an error: the last line of its reason."""
    lines = str(message.error.reason or "").strip().splitlines() or ["no reason given"]
    return f"Flower error {message.error.code}: {lines[-1]}"


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Make a RunError of what is raised where facts are missing, or of another kind."""
    try:
        yield
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{what} cannot be read: {error}") from None


def text(facts: ConfigRecord, name: str) -> str:
    """Return a fact that is a text."""
    return str(facts[name])


def integer(facts: ConfigRecord, name: str) -> int:
    """Return a fact that is a whole number."""
    return _read(facts, name, read_int)


def integers(facts: ConfigRecord, name: str) -> list[int]:
    """Return a fact that is a list of whole numbers."""
    return list(_read(facts, name, read_ints))


def texts(facts: ConfigRecord, name: str) -> list[str]:
    """Return a fact that is a list of texts."""
    return list(_read(facts, name, read_texts))


def number(facts: ConfigRecord, name: str) -> float:
    """Return a fact that is a number."""
    return _read(facts, name, read_float)


def floats(facts: ConfigRecord, name: str) -> list[float]:
    """Return a fact that is a list of numbers."""
    return list(_read(facts, name, read_floats))


def _read(facts: ConfigRecord, name: str, read: Callable[[Json], T]) -> T:
    return read_as(read, cast("Json", facts[name]), f"{name} in a message")  # readers refuse bytes


def blob(facts: ConfigRecord, name: str) -> bytes:
    """Return a fact that is bytes."""
    value = facts[name]
    if not isinstance(value, bytes):
        raise RunError(f"{name} in a message is no bytes")
    return value


def blobs(facts: ConfigRecord, name: str) -> list[bytes]:
    """Return a fact that is a list of bytes."""
    values = facts[name]
    if not isinstance(values, list) or not all(isinstance(value, bytes) for value in values):
        raise RunError(f"{name} in a message is no list of bytes")
    return [value for value in values if isinstance(value, bytes)]


def pack_report(report: Report) -> str:
    """Return a report as text."""
    return to_json(report)


def unpack_report(packed: str) -> Report:
    """Return the report in a text."""
    return read_as(read_table, json.loads(packed), "a report")


def task(
    *,
    steps: Sequence[Step],
    absence: Absence,
    exchange: int,
    previous: int,
    packed: Sequence[bytes],
    senders: Sequence[int],
    num_for_second: int = 0,
) -> ConfigRecord:
    """Return the facts of a `train.steps` message.

    Parameters
    ----------
    steps : Sequence[Step]
        What the agent is to run.
    absence : Absence
        Who is missing.
    exchange, previous : int
        Number of this exchange, and of the last one in which the agent ran; `NO_STATE` if it never did.
    packed : Sequence[bytes]
        Sealed mail, in order.
    senders : Sequence[int]
        Which agent's node sent each of them.
    num_for_second : int
        How many of them, from the first, are for a phase after the first of a round.
    """
    return ConfigRecord(
        {
            "rounds": [step.round for step in steps],
            "phases": [step.phase for step in steps],
            "attempts": [step.attempt for step in steps],
            "reductions": [step.num_reductions for step in steps],
            "gone": sorted(absence.gone),
            "returning": sorted(absence.returning),
            "back-in": absence.back_in,
            "exchange": exchange,
            "previous": previous,
            "packed": list(packed),
            "senders": list(senders),
            "for-second": num_for_second,
        }
    )


def steps_of(facts: ConfigRecord) -> tuple[Step, ...]:
    """Return the steps of a `train.steps` message."""
    names = ("rounds", "phases", "attempts", "reductions")
    return tuple(map(Step, *(integers(facts, name) for name in names)))


def absence_of(facts: ConfigRecord) -> Absence:
    """Return who is missing, as a message says it."""
    gone, returning = (frozenset(integers(facts, name)) for name in ("gone", "returning"))
    return Absence(gone, returning, integer(facts, "back-in"))
