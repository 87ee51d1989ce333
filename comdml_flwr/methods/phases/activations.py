"""Activations of a split model as mail, and as the side that receives them trains on them."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.errors import RunError
from comdml_flwr.core.mail import Mail, Tensors
from comdml_flwr.core.messages import Array, Envelope
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


def unpack_activations(agent: Agent, mail: Envelope) -> tuple[Activations, Tensor, Nested]:
    """Return what mail holds, with activations and targets as the agent that received it trains on them.

    Raises
    ------
    RunError
        The mail holds none.
    """
    sent = Activations.unpack(mail)
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
    except RunError as error:
        raise RunError(f"{mail.where}: {error}") from None


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
