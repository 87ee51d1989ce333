"""What an app's own function may give an agent, and what is refused in one line."""

import random

import numpy as np
import pytest
import torch
from datasets import Dataset as HuggingFaceDataset
from datasets import DatasetDict
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.user_code import describe_error
from comdml_flwr.learning.data.app_data import AppData, as_samples, check_form, example_of, form_of, own_data
from comdml_flwr.learning.data.source import Place
from comdml_flwr.learning.task import Classification
from tests.learning.tasks.small_tasks import OWN

TASK = Classification(num_classes=3)
X, Y = np.arange(12, dtype=np.float32).reshape(6, 2), np.array([0, 1, 2, 0, 1, 2])
PLACE = Place(partition_id=4, num_partitions=9)


class Items(Dataset):
    """Samples that are made when they are asked for."""

    def __init__(self, make=lambda place: (torch.from_numpy(X[place]), int(Y[place])), num=6):
        self.make, self.num = make, num

    def __len__(self):
        return self.num

    def __getitem__(self, place):
        return self.make(place)


class Labelled(Items):
    targets = Y.tolist()


class Endless(IterableDataset):
    def __iter__(self):
        yield from ()


def loader():
    return DataLoader(
        Items(), batch_size=64, shuffle=True, collate_fn=lambda items: tuple(map(torch.stack, zip(*[
            (x * 2, torch.tensor(y)) for x, y in items
        ], strict=True)))
    )  # fmt: skip


def hugging_face():
    return HuggingFaceDataset.from_dict({"features": X.tolist(), "label": Y.tolist()}).with_format("torch")


def samples_of(given):
    return as_samples(given, TASK, "training data", lambda line: None)


@pytest.mark.parametrize(
    ("given", "factor"),
    [
        ((X, Y), 1),
        ((torch.from_numpy(X), Y.tolist()), 1),
        (Items(), 1),
        (TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), 1),
        (Items(lambda place: {"image": torch.from_numpy(X[place]), "label": int(Y[place])}), 1),
        (loader(), 2),
        (hugging_face(), 1),
        ([(x, y) for x, y in zip(X, Y, strict=True)], 1),
    ],
    ids=["arrays", "tensor and list", "map style", "tensors", "dicts", "loader", "hugging face", "list"],
)
def test_each_kind_gives_the_same_samples(given, factor):
    samples = samples_of(given)
    x, y = samples.batch(torch.tensor([5, 0]))
    assert torch.equal(x, torch.from_numpy(X[[5, 0]]) * factor)
    assert torch.equal(y, torch.tensor([2, 0]))
    x, y = samples.part(1, 3)
    assert torch.equal(x, torch.from_numpy(X[1:3]) * factor)
    assert torch.equal(y, torch.tensor([1, 2]))
    assert (len(samples), len(samples.none())) == (6, 0)


def test_several_inputs_keep_their_structure():
    by_name = Items(lambda place: {"ids": torch.tensor([place]), "mask": torch.tensor([1]), "label": 1})
    x, _ = samples_of(by_name).batch(torch.tensor([3]))
    assert {name: part.tolist() for name, part in x.items()} == {"ids": [[3]], "mask": [[1]]}
    in_a_row = Items(lambda place: (torch.tensor([1.0]), torch.tensor([place]), 1))
    x, _ = samples_of(in_a_row).batch(torch.tensor([3]))
    assert [part.tolist() for part in x] == [[[1.0]], [[3]]]


@pytest.mark.parametrize(
    ("given", "counts"),
    [
        (Labelled(), [2, 2, 2]),
        (Subset(Labelled(), [0, 3, 4]), [2, 1, 0]),
        (hugging_face(), [2, 2, 2]),
        ((X, Y), [2, 2, 2]),
        (Items(), None),
    ],
    ids=["targets", "part of them", "column", "in memory", "no table"],
)
def test_labels_are_known_where_no_sample_must_be_read_for_them(given, counts):
    targets = samples_of(given).all_targets()
    assert (targets if targets is None else TASK.describe(targets)["label_counts"]) == counts


