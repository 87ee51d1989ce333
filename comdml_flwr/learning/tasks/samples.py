"""What every task knows of samples and targets: what the data say of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.typed_json import Json
from comdml_flwr.learning.structure import Nested, count_samples, flatten, unflatten

NOTHING_IGNORED = -100
"""PyTorch's own `ignore_index`, which is no class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfSamples:
    """The part of a task that follows from the data, which `for_samples` fills in.

    Parameters
    ----------
    input_shape : tuple[int, ...]
        Shape of one sample; () where a sample is several tensors.
    dtype : torch.dtype
        Of a sample; int64 where the model begins with an embedding.
    parts : tuple[tuple[str, tuple[int, ...], torch.dtype], ...]
        Name, shape and type of each, where a sample is several tensors.
    target_shape : tuple[int, ...]
        Shape of the target of one sample; () where it is one number, or several tensors.
    bytes_of_target : int
        What the target of one sample takes on the wire.
    """

    input_shape: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32
    parts: tuple[tuple[str, tuple[int, ...], torch.dtype], ...] = ()
    target_shape: tuple[int, ...] = ()
    bytes_of_target: int = torch.int64.itemsize

    def for_samples(self, x: Nested, targets: Nested) -> Self:
        """Return this task for samples and targets like these."""
        num = max(1, count_samples(targets))
        parts = [(name, tuple(part.shape[1:]), part.dtype) for name, part in flatten(x).items()]
        return replace(
            self,
            input_shape=tuple(x.shape[1:]) if isinstance(x, Tensor) else (),
            dtype=x.dtype if isinstance(x, Tensor) else torch.float32,
            parts=() if isinstance(x, Tensor) else tuple(parts),
            target_shape=tuple(targets.shape[1:]) if isinstance(targets, Tensor) else (),
            bytes_of_target=math.ceil(sum(part.nbytes for part in flatten(targets).values()) / num),
        )

    def sample(self, batch_size: int) -> Nested:
        """Return a batch of samples on "meta"."""
        parts = self.parts or (("", self.input_shape, self.dtype),)
        return unflatten(
            {
                name: torch.empty((batch_size, *shape), device="meta", dtype=dtype)
                for name, shape, dtype in parts
            }
        )

    def target_bytes(self) -> int:
        """Return the size of the target of one sample."""
        return self.bytes_of_target

    def prepare(self, x: Nested, generator: torch.Generator) -> Nested:
        """Return samples as they are."""
        return x

    def labels(self, targets: Nested) -> Tensor | None:
        """Return None: no sample has one class."""
        return None

    def describe(self, target: Nested) -> dict[str, Json]:
        """Return nothing of the targets."""
        return {}

    def described(self, kind: str, num_outputs: int) -> Mapping[str, str]:
        """Return the facts that a file of the trained model tells."""
        return {"task": kind, "input_shape": str(list(self.input_shape)), "num_outputs": str(num_outputs)}


def form_of(targets: Nested) -> str:
    """Return the shape of targets that are refused, or of what type they are."""
    return f"shape {tuple(targets.shape)}" if isinstance(targets, Tensor) else type(targets).__name__


def class_ids(targets: Tensor, num: int, ignore_index: int, field: str) -> Tensor:
    """Return class numbers 0..num - 1, or `ignore_index`, as int64.

    Raises
    ------
    InputError
        One of them is another number: it names `field`.
    """
    ids = targets.to(torch.int64)
    counted = ids[ids != ignore_index]
    if len(outside := counted[(counted < 0) | (counted >= num)]):
        raise InputError(field, int(outside[0]), f"must be from 0 to {num - 1}, or ignore_index")
    return ids


def rule_of_output(shape: tuple[int, ...], expected: tuple[int, ...], meaning: str) -> str:
    """Return that a model must return this shape, and what it means; empty where it does."""
    return "" if shape == expected else f"must return {expected}{meaning}"
