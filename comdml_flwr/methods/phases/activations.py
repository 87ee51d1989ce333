"""Activations of a split model as mail, and as the side that receives them trains on them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.reading import distrust, wrong_samples
from comdml_flwr.core.errors import InputError, PeerFaultError, RunError, short_repr
from comdml_flwr.core.mail import Mail, Tensors
from comdml_flwr.core.messages import Array, Envelope
from comdml_flwr.learning.data.batches import epoch_sizes
from comdml_flwr.learning.structure import Nested, flatten, map_tensors, unflatten

ALIGNMENT_BYTES = 64  # of torch's own memory on a CPU
TARGETS = "labels"
"""Array of a batch's targets; of several tensors, what begins the names of their arrays: "labels.1.mask"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activations(Mail):
    """A batch of activations.

    Parameters
    ----------
    num_samples : int
        Of the sender in this round.
    batches_left : int
        How many of the sender's batches come after this one.
    digest : str, optional
        Of the plan that the sender follows.
    tensors : Mapping[str, ndarray]
        What the codec makes of the activations, and the targets, as the task has them, shape (B, ...) each.
    """

    kind: ClassVar[str] = "activations"
    num_samples: int
    batches_left: int
    tensors: Tensors
    digest: str | None = None


def pack_activations(agent: Agent, z: Tensor, targets_N: Nested, purpose: str) -> dict[str, Array]:
    """Return the arrays of mail with a batch of an agent's activations and their targets.

    `purpose` names the batch among those of the agent in this round: it seeds what the codec draws.
    """
    targets = {_array_name(name): x.numpy() for name, x in flatten(targets_N).items()}
    return {**_encode(agent, z, purpose), **targets}


def read_activations(
    agent: Agent, envelope: Envelope, cut: int, before: int | None
) -> tuple[Activations, Tensor, Nested] | None:
    """Return what mail holds, with activations and targets as the agent that received it trains on them.

    None where that cannot be a batch of the sender's, which is noted.

    Parameters
    ----------
    agent : Agent
        That received it.
    envelope : Envelope
        The mail.
    cut : int
        Where the model is cut.
    before : int, optional
        How many batches were left after the one before; None: it is the first one.
    """
    try:
        sent, z, targets = unpack_activations(agent, envelope)
        if wrong := _wrong_batch(agent, envelope.sender, sent, before) or _wrong_samples(
            agent, sent, z, targets, cut
        ):
            raise PeerFaultError(envelope.sender, f"{envelope.where}: {wrong}")
    except PeerFaultError as fault:
        distrust(agent, fault)
        return None
    return sent, z, targets


def unpack_activations(agent: Agent, envelope: Envelope) -> tuple[Activations, Tensor, Nested]:
    """Return what mail holds, with activations and targets. Raises PeerFaultError where it holds none."""
    sent = Activations.unpack(envelope)
    arrays, targets = {}, {}
    for name, array in sent.tensors.items():
        head, _, rest = name.partition(".")
        if head == TARGETS:
            targets[rest] = torch.from_numpy(array)
        else:
            arrays[name] = array
    try:
        if not targets:
            raise RunError(f"{TARGETS} are not there")
        return sent, aligned(agent.setup.codec.decode(arrays)), map_tensors(aligned, unflatten(targets))
    except (RunError, TypeError) as error:  # torch has no such type
        raise PeerFaultError(envelope.sender, f"{envelope.where}: {error}") from None


def _wrong_batch(agent: Agent, sender: int, sent: Activations, before: int | None) -> str:
    """Tell what is wrong with a batch's place among those of its sender, which come one after the other."""
    if wrong := wrong_samples(agent, sender, sent.num_samples):
        return wrong
    expected = (len(_sizes(agent, sent.num_samples)) if before is None else before) - 1
    if sent.batches_left == expected:
        return ""
    return f"batches_left is {short_repr(sent.batches_left)}, not {expected}"


def _wrong_samples(agent: Agent, sent: Activations, z: Tensor, targets: Nested, cut: int) -> str:
    """Tell what is wrong with a batch's samples: as many as are in it, each of the shape at the cut."""
    setup = agent.setup
    size = _sizes(agent, sent.num_samples)[-1 - sent.batches_left]
    shape = setup.activation_shapes[cut]
    if z.dim() != 1 + len(shape) or len(z) != size:
        return f"activations have the shape {tuple(z.shape)}, not ({size}, {str(shape)[1:-1]})"
    try:
        checked = setup.task.check_targets(targets, TARGETS)
    except InputError as error:
        return str(error)
    pairs = zip(flatten(targets).items(), flatten(checked).items(), strict=False)
    if any(a[0] != b[0] or a[1].dtype != b[1].dtype or a[1].shape != b[1].shape for a, b in pairs):
        return f"{TARGETS} are not of the task's type"
    if any(not x.dim() or len(x) != size for x in flatten(checked).values()):
        return f"{TARGETS} are not of {size} samples"
    return ""


def _sizes(agent: Agent, num_samples: int) -> list[int]:
    """Return how many samples each batch of a round has."""
    config = agent.setup.config
    return (
        epoch_sizes(num_samples, config.batch_size, agent.setup.traits.smallest_batch) * config.local_epochs
    )


@contextmanager
def as_fault_of(envelope: Envelope) -> Iterator[None]:
    """Make it a fault of the sender where layers do not take a batch: of a shape that may vary."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise PeerFaultError(envelope.sender, f"{envelope.where}: {error}") from error


def as_received(agent: Agent, z: Tensor, purpose: str) -> Tensor:
    """Return an agent's own activations with the bits that another agent would train on."""
    return aligned(agent.setup.codec.decode(_encode(agent, z, purpose)))


def aligned(x: Tensor) -> Tensor:
    """Return a tensor whose memory begins where torch would have put it; the same one where it does.

    What lies in the middle of a message may not, and a product of matrices then gives other last bits.
    """
    return x if x.data_ptr() % ALIGNMENT_BYTES == 0 else x.clone()


def _encode(agent: Agent, z: Tensor, purpose: str) -> dict[str, Array]:
    return agent.setup.codec.encode(z, agent.generator(f"activations: {purpose}"))


def _array_name(name: str) -> str:
    return f"{TARGETS}.{name}" if name else TARGETS
