"""Batches of an epoch: their sizes, their order, and how images are augmented."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from comdml_flwr.core.errors import InputError

if TYPE_CHECKING:
    pass


CROP_PADDING = 4  # pixels, as He et al., "Deep Residual Learning", section 4.2


def epoch_sizes(num_samples: int, batch_size: int, smallest: int = 1) -> list[int]:
    """Return the sizes of an epoch's batches; a last one with fewer than `smallest` joins the one before.

    Examples
    --------
    >>> epoch_sizes(9, 4), epoch_sizes(9, 4, smallest=2)
    ([4, 4, 1], [4, 5])
    """
    num_full, rest = divmod(num_samples, batch_size)
    sizes = [batch_size] * num_full
    if num_full and 0 < rest < smallest:
        sizes[-1] += rest
        return sizes
    return [*sizes, rest] if rest else sizes


def batches(
    num_samples: int, batch_size: int, num_epochs: int, generator: torch.Generator, *, smallest: int = 1
) -> list[Tensor]:
    """Say which samples form which batch: a fresh shuffle per local epoch, the last batch may be smaller.

    Parameters
    ----------
    num_samples, batch_size, num_epochs : int
        Each at least 1.
    generator : torch.Generator
        Advanced by one permutation per epoch.
    smallest : int
        A last batch with fewer samples joins the one before.

    Returns
    -------
    list[Tensor]
        Indices 0..num_samples - 1, int64, one tensor per batch, epoch after epoch.
    """
    values = (("number of samples", num_samples), ("batch size", batch_size), ("local epochs", num_epochs))
    for what, value in values:
        if value < 1:
            raise InputError(what, value, "must be at least 1")
    orders = [torch.randperm(num_samples, generator=generator) for _ in range(num_epochs)]
    sizes = epoch_sizes(num_samples, batch_size, smallest)
    return [batch_N for order_N in orders for batch_N in torch.split(order_N, sizes)]


def augment(x_NCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Shift and mirror each image at random: a crop after padding by `CROP_PADDING`, a flip of about half.

    Parameters
    ----------
    x_NCHW : Tensor
        A batch of images; standardised, so that the padding (zeros) is the mean colour.
    generator : torch.Generator
        The only source of randomness.

    Returns
    -------
    Tensor
        A new batch of the same shape.
    """
    num, _, height, width = x_NCHW.shape
    top_N11, left_N11 = torch.randint(2 * CROP_PADDING + 1, (2, num, 1, 1), generator=generator)
    is_flipped_N11 = torch.randint(2, (num, 1, 1), generator=generator).bool()
    samples_N11, rows_H1 = torch.arange(num)[:, None, None], torch.arange(height)[:, None]
    columns_W = torch.arange(width)
    columns_N1W = left_N11 + torch.where(is_flipped_N11, columns_W.flip(0), columns_W)
    padded_NHWC = nn.functional.pad(x_NCHW, (CROP_PADDING,) * 4).permute(0, 2, 3, 1)
    return padded_NHWC[samples_N11, top_N11 + rows_H1, columns_N1W].permute(0, 3, 1, 2)
