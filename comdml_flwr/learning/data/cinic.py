"""CINIC-10: CIFAR-10's ten classes with 4.5 times as many images, most of them from ImageNet.

L. N. Darlow, E. J. Crowley, A. Antoniou, A. J. Storkey, "CINIC-10 is not ImageNet or CIFAR-10", report
EDI-INF-ANC-1802, arXiv 1810.03505; the files: doi 10.7488/ds/2448. It is read from its published layout,
`CINIC-10/{train,valid,test}/<class>/*.png`, in the order of the sorted names, so that sample 17 is the same
image on every machine.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data.cifar import standardise
from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.learning.data.pixel_cache import cached_pixels, listing_digest
from comdml_flwr.learning.data.published_files import CINIC_CLASSES, CINIC_FOLDER, cinic_lack

BASE_FOLDER, CLASSES = CINIC_FOLDER, CINIC_CLASSES
SIZE = (32, 32)
# Per channel, scaled to 0..1: as published in the README of github.com/BayesWatch/cinic-10, "Details".
MEANS = (0.47889522, 0.47227842, 0.43047404)
STDS = (0.24205776, 0.23828046, 0.25874835)


def load_cinic(folder: Path) -> Dataset:
    """Load CINIC-10: 90,000 training images and 90,000 test images, 32 x 32 pixels, ten classes.

    The third part, `valid` (90,000 images for choosing hyperparameters), is left out: results are comparable
    with those published for "train", not with those for "train + valid".

    Parameters
    ----------
    folder : Path
        The folder that holds `CINIC-10`. Decoded images are kept in `CINIC-10/train.pixels.npz` and
        `test.pixels.npz`, 276 MB each, as long as the image files do not change.

    Returns
    -------
    Dataset
        "cinic-10", augmented; labels are those of CIFAR-10; each part takes 1.1 GB as float32.

    Raises
    ------
    InputError
        If a class of a part has no image, or a file is no image of this data set.
    """
    lack = cinic_lack(folder)
    if lack is not None and lack.is_fatal:
        rule = (
            f"{lack.says}; unpack CINIC-10.tar.gz of doi 10.7488/ds/2448 into the folder {BASE_FOLDER} there"
        )
        raise InputError("data-dir", str(folder.absolute()), rule)
    x_train_NCHW, y_train_N = _read_part(folder, "train")
    x_test_NCHW, y_test_N = _read_part(folder, "test")
    return Dataset(
        name="cinic-10",
        x_train_NCHW=x_train_NCHW,
        y_train_N=y_train_N,
        x_test_NCHW=x_test_NCHW,
        y_test_N=y_test_N,
        num_classes=len(CLASSES),
        augment=True,
    )


def _read_part(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    paths, labels = _list_images(folder, part)
    base = folder.absolute() / BASE_FOLDER
    pixels_NHWC = cached_pixels(
        base / f"{part}.pixels.npz", listing_digest(base, paths), lambda: _decode(paths)
    )
    return standardise(pixels_NHWC, MEANS, STDS), torch.tensor(labels, dtype=torch.int64)


def _list_images(folder: Path, part: str) -> tuple[list[Path], list[int]]:
    from torchvision.datasets.folder import make_dataset

    root, labels = folder.absolute() / BASE_FOLDER / part, {name: k for k, name in enumerate(CLASSES)}
    samples = make_dataset(str(root), labels, extensions=(".png",))
    return [Path(path) for path, _ in samples], [label for _, label in samples]


def _decode(paths: list[Path]) -> NDArray[np.uint8]:
    pixels_NHWC = np.empty((len(paths), *SIZE, 3), dtype=np.uint8)
    for number, path in enumerate(paths):
        pixels_NHWC[number] = _read_image(path)
    return pixels_NHWC


def _read_image(path: Path) -> NDArray[np.uint8]:
    """Decode a PNG file; a gray one (ImageNet has some) gets three equal channels, as the authors do."""
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.size == SIZE and image.mode in ("RGB", "L"):
                return np.asarray(image.convert("RGB"))
            found = f"{image.width} x {image.height} pixels, mode {image.mode}"
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError("image", str(path), f"cannot be decoded ({error})") from error
    raise InputError("image", str(path), f"must be a PNG of 32 x 32 pixels, RGB or gray, not {found}")
