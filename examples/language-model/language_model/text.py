"""The text: Python's own standard library, which is on every machine that runs this."""

import random
import sysconfig
from pathlib import Path

import torch
from torch import Tensor

from comdml_flwr import Place
from language_model.model import LENGTH

NUM_CHARACTERS = 128  # ASCII; the few others count as the last of them
NUM_TRAIN, NUM_TEST = 320, 40  # windows of LENGTH characters for each node


def load_data(place: Place) -> tuple[object, object]:
    """Give a node windows of its own modules to train on, and others to test on."""
    modules = modules_of(place)
    text = torch.frombuffer(bytearray(b"\n".join(map(source_of, modules))), dtype=torch.uint8)
    windows = text[: len(text) // LENGTH * LENGTH].long().clamp(max=NUM_CHARACTERS - 1).view(-1, LENGTH)
    num_to_train_on = len(windows) * 9 // 10
    train, test = (
        draw(windows[:num_to_train_on], NUM_TRAIN, place),
        draw(windows[num_to_train_on:], NUM_TEST, place),
    )
    return (train, train), (test, test)


def modules_of(place: Place) -> list[Path]:
    """Return the files and packages of the standard library that this node alone reads."""
    library = Path(sysconfig.get_path("stdlib"))
    modules = [*library.glob("*.py"), *(init.parent for init in library.glob("*/__init__.py"))]
    modules.sort()
    random.Random(1).shuffle(modules)
    return modules[place.partition_id :: place.num_partitions]


def source_of(module: Path) -> bytes:
    """Return the source code of a file, or of all files of a package."""
    files = [module] if module.is_file() else sorted(module.rglob("*.py"))
    return b"\n".join(file.read_bytes() for file in files)


def draw(windows_NL: Tensor, num: int, place: Place) -> Tensor:
    """Return some of the windows, drawn with the node's number as the seed."""
    generator = torch.Generator().manual_seed(place.partition_id)
    return windows_NL[torch.randperm(len(windows_NL), generator=generator)[:num]]
