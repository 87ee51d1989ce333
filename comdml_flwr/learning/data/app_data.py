"""Data that stay where they are: an app's own function gives each agent its samples.

`load_data(place) -> (training data, test data or None)` is called where the agent is, with its `Place`, and
nowhere else. What it gives may be

* a map-style `torch.utils.data.Dataset`, whose samples are (inputs, ..., target) or a dict;
* a `DataLoader`: its data set and its collate function are taken; the run says batches and order;
* a `datasets.Dataset` of Hugging Face, whose transform or format gives tensors;
* a tuple (inputs, targets) of tensors or arrays, or of tuples or dicts of them, in memory.

Where a sample is a dict, its target is called "label", "labels", "target", "targets" or "y".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.user_functions import check_function
from comdml_flwr.learning.data.contract import check_finite_tests
from comdml_flwr.learning.data.conversion import as_features, as_structure
from comdml_flwr.learning.data.item_samples import Collate, ItemSamples, MapStyle
from comdml_flwr.learning.data.source import AgentData, DataSource, Place, Samples, TensorSamples
from comdml_flwr.learning.structure import Nested, count_samples, flatten
from comdml_flwr.learning.task import Task

LoadData: TypeAlias = Callable[[Place], "tuple[object, object | None]"]
"""(place) -> (training data, test data or None)."""

LoadSharedTest: TypeAlias = Callable[[Place], object]
"""(place) -> test data that all agents have alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppData:
    """What an app says of its data.

    Parameters
    ----------
    load : Callable
        `load_data`: gives an agent its own.
    task : Task
        What is learned from them.
    load_shared_test : Callable, optional
        Gives test data that all agents have alike: agents without test data of their own each evaluate a
        share of them.
    """

    load: LoadData
    task: Task
    load_shared_test: LoadSharedTest | None = None

    def source(self, warn: Callable[[str], None]) -> DataSource:
        """Return the source of the agents' samples; `warn` is told what is no fault but should be known.

        It raises InputError where what `load` returns is no data, names the agent's place, and hands on what
        `load` itself raises.
        """
        return lambda place: self._read(place, warn)

    def _read(self, place: Place, warn: Callable[[str], None]) -> AgentData:
        where = f"data of partition {place.partition_id}"
        try:
            given = self.load(place)
        except Exception as error:
            error.add_note(f"loading the {where}")
            raise
        if not isinstance(given, tuple) or len(given) != 2:
            rule = "must be (training data, test data or None)"
            raise InputError(f"{where}: what the app's function returns", type(given).__name__, rule)
        train = as_samples(given[0], self.task, f"{where}: training data", warn)
        if not len(train):
            raise InputError(f"{where}: training data", "0 samples", "must be at least 1")
        tests, all_have_test = given[1], False
        if tests is None and self.load_shared_test is not None:
            tests, all_have_test = self.load_shared_test(place), True
        test = train.none()
        if tests is not None:
            test = as_samples(tests, self.task, f"{where}: test data", warn, are_tests=True)
        if len(test):
            check_form(test, form_of(*example_of(train)), f"{where}: a test sample", "as a training sample")
        return AgentData(train=train, test=test, all_have_test=all_have_test)


def own_data(
    load: LoadData | None, task: Task | None, load_shared_test: LoadSharedTest | None = None
) -> AppData | None:
    """Return what an app says of its data; None where it says nothing.

    Raises
    ------
    InputError
        Data and task are not given together, or data are no functions of a place.
    """
    if load is None and task is None and load_shared_test is None:
        return None
    if load is None:
        raise InputError("data", None, "must be given with a task: load_data(place) -> (training, test data)")
    if task is None:
        rule = "must be given with data: as Classification(num_classes=10), or Regression()"
        raise InputError("task", None, rule)
    if isinstance(task, type) or not hasattr(task, "check_targets"):
        rule = "must be a task: as Classification(num_classes=10), or Regression()"
        raise InputError("task", task.__name__ if isinstance(task, type) else task, rule)
    check_function(load, "data", "place")
    if load_shared_test is not None:
        check_function(load_shared_test, "shared_test", "place")
    return AppData(load=load, task=task, load_shared_test=load_shared_test)


def as_samples(
    given: object, task: Task, field: str, warn: Callable[[str], None], *, are_tests: bool = False
) -> Samples:
    """Return data that a user gives as samples; one of them is read.

    Parameters
    ----------
    given : object
        As the module says.
    task : Task
        Checks the targets.
    field : str
        Their name, for errors.
    warn : Callable[[str], None]
        Is told, in one line each, what is no fault but should be known.
    are_tests : bool
        Whether a model is judged by them: then NaN and infinity are refused.

    Raises
    ------
    InputError
        They are no data, in one line with the rule.
    """
    if isinstance(given, DataLoader):
        return _items(given.dataset, cast("Collate", given.collate_fn), task, field, are_tests)
    if isinstance(given, tuple):
        samples = _in_memory(given, task, field, warn)
        if are_tests:
            check_finite_tests(samples.part(0, len(samples))[0], field)
        return samples
    return _items(given, default_collate, task, field, are_tests)


def example_of(samples: Samples) -> tuple[Nested, Nested]:
    """Return two of an agent's samples with their targets, one of them twice if there is no other."""
    return samples.batch(torch.arange(2) % len(samples))


def check_form(samples: Samples, form: tuple[str, str], what: str, like: str) -> None:
    """Refuse samples of another type or shape than this, or with other targets; `like` says whose it is."""
    (found, found_target), (wanted, wanted_target) = form_of(*example_of(samples)), form
    if found != wanted:
        raise InputError(what, found, f"must be {wanted}, {like}")
    if found_target != wanted_target:
        raise InputError(f"{what}'s target", found_target, f"must be {wanted_target}, {like}'s")


def form_of(x: Nested, target: Nested) -> tuple[str, str]:
    """Return type and shape of a sample's tensors, and of its target's, as people read it."""
    return _form(x), _form(target)


def _form(nested: Nested) -> str:
    return ", ".join(
        f"{name} {str(part.dtype).removeprefix('torch.')} {tuple(part.shape[1:])}".strip()
        for name, part in flatten(nested).items()
    )


def _in_memory(given: tuple[object, ...], task: Task, field: str, warn: Callable[[str], None]) -> Samples:
    if len(given) != 2:
        raise InputError(field, f"a tuple of {len(given)}", "must be (inputs, targets)")
    x = as_features(given[0], f"{field}: inputs", warn)
    targets = task.check_targets(as_structure(given[1], f"{field}: targets"), f"{field}: targets")
    if count_samples(x) != count_samples(targets):
        rule = f"must be {count_samples(x)}, one for each sample"
        raise InputError(f"{field}: number of targets", count_samples(targets), rule)
    return TensorSamples(x, targets)


def _items(given: object, collate: Collate, task: Task, field: str, are_tests: bool) -> Samples:
    if isinstance(given, IterableDataset):
        rule = "must be map style, with a length: samples are drawn by their place"
        raise InputError(field, type(given).__name__, rule)
    if isinstance(given, Mapping):  # also the splits of a Hugging Face data set
        rule = f"must be one data set: of {', '.join(map(str, given))}, pick one"
        raise InputError(field, type(given).__name__, rule)
    if isinstance(given, Tensor | str) or not (hasattr(given, "__getitem__") and hasattr(given, "__len__")):
        rule = "must be a data set, a DataLoader, or (inputs, targets)"
        raise InputError(field, type(given).__name__, rule)
    samples = ItemSamples(cast("MapStyle", given), collate, task, field, are_tests=are_tests)
    if len(samples):
        example_of(samples)
    return samples
