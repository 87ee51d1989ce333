"""Activations that travel as they are are not copied; a codec's bytes are those that it says."""

import numpy as np
import pytest
import torch

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.messages import size_of
from comdml_flwr.learning.codec import Plain
from tests.rounding import Rounding


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def test_plain_activations_are_not_copied():
    z = torch.randn(5, 4, 3, generator=seeded())
    arrays = Plain().encode(z, seeded())
    assert np.shares_memory(arrays["activations"], z.numpy())
    assert Plain().decode(arrays).data_ptr() == z.data_ptr()


@pytest.mark.parametrize("arrays", [{}, {"activations": np.zeros(3)}, {"others": np.zeros(3, np.float32)}])
def test_what_are_no_activations_is_refused(arrays):
    with pytest.raises(RunError, match="activations is no float32 array"):
        Plain().decode(arrays)


@pytest.mark.parametrize("codec", [Plain(), Rounding()], ids=["plain", "rounding"])
@pytest.mark.parametrize("shape", [(7,), (4, 3), (2, 3, 5)])
def test_a_codec_sends_as_many_bytes_as_it_says_and_draws_from_its_generator_alone(codec, shape):
    z = torch.randn(6, *shape, generator=seeded()).transpose(0, -1).contiguous().transpose(0, -1)
    arrays, again = codec.encode(z, seeded(2)), codec.encode(z, seeded(2))
    assert size_of(arrays) == 6 * codec.bytes_per_sample(shape)
    assert torch.equal(codec.decode(arrays), codec.decode(again))
    assert torch.allclose(codec.decode(arrays), z, atol=float(z.abs().max()) / 100)
    assert codec.decode(arrays).dtype == torch.float32
