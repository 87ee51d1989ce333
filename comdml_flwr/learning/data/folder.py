"""A folder of images: `train/<class>/*` and `test/<class>/*`, in any format that Pillow reads.

Classes are the names of the folders in `train`, sorted, and images go in the order of their sorted names, so
that sample 17 is the same on every machine. What begins with a dot is ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.learning.data.image_parts import Part, check_test_share, hold_out, image_dataset
from comdml_flwr.learning.data.images import decode_images
from comdml_flwr.learning.data.pixel_cache import cached_pixels, listing_digest

NAME = "folder"
LITTER = ("Thumbs.db", "desktop.ini")  # which Windows puts beside images


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFolder:
    """The images of a folder, by part: their paths and labels.

    Parameters
    ----------
    root : Path
        Absolute.
    classes : Sequence[str]
        Names by label.
    parts : dict[str, Sequence[tuple[Path, int]]]
        "train", and "test" if there is one: (path, label) of each image.
    """

    root: Path
    classes: Sequence[str]
    parts: dict[str, Sequence[tuple[Path, int]]]


def list_images(folder: Path) -> ImageFolder:
    """Look which images there are; none is decoded.

    Raises
    ------
    InputError
        `train` is missing, has fewer than two classes or a class without images; `test` has a class that
        `train` lacks, or no image.
    """
    root = folder.absolute()
    classes = [path.name for path in _folders(root / "train", root)]
    if len(classes) < 2:
        found = f"one ({classes[0]})" if classes else "none"
        raise InputError(
            "data-dir", str(root), f"must have a folder for each of two or more classes in train, not {found}"
        )
    train = _part(root / "train", classes)
    empty = sorted(set(range(len(classes))) - {label for _, label in train})
    if empty:
        raise InputError(
            "data-dir", str(root), f"must have an image of each class, and train/{classes[empty[0]]} has none"
        )
    if not (root / "test").exists():
        return ImageFolder(root=root, classes=classes, parts={"train": train})
    tested = [path.name for path in _folders(root / "test", root)]
    strange = sorted(set(tested) - set(classes))
    if strange:
        raise InputError("data-dir", str(root), f"has the class {strange[0]!r} in test, which train lacks")
    test = _part(root / "test", classes)
    if not test:
        raise InputError("data-dir", str(root), "must have an image in test, and has none")
    return ImageFolder(root=root, classes=classes, parts={"train": train, "test": test})


def load_folder(folder: Path, image_size: int = 0, test_share: float = 0.0) -> Dataset:
    """Load a folder of images.

    Parameters
    ----------
    folder : Path
        The folder that holds `train` and `test`. Decoded images are kept there, in `train.pixels.npz` and
        `test.pixels.npz`, as long as the image files do not change.
    image_size : int
        Side of the square that each is scaled and cropped to, in pixels. 0: they are of one size already.
    test_share : float
        Share of the training images that is tested on, if there is no `test`.

    Raises
    ------
    InputError
        The folder is not as it should be, or an image cannot be decoded or is of another size; it is named.
    """
    images = list_images(folder)
    if "test" not in images.parts:
        check_test_share(f"{NAME} {images.root}", test_share)
        train, test = hold_out(_read_part(images, "train", image_size), test_share)
    else:
        train, test = (_read_part(images, part, image_size) for part in ("train", "test"))
    return image_dataset(NAME, train, test, len(images.classes))


def _folders(part: Path, root: Path) -> list[Path]:
    try:
        return sorted(path for path in part.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        rule = f"must have {part.name}/CLASS/ with images, and {part.name} cannot be read ({error.strerror})"
        raise InputError("data-dir", str(root), rule) from error


def _part(part: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    return [
        (path, label)
        for label, name in enumerate(classes)
        if (part / name).is_dir()
        for path in sorted((part / name).iterdir())
        if _is_image(path)
    ]


def _is_image(path: Path) -> bool:
    if path.name.startswith(".") or path.name in LITTER:
        return False
    if not path.is_file():
        raise InputError("image", str(path), "must be a file: a class's folder holds images, and no folders")
    return True


def _read_part(images: ImageFolder, part: str, size: int) -> Part:
    paths = [path for path, _ in images.parts[part]]
    sources = ((str(path), path) for path in paths)
    pixels_NHWC = cached_pixels(
        images.root / f"{part}.pixels.npz",
        f"{listing_digest(images.root, paths)} {size}",
        lambda: decode_images(sources, len(paths), size, f"decoding {part}"),
    )
    return Part(
        pixels_NHWC=pixels_NHWC, labels_N=np.array([label for _, label in images.parts[part]], np.int64)
    )
