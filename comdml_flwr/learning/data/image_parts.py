"""From the pixels and labels of two parts, training and test, to a data set.

An image has three channels, or one where every image of both parts is grey. Pixels are scaled to 0..1 and
standardised with the mean and deviation, per channel, of the training part; whole numbers are summed, so all
machines have the same ones. Images are not augmented: whether a mirrored one is still of its class is not
known.

Shape suffixes: N samples, H height, W width, C channels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data.cifar import standardise
from comdml_flwr.learning.data.dataset import Dataset

_PIECE = 1024  # images whose values are counted at once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Images with their labels.

    Parameters
    ----------
    pixels_NHWC : NDArray[np.uint8]
        Three channels.
    labels_N : NDArray[np.int64]
        0..num_classes - 1.
    natural_ids_N : NDArray[np.int64], optional
        Whose each image is.
    """

    pixels_NHWC: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    natural_ids_N: NDArray[np.int64] | None = None

    def rows(self, rows_N: NDArray[np.int64]) -> "Part":
        """Return the images in these rows."""
        ids_N = None if self.natural_ids_N is None else self.natural_ids_N[rows_N]
        return Part(pixels_NHWC=self.pixels_NHWC[rows_N], labels_N=self.labels_N[rows_N], natural_ids_N=ids_N)


def image_dataset(name: str, train: Part, test: Part, num_classes: int) -> Dataset:
    """Return the data set of two parts.

    Raises
    ------
    InputError
        Test images are of another size than training images.
    """
    if train.pixels_NHWC.shape[1:] != test.pixels_NHWC.shape[1:]:
        (height, width, _), (wanted, wide, _) = test.pixels_NHWC.shape[1:], train.pixels_NHWC.shape[1:]
        sizes = f"{width} x {height} pixels, and a training image {wide} x {wanted}"
        rule = f"is {sizes}; image-size brings all to one"
        raise InputError(f"data set {name}", "a test image", rule)
    pixels = [train.pixels_NHWC, test.pixels_NHWC]
    if all(map(_is_grey, pixels)):
        pixels = [pixels_NHWC[..., :1] for pixels_NHWC in pixels]
    means, stds = _moments(pixels[0])
    x_train_NCHW, x_test_NCHW = (standardise(pixels_NHWC, means, stds) for pixels_NHWC in pixels)
    ids_N = train.natural_ids_N
    return Dataset(
        name=name,
        x_train_NCHW=x_train_NCHW,
        y_train_N=torch.from_numpy(train.labels_N),
        x_test_NCHW=x_test_NCHW,
        y_test_N=torch.from_numpy(test.labels_N),
        num_classes=num_classes,
        augment=False,
        natural_ids_N=None if ids_N is None else torch.from_numpy(ids_N),
    )


def check_test_share(name: str, test_share: float) -> None:
    """Refuse a data set that has no test part, unless a share of its training part is to be one."""
    if not test_share:
        rule = "has no test part; test-share = 0.2 holds out a fifth of the training samples"
        raise InputError("dataset", name, rule)


def hold_out(part: Part, test_share: float) -> tuple[Part, Part]:
    """Return what is trained on and what is tested on, the same in every run.

    The share is of each label, or where it is known whose each sample is, of each person's samples; each
    keeps at least one for training.

    Parameters
    ----------
    part : Part
        All samples.
    test_share : float
        Above 0, below 1.

    Raises
    ------
    InputError
        Not one sample is held out.
    """
    generator, held = np.random.default_rng(0), np.zeros(len(part.labels_N), bool)
    groups_N = part.labels_N if part.natural_ids_N is None else part.natural_ids_N
    for group in np.unique(groups_N):
        rows_N = generator.permutation(np.flatnonzero(groups_N == group))
        held[rows_N[: min(round(test_share * len(rows_N)), len(rows_N) - 1)]] = True
    if not held.any():
        rule = f"holds out none of the {len(held)} training samples"
        raise InputError("test-share", test_share, rule)
    return part.rows(np.flatnonzero(~held)), part.rows(np.flatnonzero(held))


def _is_grey(pixels_NHWC: NDArray[np.uint8]) -> bool:
    red, green, blue = (pixels_NHWC[..., channel] for channel in range(3))
    return bool(np.array_equal(red[0], green[0])) and np.array_equal(red, green) and np.array_equal(red, blue)


def _moments(pixels_NHWC: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    num_channels = pixels_NHWC.shape[3]
    counts_CV = np.zeros((num_channels, 256), np.int64)
    for start in range(0, len(pixels_NHWC), _PIECE):
        piece = pixels_NHWC[start : start + _PIECE]
        counts_CV += [np.bincount(piece[..., c].ravel(), minlength=256) for c in range(num_channels)]
    values_V, num = np.arange(256), int(counts_CV[0].sum())
    means = [int(count_V @ values_V) / num for count_V in counts_CV]
    squares = [int(count_V @ values_V**2) / num for count_V in counts_CV]
    stds = [max(square - mean**2, 0.0) ** 0.5 for mean, square in zip(means, squares, strict=True)]
    return [mean / 255 for mean in means], [std / 255 or 1.0 for std in stds]
