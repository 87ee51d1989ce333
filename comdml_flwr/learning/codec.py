"""What happens to an activation between the slow and the fast side of a split model.

The law: what the fast side trains on is `decode(encode(z, generator))`, wherever it runs. A slow agent that
takes its upper layers back calls both itself, with the same generator, so that its bits are the helper's. A
codec is applied by the method and not by the wire: a carrier that keeps mail in memory sees the same bits.

Shape suffixes: N samples.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.messages import FLOAT_BYTES, Array
from comdml_flwr.core.settings.device import Precision
from comdml_flwr.learning.device import TYPES


class ActivationCodec(Protocol):
    """A way for activations to travel; equal ones give equal bits."""

    def __hash__(self) -> int:
        """Return a hash: what a model costs is remembered by its codec."""

    def encode(self, z: Tensor, generator: torch.Generator) -> dict[str, Array]:
        """Return a batch of activations (N, ...), float32, as arrays by name; no name begins with "labels".

        In another precision they may come in its type, and what is decoded may be of that type as well.
        The generator is the only source of randomness.
        """

    def decode(self, arrays: Mapping[str, Array]) -> Tensor:
        """Return the activations (N, ...), float32, of these arrays; RunError where they are none."""

    def bytes_per_sample(self, shape: tuple[int, ...]) -> int:
        """Return how many bytes `encode` gives for each sample of an activation of this shape."""


class Plain:
    """Activations travel as they are."""

    def encode(self, z: Tensor, generator: torch.Generator) -> dict[str, Array]:
        """Return the activations, without a copy where they are contiguous."""
        return {"activations": z.contiguous().numpy()}

    def decode(self, arrays: Mapping[str, Array]) -> Tensor:
        """Return the activations, without a copy."""
        z = arrays.get("activations")
        if z is None or z.dtype != np.float32:
            raise RunError("activations is no float32 array")
        return torch.from_numpy(z)

    def bytes_per_sample(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of so many floats."""
        return FLOAT_BYTES * math.prod(shape)


@dataclass(frozen=True, slots=True)
class Cast:
    """Activations travel in the 16 bits of a run's precision.

    NumPy and JSON have no bfloat16: its bits travel as an int16 array whose name is the type's.

    Parameters
    ----------
    precision : str
        "bfloat16" or "float16".

    Examples
    --------
    >>> arrays = Cast("bfloat16").encode(torch.tensor([[1.0, -2.0]]), torch.Generator())
    >>> arrays
    {'bfloat16': array([[ 16256, -16384]], dtype=int16)}
    >>> Cast("bfloat16").decode(arrays)
    tensor([[ 1., -2.]], dtype=torch.bfloat16)
    """

    precision: Precision

    def encode(self, z: Tensor, generator: torch.Generator) -> dict[str, Array]:
        """Return the bits of the activations, without a copy where they are contiguous and of this type."""
        return {self.precision: z.to(TYPES[self.precision]).contiguous().view(torch.int16).numpy()}

    def decode(self, arrays: Mapping[str, Array]) -> Tensor:
        """Return the activations in this type, without a copy."""
        bits = arrays.get(self.precision)
        if bits is None or bits.dtype != np.int16:
            raise RunError(f"{self.precision} is no int16 array")
        return torch.from_numpy(bits).view(TYPES[self.precision])

    def bytes_per_sample(self, shape: tuple[int, ...]) -> int:
        """Return two bytes a number."""
        return 2 * math.prod(shape)
