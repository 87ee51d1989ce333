"""Samples that are read one by one when they are needed: a map-style data set of PyTorch or Hugging Face.

Transforms of the data set may draw at random. What they draw comes from a seed of the run: while samples are
read, the global generators of PyTorch, NumPy and Python are seeded, and put back afterwards.

Shape suffixes: N samples.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data.contract import check_finite_tests
from comdml_flwr.learning.data.conversion import as_features, as_structure
from comdml_flwr.learning.data.source import Samples
from comdml_flwr.learning.global_generator import global_generator
from comdml_flwr.learning.structure import Nested, count_samples
from comdml_flwr.learning.task import Task

Collate: TypeAlias = Callable[[list[object]], object]
"""(what a data set gives at some places) -> a batch."""

TARGET_NAMES = ("label", "labels", "target", "targets", "y")
"""What the target of a sample may be called where a sample is a dict."""


class MapStyle(Protocol):
    """A map-style data set: `torch.utils.data.Dataset` with a length, `datasets.Dataset`, a list."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, place: int) -> object:
        """Return the sample at a place: (inputs, ..., target), or a dict."""


class ItemSamples:
    """Samples of a map-style data set.

    Parameters
    ----------
    items : MapStyle
        The data set.
    collate : Callable
        Makes a batch of a list of samples, as a `DataLoader`'s `collate_fn` does.
    task : Task
        What they are for: it checks the targets.
    field : str
        Their name, as the user knows it, for errors.
    are_tests : bool
        Whether a model is judged by them: then NaN and infinity are refused.

    Raises
    ------
    InputError
        A label is none, where the data set has a table of them; and later, when samples are read that are
        none: with `field` and the rule. What the data set itself raises comes out as it is.
    """

    def __init__(
        self, items: MapStyle, collate: Collate, task: Task, field: str, *, are_tests: bool = False
    ) -> None:
        self._items, self._collate, self._task, self._field = items, collate, task, field
        self._are_tests = are_tests
        self._num, table = len(items), labels_of(items)
        self._targets = None if table is None else task.check_targets(torch.from_numpy(table), field)

    def __len__(self) -> int:
        return self._num

    def batch(self, places_N: Tensor, seed: int = 0) -> tuple[Nested, Nested]:
        """Read the samples at these places; what their transforms draw comes from `seed`."""
        return self._read(places_N.tolist(), seed)

    def part(self, start: int, stop: int) -> tuple[Nested, Nested]:
        """Read the samples [start, stop)."""
        return self._read(list(range(start, stop)), start)

    def all_targets(self) -> "Nested | None":
        """Return the labels, where the data set has a table of them (`targets` or `labels`, or a column)."""
        return self._targets

    def none(self) -> Samples:
        """Return none of these samples."""
        return ItemSamples(_Nothing(), self._collate, self._task, self._field)

    def _read(self, places: list[int], seed: int) -> tuple[Nested, Nested]:
        with _all_generators(seed):
            fetch = getattr(self._items, "__getitems__", None)  # many at once, as torch's DataLoader does
            items = fetch(places) if fetch else [self._items[place] for place in places]
            batch = self._collated(list(items), places)
        inputs, target = _parted(batch, self._field)
        x = as_features(inputs, self._field, lambda line: None)
        if self._are_tests:
            check_finite_tests(x, self._field)
        y = self._task.check_targets(as_structure(target, f"{self._field}: target"), f"{self._field}: target")
        for what, value in (("samples", x), ("targets", y)):
            if count_samples(value) != len(places):
                rule = f"must be {len(places)}: the collate function must keep each sample"
                raise InputError(f"{self._field}: {what} in a batch", count_samples(value), rule)
        return x, y

    def _collated(self, items: list[object], places: list[int]) -> object:
        try:
            return self._collate(items)
        except TypeError as error:
            if self._collate is not default_collate:
                raise
            rule = f"must be of tensors, arrays and numbers: {_how_to_make_tensors(self._items)}"
            raise InputError(f"{self._field}: a sample", str(error).rpartition("found ")[2], rule) from error
        except RuntimeError as error:
            first = _shapes(items[0])
            odd = next((n for n, item in enumerate(items) if _shapes(item) != first), None)
            if self._collate is not default_collate or odd is None:
                raise
            rule = f"must be {first}, as of sample {places[0]}: crop, pad or resize, or give a collate_fn"
            what = f"{self._field}: shapes of sample {places[odd]}"
            raise InputError(what, _shapes(items[odd]), rule) from error