def test_what_a_transform_draws_comes_from_the_seed_alone():
    def noisy(place):
        return torch.rand(1) + random.random() + float(np.random.rand()), 0  # noqa: NPY002

    samples, before = samples_of(Items(noisy)), random.getstate()
    one, other, again = (samples.batch(torch.tensor([0]), seed)[0] for seed in (1, 2, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert random.getstate() == before


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (Endless(), "must be map style"),
        (DatasetDict(train=hugging_face(), test=hugging_face()), "of train, test, pick one"),
        (torch.from_numpy(X), "must be a data set, a DataLoader, or \\(inputs, targets\\)"),
        (7, "must be a data set"),
        ((X, Y, Y), "a tuple of 3"),
        ((X, Y[:4]), "training data: number of targets = 4: must be 6"),
        ((X, Y + 1), "training data: targets = 3: must be from 0 to 2"),
        (Items(lambda place: torch.zeros(2)), "must be \\(inputs, target\\)"),
        (Items(lambda place: {"image": torch.zeros(2)}), "must have one of label, labels"),
        (Items(lambda place: (object(), 0)), "let a transform of the data set make them"),
        (Items(lambda place: (torch.zeros(2), 7)), "training data: target = 7: must be from 0 to 2"),
        (TensorDataset(torch.from_numpy(X), torch.from_numpy(Y) + (torch.arange(6) == 5)), "= 3: must be"),
        (
            Items(lambda place: (torch.zeros(2 + place), 0)),
            "shapes of sample 1 = '\\(3,\\), \\(\\)': must be \\(2,\\), \\(\\), as of sample 0",
        ),
        (
            HuggingFaceDataset.from_dict({"pixels": [[[1.0], [2.0]]] * 2, "label": [0, 1]}).with_transform(
                lambda rows: {"pixels": [object()] * len(rows["label"]), "label": rows["label"]}
            ),
            'set_format\\("torch"',
        ),
        (Subset(Labelled(), [2]), None),
    ],
    ids=[
        "endless", "splits", "no targets", "number", "three", "lengths", "labels", "lone tensor", "no label",
        "object", "label of an item", "label of a tensor data set", "ragged", "no tensors in a table",
        "one sample is enough",
    ],
)  # fmt: skip
def test_what_is_no_data_is_refused_in_one_line(given, told):
    if told is None:
        assert len(samples_of(given)) == 1
        return
    with pytest.raises(InputError, match=told) as refused:
        samples_of(given)
    assert "\n" not in str(refused.value)


BROKEN = torch.tensor([[0.0, 1.0], [float("nan"), 2.0]])


@pytest.mark.parametrize(
    "given", [(BROKEN, [0, 1]), TensorDataset(BROKEN, torch.tensor([0, 1]))], ids=["in memory", "items"]
)
def test_no_model_is_judged_by_samples_that_are_not_finite(given):
    load = lambda place: ((X, Y), given)  # noqa: E731
    with pytest.raises(InputError, match=r"partition 4: test data = 'NaN or infinity': must be finite"):
        AppData(load=load, task=TASK).source(print)(PLACE).test.part(0, 2)
    trained = AppData(load=lambda place: (given, (X, Y)), task=TASK).source(print)(PLACE)
    assert len(trained.train) == 2, "it costs the share of the agent that has it"


def test_targets_of_another_shape_are_told_of():
    train, other = (as_samples((X, torch.zeros(6, n)), OWN, "data", print) for n in (1, 3))
    with pytest.raises(InputError, match=r"a sample's target = 'float32 \(3,\)': must be float32 \(1,\)"):
        check_form(other, form_of(*example_of(train)), "a sample", "as elsewhere")


def test_an_error_of_the_apps_function_names_the_partition():
    def load(place):
        raise OSError("no such disk")

    with pytest.raises(OSError, match="no such disk") as raised:
        AppData(load=load, task=TASK).source(print)(PLACE)
    told = describe_error(raised.value)
    assert told.endswith("OSError: no such disk (loading the data of partition 4)")
    assert "test_app_data.py" in told


def app(train, test=None, **other):
    return AppData(load=lambda place: (train, test), task=TASK, **other).source(lambda line: None)


def test_own_test_data_go_before_those_that_all_have():
    own = app((X, Y), (X[:1], Y[:1]), load_shared_test=lambda place: (X, Y))(PLACE)
    assert (len(own.test), own.all_have_test) == (1, False)
    shared = app((X, Y), load_shared_test=lambda place: (X, Y))(PLACE)
    assert (len(shared.test), shared.all_have_test) == (6, True)
    none = app((X, Y))(PLACE)
    assert (len(none.test), none.all_have_test) == (0, False)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (app((X[:0], Y[:0])), "data of partition 4: training data = '0 samples': must be at least 1"),
        (app((X, Y), (X[:, :1], Y)), "data of partition 4: a test sample = "),
        (AppData(load=lambda place: X, task=TASK).source(print), "must be \\(training data, test data or"),
    ],
    ids=["no sample", "another shape", "no pair"],
)
def test_an_agent_without_proper_data_is_named(source, told):
    with pytest.raises(InputError, match=told):
        source(PLACE)


def test_data_and_task_come_together():
    assert own_data(None, None) is None
    with pytest.raises(InputError, match=r"^task = None: must be given with data"):
        own_data(lambda place: ((X, Y), None), None)
    with pytest.raises(InputError, match=r"^data = None: must be given with a task"):
        own_data(None, TASK)
    with pytest.raises(InputError, match=r"^task = 'Classification': must be a task"):
        own_data(lambda place: ((X, Y), None), Classification)
    with pytest.raises(InputError, match=r"^shared_test = 'x\.csv': must be a function \(place\)"):
        own_data(lambda place: ((X, Y), None), TASK, "x.csv")
