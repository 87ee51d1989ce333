"""Writes tiny data sets of noise in the formats in which the real ones are published."""

import gzip
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from numpy.typing import NDArray
from PIL import Image

from comdml_flwr.learning.data.cinic import CLASSES


def write_pickle(folder: Path, name: str, content: dict[str, object]) -> list[str]:
    """Pickle as the published files are, and return [name, md5] as torchvision keeps it."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = pickle.dumps(content, protocol=2)
    (folder / name).write_bytes(raw)
    return [name, hashlib.md5(raw).hexdigest()]


def write_cifar(folder: Path, num_classes: int, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.uint8]:
    """Write CIFAR with four images a file; torchvision is told the checksums of these files.

    Returns the training pixels, (num, 3072): red plane, green plane, blue plane, rows from the top.
    """
    rng = np.random.default_rng(num_classes)
    reader = getattr(torchvision.datasets, f"CIFAR{num_classes}")
    base = folder / reader.base_folder
    pixels: list[NDArray[np.uint8]] = []
    sums: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    for which in sums:
        for name, _ in getattr(reader, which):
            data = rng.integers(0, 256, (4, 3072), dtype=np.uint8)
            labels = rng.integers(0, num_classes, 4).tolist()
            key = "labels" if num_classes == 10 else "fine_labels"
            sums[which].append(write_pickle(base, name, {"data": data, key: labels, "coarse_labels": labels}))
            pixels += [data] if which == "train_list" else []
        monkeypatch.setattr(reader, which, sums[which])
    names: dict[str, object] = {reader.meta["key"]: [f"class {k}" for k in range(num_classes)]}
    filename, md5 = write_pickle(base, reader.meta["filename"], names)
    monkeypatch.setattr(reader, "meta", {"filename": filename, "key": reader.meta["key"], "md5": md5})
    return np.concatenate(pixels)


def write_cinic(folder: Path, num_per_class: int = 2) -> dict[str, NDArray[np.uint8]]:
    """Write CINIC-10's three parts as PNG files, the later names first.

    Returns by part the pixels, (num, 32, 32, 3), in the order of the sorted names.
    """
    rng = np.random.default_rng(10)
    parts = {}
    for part in ("train", "valid", "test"):
        shape = (len(CLASSES), num_per_class, 32, 32, 3)
        pixels = parts[part] = rng.integers(0, 256, shape, dtype=np.uint8)
        for label in reversed(range(len(CLASSES))):
            base = folder / "CINIC-10" / part / CLASSES[label]
            base.mkdir(parents=True)
            for number in reversed(range(num_per_class)):
                Image.fromarray(pixels[label, number]).save(base / f"n02708555_{number}.png")
    return {part: pixels.reshape(-1, 32, 32, 3) for part, pixels in parts.items()}


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    """Return an array as an IDX file holds it."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(length.to_bytes(4, "big") for length in array.shape)
    return head + array.tobytes()


def write_fashion(folder: Path, ending: str = "") -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Write Fashion-MNIST with 20 training and 10 test images; return the training images and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, written = np.random.default_rng(28), []
    for part, num in (("train", 20), ("t10k", 10)):
        pixels, labels = rng.integers(0, 256, (num, 28, 28), np.uint8), np.arange(num, dtype=np.uint8) % 10
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            raw = idx_bytes(array)
            path = folder / f"{part}-{kind}-ubyte{ending}"
            path.write_bytes(gzip.compress(raw) if ending else raw)
            written.append(array)
    return written[0], written[1]


def write_folder(folder: Path) -> None:
    """Write a folder of images of ten classes: two training images and a test image of each."""
    rng = np.random.default_rng(5)
    for part, num in (("train", 2), ("test", 1)):
        for label in range(10):
            base = folder / part / f"class {label}"
            base.mkdir(parents=True)
            for number in range(num):
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(base / f"{number}.png")


def write_hub(folder: Path) -> str:
    """Write twenty training and ten test images as the package datasets does; return the data set's name."""
    from datasets import ClassLabel, Dataset, DatasetDict, Features
    from datasets import Image as ImageFeature

    rng, features = np.random.default_rng(6), Features({"image": ImageFeature(), "label": ClassLabel(10)})
    parts = {}
    for part, num in (("train", 20), ("test", 10)):
        images = [Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)) for _ in range(num)]
        columns = {"image": images, "label": [row % 10 for row in range(num)]}
        parts[part] = Dataset.from_dict(columns, features=features)
    DatasetDict(parts).save_to_disk(str(folder))
    return f"hf:{folder}"
