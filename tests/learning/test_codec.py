"""Activations that travel as they are are not copied; a codec's bytes are those that it says."""

import numpy as np
import pytest
import torch

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.messages import size_of
from comdml_flwr.core.wire import decode, encode
from comdml_flwr.learning.codec import Cast, Plain
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


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_cast_keeps_the_bits_of_its_own_type_on_the_wire_too(precision):
    dtype = getattr(torch, precision)
    special = torch.tensor([0.0, -0.0, float("inf"), float("nan"), 1e-7, 65504.0])
    z = torch.cat([special, torch.randn(58, generator=seeded())]).reshape(8, 8).to(dtype)
    arrays = Cast(precision).encode(z, seeded())
    blob = bytearray(encode(arrays, {}))
    for carried in (arrays, decode(blob)[0]):
        back = Cast(precision).decode(carried)
        assert back.dtype == dtype
        assert torch.equal(back.view(torch.int16), z.view(torch.int16))
    assert size_of(arrays) == 8 * Cast(precision).bytes_per_sample((8,)) == 2 * z.numel()


def test_a_cast_of_float32_rounds_and_is_copied_only_then():
    z = torch.randn(4, 3, generator=seeded())
    decoded = Cast("bfloat16").decode(Cast("bfloat16").encode(z, seeded()))
    assert torch.equal(decoded, z.to(torch.bfloat16))
    assert (
        Cast("bfloat16").decode(Cast("bfloat16").encode(decoded, seeded())).data_ptr() == decoded.data_ptr()
    )


@pytest.mark.parametrize(
    "arrays", [{}, {"bfloat16": np.zeros(3, np.float32)}, {"float16": np.zeros(3, np.int16)}]
)
def test_what_is_no_cast_is_refused(arrays):
    with pytest.raises(RunError, match="bfloat16 is no int16 array"):
        Cast("bfloat16").decode(arrays)
