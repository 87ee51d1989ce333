"""Fashion-MNIST from its published IDX files: ten kinds of clothes, 28 x 28 pixels, grey.

H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", arXiv 1708.07747. IDX is the format of MNIST (Y. LeCun, C. Cortes, C. Burges): two bytes of 0, a
byte for the type (8: bytes), one for the number of dimensions, each dimension in four bytes (the first byte
counts most), then the values. Files are read plain or compressed with gzip.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data.cifar import standardise
from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.learning.data.published_files import FASHION_FILES, fashion_files, fashion_lack

NUM_CLASSES, SIZE = 10, (28, 28)
MEANS, STDS = (0.2860,), (0.3530,)  # of the training images, scaled to 0..1
_BYTES = b"\0\0\x08"


def load_fashion(folder: Path, download: bool = False) -> Dataset:
    """Load Fashion-MNIST: 60,000 training images and 10,000 test images.

    Parameters
    ----------
    folder : Path
        The folder that holds the four files, by themselves or in `FashionMNIST/raw`. Where it does not,
        those of Debian's package `dataset-fashion-mnist` are taken.
    download : bool
        Let torchvision fetch them into the folder if they are nowhere.

    Returns
    -------
    Dataset
        "fashion-mnist", not augmented: around an image all is black, and a crop would make it grey.

    Raises
    ------
    InputError
        If a file is not there, is no IDX file of such images or labels, or cannot be fetched.
    """
    if download and fashion_files(folder) is None:
        _fetch(folder)
    paths = fashion_files(folder)
    if paths is None:
        lack = fashion_lack(folder)
        rule = f"{lack.says if lack else ''}; to fetch them, set `download = true`"
        raise InputError("data-dir", str(folder.absolute()), rule)
    x_train, y_train, x_test, y_test = (paths[name] for name in FASHION_FILES)
    x_train_NCHW, y_train_N = _read_part(x_train, y_train)
    x_test_NCHW, y_test_N = _read_part(x_test, y_test)
    return Dataset(
        name="fashion-mnist",
        x_train_NCHW=x_train_NCHW,
        y_train_N=y_train_N,
        x_test_NCHW=x_test_NCHW,
        y_test_N=y_test_N,
        num_classes=NUM_CLASSES,
        augment=False,
    )


def read_idx(path: Path, num_dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of bytes.

    Parameters
    ----------
    path : Path
        Compressed if its name ends with .gz.
    num_dimensions : int
        How many the array has.

    Raises
    ------
    InputError
        It cannot be read, has another header, or more or fewer values than its header says.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError("file", str(path), f"cannot be read ({error})") from error
    start = 4 + 4 * num_dimensions
    if len(raw) < start or raw[:4] != _BYTES + bytes([num_dimensions]):
        wanted = (_BYTES + bytes([num_dimensions])).hex()
        raise InputError("file", str(path), f"must begin with {wanted}, as IDX files do, not {raw[:4].hex()}")
    shape = tuple(int.from_bytes(raw[at : at + 4], "big") for at in range(4, start, 4))
    if len(raw) - start != math.prod(shape):
        found = f"{len(raw) - start:,}"
        rule = f"must hold {' x '.join(map(str, shape))} values, as its header says, not {found}"
        raise InputError("file", str(path), rule)
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _read_part(images: Path, labels: Path) -> tuple[Tensor, Tensor]:
    pixels_NHW, labels_N = read_idx(images, 3), read_idx(labels, 1)
    if pixels_NHW.shape[1:] != SIZE:
        height, width = pixels_NHW.shape[1:]
        raise InputError("file", str(images), f"must hold images of 28 x 28 pixels, not {width} x {height}")
    if len(pixels_NHW) != len(labels_N):
        rule = f"must hold as many images as {labels} has labels, {len(labels_N):,}, not {len(pixels_NHW):,}"
        raise InputError("file", str(images), rule)
    if not len(labels_N) or labels_N.max() >= NUM_CLASSES:
        found = int(labels_N.max()) if len(labels_N) else "none at all"
        raise InputError("file", str(labels), f"must hold labels from 0 to {NUM_CLASSES - 1}, not {found}")
    x_NCHW = standardise(pixels_NHW[..., None].copy(), MEANS, STDS)
    return x_NCHW, torch.from_numpy(labels_N.astype(np.int64))


def _fetch(folder: Path) -> None:
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        rule = f"Fashion-MNIST cannot be fetched into it ({error})"
        raise InputError("data-dir", str(folder.absolute()), rule) from error
