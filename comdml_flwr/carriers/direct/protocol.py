"""What peers say to each other beside the mail of phases: who is there, and which rounds count.

No phase sees any of it. A mark says that a phase is done. It rides on the last envelope of the phase, apart
from what a method put there (`Envelope.mark`), or comes behind the phase's mail in an envelope of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from comdml_flwr.core.errors import PeerFaultError, RunError
from comdml_flwr.core.mail import Mail, Tensors
from comdml_flwr.core.messages import Envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark(Mail):
    """An agent has done a phase.

    Parameters
    ----------
    phase : int
        Which one.
    gone : tuple[int, ...]
        Without whom.
    accusations : tuple
        All that the agent knows: (round, accuser, accused).
    training_s : float, optional
        With the first phase: its forecast of its training.
    joining : tuple, optional
        With the last phase: (agent, request) of those who asked it to be admitted.
    admissions : tuple, optional
        With the last phase: (agent, round) of those who were admitted again.
    digest : str, optional
        With the last phase, where models agree: of what agents share.
    round_s : float, optional
        With the last phase: how long rounds without a fault take, as the agent has seen.
    sums : Mapping, optional
        With the last phase: what its evaluation added up; None is what was not finite.
    """

    kind: ClassVar[str] = "phase done"
    phase: int
    gone: tuple[int, ...]
    accusations: tuple[tuple[int, int, int], ...]
    training_s: float | None = None
    joining: tuple[tuple[int, int], ...] | None = None
    admissions: tuple[tuple[int, int], ...] | None = None
    digest: str | None = None
    round_s: float | None = None
    sums: Mapping[str, float | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone(Mail):
    """Somebody was given up: all accusations that the sender knows."""

    kind: ClassVar[str] = "gone"
    accusations: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(Mail):
    """The sender waits for a peer, and for so many seconds more before it gives up."""

    kind: ClassVar[str] = "waiting"
    awaited: int
    for_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequest(Mail):
    """The sender asks to take part again; `request` tells it from its earlier ones."""

    kind: ClassVar[str] = "join"
    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission(Mail):
    """The receiver takes part again: from which round on, who is gone, and the current model.

    `round_s` is how long rounds without a fault take, as the sender has seen.
    """

    kind: ClassVar[str] = "admitted"
    next_round: int
    gone: tuple[int, ...]
    admissions: tuple[tuple[int, int], ...]
    tensors: Tensors
    round_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit(Mail):
    """The sender has committed a round: without whom, who is admitted with it, and the digest of the model.

    `ends_run` where the round has reached the run's target.
    """

    kind: ClassVar[str] = "committed"
    round: int
    gone: tuple[int, ...]
    joining: tuple[tuple[int, int], ...]
    digest: str | None = None
    ends_run: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRequest(Mail):
    """The sender was absent in a round, and asks as what it is committed."""

    kind: ClassVar[str] = "want commit"
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest(Mail):
    """The sender lacks the model of a round."""

    kind: ClassVar[str] = "want model"
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentModel(Mail):
    """The model that was asked for, or a later one."""

    kind: ClassVar[str] = "current model"
    tensors: Tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardDigests(Mail):
    """The digest of the shard that the sender got from each owner, in the attempt without `gone`."""

    kind: ClassVar[str] = "shards"
    gone: tuple[int, ...]
    owners: tuple[int, ...]
    digests: tuple[str, ...]


def mark_of(envelope: Envelope) -> Mark | None:
    """Return the mark that an envelope carries; or None. Raises PeerFaultError where it is no mark."""
    if envelope.mark is None:
        return None
    try:
        return Mark.of(envelope.mark, {}, f"mark on {envelope.where}")
    except RunError as error:
        raise PeerFaultError(envelope.sender, str(error)) from None
