"""A codec for tests: activations as whole numbers of one byte, rounded at random, with a scale a sample."""

import math

import numpy as np
import torch

from comdml_flwr.core.errors import RunError

LEVELS = 127


class Rounding:
    """int8 with stochastic rounding: the mean of many draws is the activation."""

    def encode(self, z, generator):
        """Return whole numbers and scales."""
        scale_N = z.flatten(1).abs().amax(1).clamp(min=1e-12)
        scaled = z / scale_N.view(-1, *[1] * (z.dim() - 1)) * LEVELS
        noise = torch.rand(z.shape, generator=generator)
        whole = (scaled + noise).floor().clamp(-LEVELS, LEVELS).to(torch.int8)
        return {"rounded": whole.contiguous().numpy(), "scale": scale_N.numpy()}

    def decode(self, arrays):
        """Return the rounded activations."""
        rounded, scale = arrays.get("rounded"), arrays.get("scale")
        if rounded is None or scale is None or rounded.dtype != np.int8 or scale.dtype != np.float32:
            raise RunError("rounded activations are not there")
        z = torch.from_numpy(rounded).float() / LEVELS
        return z * torch.from_numpy(scale).view(-1, *[1] * (z.dim() - 1))

    def bytes_per_sample(self, shape):
        """Return a byte for each number, and the scale."""
        return math.prod(shape) + 4
