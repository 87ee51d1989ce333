"""Data sets as tensors, their partition among agents, and the order and augmentation of batches.

Real data only: scikit-learn's handwritten digits (E. Alpaydin, C. Kaynak, UCI, doi 10.24432/C50P49),
which need no download, and CIFAR-10 and CIFAR-100 (A. Krizhevsky, "Learning Multiple Layers of Features
from Tiny Images", 2009) in their published files; cinic.py adds CINIC-10. Partitions are those of
flwr_datasets, which Flower users know. Everything random takes a generator or a seed; the global state is
neither read nor advanced.

Shape suffixes: N samples, C channels, H height, W width.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.learning.data.published_files import cifar_lack

# Per channel, of the training images scaled to 0..1.
CIFAR_MEANS = {10: (0.4914, 0.4822, 0.4465), 100: (0.5071, 0.4865, 0.4409)}
CIFAR_STDS = {10: (0.2470, 0.2435, 0.2616), 100: (0.2673, 0.2564, 0.2762)}


def load_cifar(folder: Path, num_classes: int, download: bool = False) -> Dataset:
    """Load CIFAR-10 or CIFAR-100 from its published Python files.

    Parameters
    ----------
    folder : Path
        The folder that holds `cifar-10-batches-py` or `cifar-100-python`.
    num_classes : int
        10 or 100 (the fine labels).
    download : bool
        Fetch the files into the folder if they are not there.

    Returns
    -------
    Dataset
        "cifar-10" or "cifar-100", augmented; the 50,000 training images take 614 MB as float32.

    Raises
    ------
    InputError
        If the files are not there, are not the published ones, or cannot be fetched.
    """
    if num_classes not in CIFAR_MEANS:
        raise InputError("number of classes of CIFAR", num_classes, "must be 10 or 100")
    x_train_NCHW, y_train_N = _read_cifar(folder, num_classes, True, download)
    x_test_NCHW, y_test_N = _read_cifar(folder, num_classes, False, download)
    return Dataset(
        name=f"cifar-{num_classes}",
        x_train_NCHW=x_train_NCHW,
        y_train_N=y_train_N,
        x_test_NCHW=x_test_NCHW,
        y_test_N=y_test_N,
        num_classes=num_classes,
        augment=True,
    )


def standardise(pixels_NHWC: NDArray[np.uint8], means: Sequence[float], stds: Sequence[float]) -> Tensor:
    """Return images as networks want them: float32, scaled to 0..1, minus the mean, over the deviation.

    Parameters
    ----------
    pixels_NHWC : NDArray[np.uint8]
        Shape (num_samples, height, width, channels).
    means, stds : Sequence[float]
        Per channel, of pixels scaled to 0..1.

    Returns
    -------
    Tensor
        Shape (num_samples, channels, height, width), contiguous: four bytes a pixel, once.
    """
    x_NCHW = torch.from_numpy(pixels_NHWC).permute(0, 3, 1, 2)
    x_NCHW = x_NCHW.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    means_C11, stds_C11 = torch.tensor(means)[:, None, None], torch.tensor(stds)[:, None, None]
    return x_NCHW.sub_(means_C11).div_(stds_C11)


def _read_cifar(folder: Path, num_classes: int, train: bool, download: bool) -> tuple[Tensor, Tensor]:
    from torchvision.datasets import CIFAR10, CIFAR100

    reader = CIFAR10 if num_classes == 10 else CIFAR100
    try:
        files = reader(str(folder), train=train, download=download)
    except (OSError, RuntimeError) as error:
        lack = cifar_lack(folder, num_classes)
        reason = lack.says if lack else str(error)
        cure = f" ({error})" if download else "; to fetch it, set `download = true`"
        raise InputError("data-dir", str(folder.absolute()), f"{reason}{cure}") from error
    x_NCHW = standardise(files.data, CIFAR_MEANS[num_classes], CIFAR_STDS[num_classes])
    return x_NCHW, torch.tensor(files.targets, dtype=torch.int64)