def _shapes(item: object) -> str:
    """Return the shapes of a sample's parts, as people read it."""
    if isinstance(item, Mapping):
        return ", ".join(f"{name} {_shapes(part)}" for name, part in item.items())
    if isinstance(item, tuple | list):
        return ", ".join(map(_shapes, item))
    return str(tuple(np.shape(cast("Tensor", item))))


def _how_to_make_tensors(items: object) -> str:
    """Return what makes tensors of a data set's samples."""
    if hasattr(items, "set_format"):  # of Hugging Face
        return 'set_format("torch", columns=[...]) or set_transform(...) of the data set makes them'
    return "let a transform of the data set make them"


class _Nothing:
    """A data set without samples."""

    def __len__(self) -> int:
        return 0

    def __getitem__(self, place: int) -> object:
        raise IndexError(place)


def labels_of(items: object) -> "np.ndarray[tuple[int], np.dtype[np.int64]] | None":
    """Return the labels of a data set without reading its samples, int64 (N,); None where it has no table."""
    base, rows = getattr(items, "dataset", None), getattr(items, "indices", None)  # a Subset
    if base is not None and rows is not None:
        whole = labels_of(base)
        return None if whole is None else whole[np.asarray(rows, dtype=np.int64)]
    names = [name for name in TARGET_NAMES if name in (getattr(items, "column_names", None) or ())]
    if len(names) == 1:  # a table of Hugging Face's: its own format or transform has no say in a column
        table: object = items.with_format(None)[names[0]]  # type: ignore[attr-defined]
    else:
        in_memory = getattr(items, "tensors", None)  # a TensorDataset: the last of a sample is its target
        last = in_memory[-1] if isinstance(in_memory, tuple) and in_memory else None
        table = getattr(items, "targets", getattr(items, "labels", last))
    try:
        labels = np.asarray(
            table if isinstance(table, np.ndarray | Tensor) else list(cast("list[int]", table))
        )
    except (TypeError, ValueError):
        return None
    is_table = labels.ndim == 1 and labels.dtype.kind in "iu" and len(labels) == len(cast("MapStyle", items))
    return labels.astype(np.int64) if is_table else None


def _parted(batch: object, field: str) -> tuple[object, object]:
    """Part a batch in inputs and targets: the last of a tuple, or what a dict calls so."""
    if isinstance(batch, Mapping):
        names = [name for name in TARGET_NAMES if name in batch]
        if len(names) != 1:
            rule = f"must have one of {', '.join(TARGET_NAMES)} beside its inputs"
            raise InputError(f"{field}: a sample", sorted(map(str, batch)), rule)
        inputs = {name: _as_tuples(value) for name, value in batch.items() if name != names[0]}
        if not inputs:
            raise InputError(f"{field}: a sample", names, "must have inputs beside its target")
        (only, *others) = inputs.values()
        return (inputs if others else only), _as_tuples(batch[names[0]])
    if isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch) >= 2:
        *several, target = map(_as_tuples, batch)
        return (tuple(several) if len(several) > 1 else several[0]), target
    rule = "must be (inputs, target), or a dict with inputs and a target"
    raise InputError(f"{field}: a sample", type(batch).__name__, rule)


def _as_tuples(value: object) -> object:
    """Make tuples of the lists that PyTorch's collate function makes of tuples."""
    if isinstance(value, Mapping):
        return {key: _as_tuples(part) for key, part in value.items()}
    if isinstance(value, list | tuple) and value and not isinstance(value[0], int | float | str):
        return tuple(map(_as_tuples, value))
    return value


@contextmanager
def _all_generators(seed: int) -> Iterator[None]:
    """Seed the global generators of PyTorch, NumPy and Python for what runs inside, and put them back."""
    with global_generator(seed):
        numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
        np.random.seed(seed % (1 << 32))  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)
