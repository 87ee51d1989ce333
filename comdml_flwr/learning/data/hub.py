"""Image data sets of the Hugging Face hub, or in folders that the package datasets wrote.

`hf:OWNER/NAME` (and `hf:OWNER/NAME:SUBSET`) is fetched once and then read from the cache of this machine;
code of a data set is not run. `hf:./folder` is what `save_to_disk` wrote, or the folder of
`flwr-datasets create` with its `partition_0`, `partition_1`, ...; then the partition is whose a sample is.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.learning.data.hub_columns import (
    check_same_columns,
    classes_of,
    image_column,
    label_column,
    natural_ids_of,
)
from comdml_flwr.learning.data.image_parts import Part, check_test_share, hold_out, image_dataset
from comdml_flwr.learning.data.images import Source, decode_images
from comdml_flwr.learning.data.pixel_cache import cached_pixels, listing_digest

if TYPE_CHECKING:
    from datasets import Dataset as Table

PREFIX = "hf:"
TEST_PARTS = ("test", "validation", "valid", "val")  # the first of these that there is
REACH_S = 10.0  # in which the hub answers, or it is taken for unreachable
_PARTITION = re.compile(r"partition_(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings:
    """What is read of a data set, and how.

    Parameters
    ----------
    label_column : str
        Empty: the only column of class labels.
    partition_by : str
        Column that says whose a sample is; empty: nobody asks, or the partition of `flwr-datasets create`.
    image_size : int
        As in `decode_images`.
    test_share : float
        As in `hold_out`, if there is no test part.
    """

    label_column: str = ""
    partition_by: str = ""
    image_size: int = 0
    test_share: float = 0.0


def load_hub(name: str, settings: HubSettings) -> Dataset:
    """Load a data set of the hub or of a folder.

    Parameters
    ----------
    name : str
        With its prefix: `hf:OWNER/NAME`, `hf:OWNER/NAME:SUBSET` or `hf:PATH`.
    settings : HubSettings
        What is read of it, and how.

    Raises
    ------
    InputError
        It is not there, cannot be reached, or is none of labelled images; a column, a label or an image is
        not as it should be.
    """
    tables = _tables(name)
    train = tables.get("train") or (next(iter(tables.values())) if len(tables) == 1 else None)
    if train is None:
        raise InputError("dataset", name, f"has no part train; its parts are {', '.join(tables)}")
    test = next((tables[part] for part in TEST_PARTS if part in tables and tables[part] is not train), None)
    if test is None:
        check_test_share(name, settings.test_share)
    image, label = image_column(name, train), label_column(name, train, settings.label_column)
    if test is not None:
        check_same_columns(name, train, test, (image, label))
    classes = classes_of(name, train, label)
    read = [
        _read_part(name, part, table, (image, label), classes, settings)
        for part, table in (("train", train), ("test", test))
        if table is not None
    ]
    whole, *tested = read
    kept, held = (whole, tested[0]) if tested else hold_out(whole, settings.test_share)
    return image_dataset(name, kept, held, len(classes))


def folder_of(name: str) -> Path | None:
    """Return the folder that a data set's name means; None: it is one of the hub."""
    text = name.removeprefix(PREFIX)
    place = Path(text).expanduser()
    is_path = text.startswith((".", "/", "~")) or (bool(text) and place.is_dir())
    return place.absolute() if is_path else None


def _tables(name: str) -> "Mapping[str, Table]":
    from datasets import DatasetDict

    folder = folder_of(name)
    try:
        found = _of_folder(name, folder) if folder else _of_hub(name)
    except InputError:
        raise
    except Exception as error:  # of any kind: what is there may be anything
        reason = " ".join(str(error).split())
        raise InputError("dataset", name, f"cannot be loaded ({type(error).__name__}: {reason})") from error
    tables = dict(found) if isinstance(found, DatasetDict) else {"train": found}
    for part, table in tables.items():
        if not len(table):
            raise InputError("dataset", name, f"must have samples in each part, and {part} has none")
    return tables


def _of_folder(name: str, folder: Path) -> "Table":
    from datasets import Value, concatenate_datasets, load_from_disk

    if not folder.is_dir():
        raise InputError("dataset", name, f"must be a folder: there is no {folder}")
    found = {int(match[1]): path for path in folder.iterdir() if (match := _PARTITION.fullmatch(path.name))}
    if not found:
        return load_from_disk(str(folder))
    tables = []
    for number in sorted(found):
        table = load_from_disk(str(found[number]))
        tables.append(
            table.add_column("partition", [number] * len(table)).cast_column("partition", Value("int64"))
        )
    return concatenate_datasets(tables)


def _of_hub(name: str) -> "Table":
    from datasets import load_dataset
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    repository, _, subset = name.removeprefix(PREFIX).partition(":")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() not in ("1", "ON", "YES", "TRUE"):
        try:
            HfApi().dataset_info(repository, timeout=REACH_S)
        except RepositoryNotFoundError as error:
            rule = "is no data set of the Hugging Face hub that you may read; a folder begins with ./ or /"
            raise InputError("dataset", name, rule) from error
        except ValueError as error:
            raise InputError("dataset", name, f"is no name of a data set ({error})") from error
        except Exception as error:  # of whichever package carries the request
            rule = (
                f"needs the network, and the Hugging Face hub cannot be reached ({error});"
                " HF_HUB_OFFLINE=1 reads what this machine has fetched before"
            )
            raise InputError("dataset", name, rule) from error
    return load_dataset(repository, subset or None)


def _read_part(
    name: str,
    part: str,
    table: "Table",
    columns: tuple[str, str],
    classes: Mapping[object, int],
    settings: HubSettings,
) -> Part:
    image, label = columns
    labels = [classes.get(value) for value in table[label][:]]
    if None in labels:
        row = labels.index(None)
        rule = f"must be one of the {len(classes)} classes of the training part (row {row} of {part})"
        raise InputError(f"{name}: {label}", table[row : row + 1][label][0], rule)
    ids_N = natural_ids_of(name, table, settings.partition_by) if part == "train" else None
    pixels_NHWC = _pixels(name, part, table, image, settings.image_size)
    return Part(pixels_NHWC=pixels_NHWC, labels_N=np.array(labels, np.int64), natural_ids_N=ids_N)


def _pixels(name: str, part: str, table: "Table", column: str, size: int) -> NDArray[np.uint8]:
    from datasets import Image

    raw = table.select_columns([column]).cast_column(column, Image(decode=False))

    def source(row: int, image: Mapping[str, object] | None) -> Source:
        called = f"row {row} of {part} of {name}"
        content, path = (image or {}).get("bytes"), (image or {}).get("path")
        if not isinstance(content, bytes) and not isinstance(path, str):
            raise InputError("image", called, "must be there: this row has none")
        return called, content if isinstance(content, bytes) else Path(str(path))

    def decode() -> NDArray[np.uint8]:
        sources = (source(row, cells[column]) for row, cells in enumerate(raw))
        return decode_images(sources, len(raw), size, f"decoding {part}")

    files = sorted({Path(file["filename"]) for file in table.cache_files})
    if not files:
        return decode()
    root = Path(os.path.commonpath([file.parent for file in files]))
    return cached_pixels(
        root / f"{part}.pixels.npz", f"{listing_digest(root, files)} {column} {size}", decode
    )
