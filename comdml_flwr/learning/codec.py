"""What happens to an activation between the slow and the fast side of a split model.

The law: what the fast side trains on is `decode(encode(z, generator))`, wherever it runs. A slow agent that
takes its upper layers back calls both itself, with the same generator, so that its bits are the helper's. A
codec is applied by the method and not by the wire: a carrier that keeps mail in memory sees the same bits.

Shape suffixes: N samples.
"""

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.messages import FLOAT_BYTES, Array


class ActivationCodec(Protocol):
    """A way for activations to travel."""

    def encode(self, z: Tensor, generator: torch.Generator) -> dict[str, Array]:
        """Return a batch of activations (N, ...), float32, as arrays by name; no name begins with "labels".

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
