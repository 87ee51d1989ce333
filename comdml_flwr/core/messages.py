"""Envelopes, phases, programs and carriers: the vocabulary of a round.

Theory of operation
-------------------
A Flower `ClientApp` is a function from message to message. In deployment every message is a new process; in
simulation only as many run at once as there are actors. Code that waits for a peer inside a handler hangs in
one and loses its locals in the other. So nobody waits:

* a **phase** is a plain function `(agent, inbox) -> outbox`, with a name and whose mail it expects;
* a **program** is a tuple of phases: one round. The method alone makes it, whatever carries it;
* a **carrier** runs phases and moves envelopes; it opens no payload.

The mail that a phase sends is in the inbox of the receiver's *next* phase of the program. Functions
between which no mail is needed are made one by `together`, so they share one phase. Simulation and deployment
differ by the carrier alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.core.typed_json import Json

FLOAT_BYTES = 4  # weights, activations and gradients are float32

T = TypeVar("T")
Array: TypeAlias = NDArray[np.generic]
Floats: TypeAlias = NDArray[np.float32]
Report: TypeAlias = dict[str, Json]
"""What an agent tells the run about itself after an exchange: numbers and names, never weights."""


def size_of(arrays: Mapping[str, Array]) -> int:
    """Return the size of arrays in bytes."""
    return sum(array.nbytes for array in arrays.values())


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Envelope:
    """Mail from one agent to another.

    Parameters
    ----------
    sender, receiver : int
        Agent ids; equal when an agent keeps something for its own next phase.
    round : int
        The round that it belongs to.
    kind : str
        What is in it, such as "activations".
    about : Mapping[str, Json]
        Small facts that go with the arrays.
    arrays : Mapping[str, ndarray]
        The tensors, shared and not copied; receivers read them only.
    arrives_s : float
        When it is there on the virtual clock of its round.
    mark : Mapping[str, Json], optional
        What a carrier adds for its own use; no phase sees it.
    """

    sender: int
    receiver: int
    round: int
    kind: str
    about: Mapping[str, Json] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)
    arrives_s: float = 0.0
    mark: Mapping[str, Json] | None = None

    @property
    def num_bytes(self) -> int:
        """Size of the arrays in bytes; the header (a few hundred bytes) is not counted."""
        return size_of(self.arrays)

    @property
    def where(self) -> str:
        """What it is, from whom and when, for the beginning of an error's line."""
        return f"{self.kind} from agent {self.sender}, round {self.round}"


Inbox: TypeAlias = tuple[Envelope, ...]
Outbox: TypeAlias = tuple[Envelope, ...]


class Addressed(Protocol):
    """Anything that can be sorted by receiver without being opened."""

    @property
    def sender(self) -> int:
        """Id of the agent that sent it."""

    @property
    def receiver(self) -> int:
        """Id of the agent that it is for."""


MailT = TypeVar("MailT", bound=Addressed)


class Mailboxes(Generic[MailT]):
    """Mail that waits for its receivers; what is in it stays closed."""

    def __init__(self) -> None:
        self._boxes: dict[int, list[MailT]] = {}

    def put(self, mail: Iterable[MailT]) -> None:
        """Sort mail into the boxes: by sender, and a sender's own in the order in which it was sent.

        An inbox does not depend on the order in which the senders' mail of one exchange came in.
        """
        for item in sorted(mail, key=lambda item: item.sender):
            self._boxes.setdefault(item.receiver, []).append(item)

    def take(self, receiver: int) -> tuple[MailT, ...]:
        """Empty the box of a receiver."""
        return tuple(self._boxes.pop(receiver, ()))

    def look(self, receiver: int) -> tuple[MailT, ...]:
        """Return what is in the box of a receiver, and leave it there."""
        return tuple(self._boxes.get(receiver, ()))
