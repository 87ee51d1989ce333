"""What every data set keeps to before anything is trained, and the conversions whose meaning is plain.

Converted: arrays of NumPy, lists of numbers and tensors on a device become tensors in memory; floats of any
width become float32; uint8 and bool features become float32 as they are (0..255 is not scaled; `warn` says
so); labels that are whole numbers become int64, whatever type they have; a column of labels, (N, 1), becomes
(N,). Features of other whole numbers stay whole numbers, int64: a model that begins with an embedding reads
them. Everything else is refused with the field, the value and the rule: what is one label of ten (one-hot
rows or several labels a sample), where labels begin, and which dimension is the channels is not guessed.

A NaN or infinity among the training samples is told and not refused: it costs the agent that has the sample,
not the run. Among the test samples it would cost the metric, so it is refused.

Shape suffixes: N samples.
"""

import operator
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data.conversion import as_features, as_structure
from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.learning.structure import Nested, count_samples, flatten
from comdml_flwr.learning.task import Task


def check_data(dataset: object, name: str, *, num_agents: int, warn: Callable[[str], None]) -> Dataset:
    """Return a data set as training takes it.

    Parameters
    ----------
    dataset : object
        What a loader returned.
    name : str
        As in the run configuration.
    num_agents : int
        Who share the test samples.
    warn : Callable[[str], None]
        Is told, in one line each, what is no fault but should be known.

    Returns
    -------
    Dataset
        With float32 (or int64) features and int64 labels; the same object where nothing had to be converted.

    Raises
    ------
    InputError
        A field breaks a rule.
    """
    if not isinstance(dataset, Dataset):
        rule = "must be a comdml_flwr.learning.data.dataset.Dataset, returned by its loader"
        raise InputError(f"data set {name}", type(dataset).__name__, rule)
    classes = _num_classes(dataset, name)
    x_train = as_features(dataset.x_train_NCHW, f"data set {name}: x_train_NCHW", warn)
    x_test = as_features(dataset.x_test_NCHW, f"data set {name}: x_test_NCHW", warn)
    task = replace(dataset, num_classes=classes).any_task
    y_train = _targets(dataset.y_train_N, name, "train", count_samples(x_train), task)
    y_test = _targets(dataset.y_test_N, name, "test", count_samples(x_test), task)
    _check_same_kind(x_train, x_test, name)
    _check_natural_ids(dataset.natural_ids_N, name, count_samples(y_train))
    for x in flatten(x_train).values():
        _check_channels(x, name)
    _check_augment(dataset, name, x_train)
    _check_finite(x_train, x_test, name, warn)
    if count_samples(y_test) < num_agents:
        few = _samples(count_samples(y_test), "test")
        warn(f"data set {name}: {few} for {num_agents} agents: some evaluate nothing")
    kept = (
        dataset.x_train_NCHW,
        dataset.y_train_N,
        dataset.x_test_NCHW,
        dataset.y_test_N,
        dataset.num_classes,
    )
    if all(map(operator.is_, kept, (x_train, y_train, x_test, y_test, classes))):
        return dataset
    return replace(
        dataset,
        num_classes=classes,
        x_train_NCHW=x_train,
        y_train_N=y_train,
        x_test_NCHW=x_test,
        y_test_N=y_test,
    )


def _num_classes(dataset: Dataset, name: str) -> int:
    """Return the number of classes; of a data set with a task of its own, what it says."""
    classes: object = dataset.num_classes
    least = 2 if dataset.task is None else 0
    if isinstance(classes, bool) or not isinstance(classes, int | np.integer) or classes < least:
        raise InputError(f"data set {name}: num_classes", classes, "must be a whole number of at least 2")
    return int(classes)


def _targets(value: object, name: str, part: str, num_samples: int, task: Task) -> Nested:
    """Return the targets of the training or the test part, converted and checked: one for each sample."""
    x_field, y_field = f"data set {name}: x_{part}_NCHW", f"data set {name}: y_{part}_N"
    targets_N = task.check_targets(as_structure(value, y_field), y_field)
    num_targets = count_samples(targets_N)
    if num_samples != num_targets:
        kind = "training" if part == "train" else part
        raise InputError(x_field, _samples(num_samples, kind), f"must be as many as the {num_targets} labels")
    if not num_samples:
        raise InputError(x_field, "0 samples", "must have at least 1")
    return targets_N


