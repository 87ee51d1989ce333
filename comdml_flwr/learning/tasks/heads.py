"""Auxiliary heads: what a slow side, which has no more than the lower layers, learns by.

    pool       mean over all places, then one linear layer; activations (D, ...), as of convolutions
    conv       a 3 x 3 convolution before that; activations (D, H, W)
    mean       mean over all positions, then one linear layer; activations (..., D), as of transformers
    first      the first position alone (the class token), then one linear layer; activations (L, D)
    position   a layer norm and one linear layer at each position, not pooled; activations (..., D)

What a transformer hands from block to block is a sum that nothing has normalised. Its own last layer has a
norm in front, and a head at each position that had none would learn so much worse that the model did, too.

Weights are drawn from the generator alone: uniform within 1 / sqrt(fan-in), as PyTorch's own layers.

Shape suffixes: N samples, D features, L positions, K outputs.
"""

from dataclasses import is_dataclass, replace
from typing import Literal, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.models.resnet import GlobalAveragePool

HeadKind: TypeAlias = Literal["pool", "conv", "mean", "first"]
"""Kinds of heads that give one output for each sample."""
_DIMS = {"pool": range(1, 9), "conv": range(3, 4), "mean": range(1, 9), "first": range(2, 3)}


class MeanOfPositions(nn.Module):
    """The mean over all positions: (N, ..., D) -> (N, D)."""

    def forward(self, z: Tensor) -> Tensor:
        """Return the mean."""
        return z if z.dim() == 2 else z.flatten(1, -2).mean(1)


class FirstPosition(nn.Module):
    """The first position, a class token: (N, L, D) -> (N, D)."""

    def forward(self, z: Tensor) -> Tensor:
        """Return it."""
        return z[:, 0]


TaskT = TypeVar("TaskT")


def with_head(task: TaskT, kind: str) -> TaskT:
    """Return a task with this kind of head in place of its own; "auto" is its own.

    Raises
    ------
    InputError
        Its heads are of no kind: they give more than one output for each sample.
    """
    if kind == "auto":
        return task
    if is_dataclass(task) and not isinstance(task, type) and hasattr(task, "head"):
        return replace(task, head=kind)
    raise InputError("aux-head", kind, f"must be auto: {type(task).__name__} has heads of its own")


def head_for_samples(
    kind: HeadKind, activation_shape: tuple[int, ...], num_outputs: int, generator: torch.Generator
) -> nn.Sequential:
    """Build a head that gives K outputs for each sample, (N, K).

    Parameters
    ----------
    kind : HeadKind
        Which one.
    activation_shape : tuple[int, ...]
        Shape of the slow side's output for one sample.
    num_outputs : int
        K.
    generator : torch.Generator
        The only source of randomness.

    Raises
    ------
    InputError
        There is no such head over an activation of this shape.
    """
    if len(activation_shape) not in _DIMS[kind]:
        needed = {"conv": "(D, H, W)", "first": "(L, D)"}.get(kind, "at least (D,)")
        raise InputError(
            f"activation shape of the auxiliary head {kind!r}", activation_shape, f"must be {needed}"
        )
    if min(activation_shape) < 1:
        raise InputError("activation shape", activation_shape, "must be at least 1 everywhere")
    channels, features = activation_shape[0], activation_shape[-1]
    with torch.device("meta"):
        head = {
            "pool": lambda: nn.Sequential(GlobalAveragePool(), nn.Linear(channels, num_outputs)),
            "conv": lambda: nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.ReLU(),
                GlobalAveragePool(),
                nn.Linear(channels, num_outputs),
            ),
            "mean": lambda: nn.Sequential(MeanOfPositions(), nn.Linear(features, num_outputs)),
            "first": lambda: nn.Sequential(FirstPosition(), nn.Linear(features, num_outputs)),
        }[kind]()
    return with_weights(head, generator)


def head_for_positions(
    activation_shape: tuple[int, ...], num_outputs: int, generator: torch.Generator
) -> nn.Sequential:
    """Build a head that gives K outputs at each position: (N, ..., D) -> (N, ..., K).

    It normalises the D features, unless there is one: of that, nothing would be left.
    """
    if len(activation_shape) < 2:
        rule = "must be (positions, features): the model may pool no earlier than after its last cut"
        raise InputError("activation shape", activation_shape, rule)
    num_features = activation_shape[-1]
    with torch.device("meta"):
        norm = [nn.LayerNorm(num_features)] if num_features > 1 else []
        head = nn.Sequential(*norm, nn.Linear(num_features, num_outputs))
    return with_weights(head, generator)


def head_for_pixels(
    activation_shape: tuple[int, ...], num_outputs: int, size: tuple[int, ...], generator: torch.Generator
) -> nn.Sequential:
    """Build a head that gives K outputs for each pixel of an image: (N, D, h, w) -> (N, K, *size)."""
    if len(activation_shape) != 3:
        raise InputError("activation shape", activation_shape, "must be (channels, height, width)")
    with torch.device("meta"):
        head = nn.Sequential(
            nn.Conv2d(activation_shape[0], num_outputs, 1),
            nn.Upsample(size=size, mode="bilinear", align_corners=False),
        )
    return with_weights(head, generator)


def with_weights(head: nn.Sequential, generator: torch.Generator) -> nn.Sequential:
    """Give linear layers, convolutions and norms on "meta" memory and initial values; return the head."""
    head.to_empty(device="cpu")
    for layer in head.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = layer.weight[0].numel() ** -0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        elif isinstance(layer, nn.LayerNorm):
            layer.reset_parameters()  # ones and zeros: nothing is drawn
    return head
