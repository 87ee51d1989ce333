"""A sketch tells tensors apart, but for what rounding does to floats."""

import pytest
import torch

from comdml_flwr.learning.models.sketch import sketch


def images(seed=1, count=500):
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def with_one_other(x_NCHW):
    other = x_NCHW.clone()
    other[7] = images(2)[7]
    return other


def with_two_exchanged(x_NCHW):
    other = x_NCHW.clone()
    other[[3, 300]] = other[[300, 3]]
    return other


@pytest.mark.parametrize(
    "change",
    [
        with_one_other,
        with_two_exchanged,
        lambda x_NCHW: x_NCHW[:-1],
        lambda x_NCHW: x_NCHW.flip(0),
        lambda x_NCHW: x_NCHW.mT,
        torch.neg,
        lambda x_NCHW: x_NCHW.double(),
    ],
    ids=["a sample", "two exchanged", "one fewer", "another order", "on their side", "the sign", "the type"],
)
def test_other_floats_have_another_sketch(change):
    x_NCHW = images()
    assert not sketch(x_NCHW).is_like(sketch(change(x_NCHW)))


@pytest.mark.parametrize("size", [0, 1, 40_000])
def test_rounding_makes_no_other_sketch(size):
    """As of a mean that another processor sums in another order."""
    x_N = images(count=60).reshape(-1)[:size]
    assert sketch(x_N).is_like(sketch((x_N * 3.0) / 3.0 + 1e-7))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_whole_numbers_are_compared_to_the_bit(dtype):
    one, other = torch.zeros(2000, dtype=dtype), torch.zeros(2000, dtype=dtype)
    assert sketch(one).is_like(sketch(other))
    other[1999] = 1
    assert not sketch(one).is_like(sketch(other))


def test_what_is_not_finite_is_like_nothing():
    x_N = torch.tensor([1.0, torch.nan])
    assert not sketch(x_N).is_like(sketch(x_N))
    assert not sketch(x_N).is_like(sketch(torch.ones(2)))


def test_a_view_has_the_sketch_of_its_copy():
    x_NCHW = images()
    assert sketch(x_NCHW.mT).is_like(sketch(x_NCHW.mT.clone()))