def _check_natural_ids(natural_ids_N: object, name: str, num_samples: int) -> None:
    if natural_ids_N is None:
        return
    if not isinstance(natural_ids_N, Tensor) or natural_ids_N.dtype != torch.int64:
        kind = natural_ids_N.dtype if isinstance(natural_ids_N, Tensor) else type(natural_ids_N).__name__
        raise InputError(f"data set {name}: natural_ids_N", kind, "must be a tensor of int64")
    if natural_ids_N.shape != (num_samples,):
        rule = f"must be one id for each of the {num_samples} training samples"
        raise InputError(f"data set {name}: shape of natural_ids_N", tuple(natural_ids_N.shape), rule)


def _check_same_kind(x_train: Nested, x_test: Nested, name: str) -> None:
    """Refuse test samples of another shape or type than the training samples."""
    train, test = flatten(x_train), flatten(x_test)
    if train.keys() != test.keys():
        rule = f"must be of the tensors {sorted(train)}, as x_train_NCHW"
        raise InputError(f"data set {name}: x_test_NCHW", sorted(test), rule)
    for place, x in train.items():
        where, other = f"x_test_NCHW{place and f'.{place}'}", test[place]
        if x.shape[1:] != other.shape[1:]:
            rule = f"must be {tuple(x.shape[1:])}, the shape of a training sample"
            raise InputError(f"data set {name}: shape of a sample of {where}", tuple(other.shape[1:]), rule)
        if x.dtype != other.dtype:
            raise InputError(f"data set {name}: {where}", other.dtype, f"must be {x.dtype}, as x_train_NCHW")


def _check_channels(x_train: Tensor, name: str) -> None:
    """Refuse square images with their channels last, which would be taken for many narrow channels."""
    _, *shape = x_train.shape
    if len(shape) == 3 and shape[0] == shape[1] > 4 and shape[2] in (1, 3, 4):
        rule = (
            "must be (channels, height, width): permute(0, 3, 1, 2) of all images brings the channels first"
        )
        raise InputError(f"data set {name}: shape of a sample of x_train_NCHW", tuple(shape), rule)


def _check_augment(dataset: Dataset, name: str, x_train: Nested) -> None:
    is_images = isinstance(x_train, Tensor) and x_train.dim() == 4 and x_train.is_floating_point()
    if dataset.augment and not is_images:
        shapes = {place: tuple(x.shape[1:]) for place, x in flatten(x_train).items()}
        shape = shapes.get("", shapes)
        rule = f"must be False: it is for images, (channels, height, width), and a sample is {shape}"
        raise InputError(f"data set {name}: augment", dataset.augment, rule)


def _check_finite(x_train: Nested, x_test: Nested, name: str, warn: Callable[[str], None]) -> None:
    num_test, num_train = _num_not_finite(x_test), _num_not_finite(x_train)
    if num_test:
        raise _not_finite(f"data set {name}: x_test_NCHW", num_test)
    if num_train:
        broken = _samples(num_train, "training")
        warn(f"data set {name}: {broken} with NaN or infinity: who trains on them is left out of the average")


def check_finite_tests(x_test: Nested, field: str) -> None:
    """Refuse test samples with NaN or infinity, by which no model can be judged; the error names `field`."""
    if num := _num_not_finite(x_test):
        raise _not_finite(field, num)


def _not_finite(field: str, num: int) -> InputError:
    rule = f"must be finite in every test sample (it is not in {num}), or no metric could be told"
    return InputError(field, "NaN or infinity", rule)


def _num_not_finite(nested: Nested) -> int:
    """Count samples with NaN or infinity; both survive a sum, so that most data sets are read once only."""
    broken_N = torch.zeros(count_samples(nested), dtype=torch.bool)
    for x in flatten(nested).values():
        if x.is_floating_point() and not bool(torch.isfinite(x.sum())):
            parts = [~torch.isfinite(part).flatten(1).all(1) for part in torch.split(x, 4096)]
            broken_N |= torch.cat(parts)
    return int(broken_N.sum())


def _samples(count: int, kind: str = "") -> str:
    return f"{count} {kind} sample{'' if count == 1 else 's'}".replace("  ", " ")


def check_tests(tests: Iterable[tuple[int, bool]]) -> None:
    """Refuse test data of all agents by which no model could be judged, or not each sample once.

    Parameters
    ----------
    tests : Iterable[tuple[int, bool]]
        Of each agent: how many test samples it has, and whether these are the ones that several share out.

    Raises
    ------
    InputError
        Nobody has any, or the shared ones are not as many at one agent as at another.
    """
    found = tuple(tests)
    if not any(num for num, _ in found):
        raise InputError("test data", "0 samples at all agents", "must be at least 1 at one of them")
    sizes = sorted({num for num, is_shared in found if is_shared})
    if len(sizes) > 1:
        value = f"{sizes[0]} samples at one agent, {sizes[-1]} at another"
        raise InputError("shared test data", value, "must be the same at all agents: they share it out")
