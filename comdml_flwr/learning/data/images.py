"""Image files of any kind to pixels: decoded, turned upright, in colour, and brought to one size."""

import struct
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.units import human_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

Source: TypeAlias = tuple[str, Path | bytes]
"""(what a message calls it, the file or its content)."""

SHOWN_FROM = 2_000  # images: a second or so; fewer are decoded without a progress bar
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, struct.error)


def decode_images(sources: Iterable[Source], num: int, size: int, about: str) -> NDArray[np.uint8]:
    """Decode images in their order; a terminal on standard error shows how many.

    Parameters
    ----------
    sources : Iterable[Source]
        The images.
    num : int
        How many there are, at least 1.
    size : int
        Side of the square that each is scaled and cropped to, in pixels. 0: they are of one size already.
    about : str
        Beside the progress bar.

    Returns
    -------
    NDArray[np.uint8]
        Shape (num, height, width, 3).

    Raises
    ------
    InputError
        An image cannot be decoded, or with `size` 0 is of another size than the first; it is named. Or
        memory does not hold them all.
    """
    pixels_NHWC = np.empty(0, np.uint8)
    first = ""
    for number, (name, source) in enumerate(_shown(sources, num, about)):
        pixels_HWC = _read_image(name, source, size)
        if not number:
            first, pixels_NHWC = name, _memory(num, pixels_HWC)
        if pixels_HWC.shape != pixels_NHWC.shape[1:]:
            rule = (
                f"{_size(pixels_HWC)}, and {first} is {_size(pixels_NHWC[0])}; image-size brings all to one"
            )
            raise InputError("image", name, f"is {rule}")
        pixels_NHWC[number] = pixels_HWC
    return pixels_NHWC


def _memory(num: int, first_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    try:
        return np.empty((num, *first_HWC.shape), np.uint8)
    except MemoryError as error:
        needed = human_bytes(num * first_HWC.nbytes)
        rule = f"are {needed}, more than memory holds; image-size makes them smaller"
        raise InputError("images", f"{num} of {_size(first_HWC)}", rule) from error


def _shown(sources: Iterable[Source], num: int, about: str) -> Iterable[Source]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    is_hidden = num < SHOWN_FROM or not console.is_terminal
    return track(sources, about, num, console=console, transient=True, disable=is_hidden)


def _read_image(name: str, source: Path | bytes, size: int) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode in ("I", "F"):
                raise InputError(
                    "image", name, f"has pixels of 32 bits (mode {image.mode}), of no known range"
                )
            image = _coloured(image)
            return np.asarray(_fit(image, size) if size else image)
    except InputError:
        raise
    except (*_BROKEN, Image.DecompressionBombError) as error:
        raise InputError("image", name, f"cannot be decoded ({error})") from error


def _coloured(image: "Image") -> "Image":
    """Return it in RGB: grey ones get three equal channels, and what is transparent its colour below."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P":
        image = image.convert("RGBA")
    return image.convert("RGB")


def _fit(image: "Image", size: int) -> "Image":
    """Scale the shorter side to `size` pixels and cut the middle of the longer one."""
    from PIL import Image

    shorter = min(image.size)
    left, top = (image.width - shorter) / 2, (image.height - shorter) / 2
    box = (left, top, left + shorter, top + shorter)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)


def _size(pixels_HWC: NDArray[np.uint8]) -> str:
    return f"{pixels_HWC.shape[1]} x {pixels_HWC.shape[0]} pixels"
