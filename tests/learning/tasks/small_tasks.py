"""A tiny data set and a chain of stages for each task."""

import torch
from torch import nn

from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.learning.task import Classification
from comdml_flwr.learning.tasks.language_model import LanguageModel
from comdml_flwr.learning.tasks.multi_label import MultiLabel
from comdml_flwr.learning.tasks.own_task import OwnTask
from comdml_flwr.learning.tasks.regression import Regression
from comdml_flwr.learning.tasks.segmentation import Segmentation

NUM_TRAIN, NUM_TEST, NUM_TOKENS = 96, 32, 7


def numbers(*shape):
    return torch.randn(NUM_TRAIN + NUM_TEST, *shape, generator=torch.Generator().manual_seed(1))


def dataset(x, y, task):
    """Return the first samples for training and the last for tests."""

    def part(value, rows):
        return {name: t[rows] for name, t in value.items()} if isinstance(value, dict) else value[rows]

    train, test = slice(NUM_TRAIN), slice(NUM_TRAIN, None)
    return Dataset(
        name="tiny",
        x_train_NCHW=part(x, train),
        y_train_N=part(y, train),
        x_test_NCHW=part(x, test),
        y_test_N=part(y, test),
        task=task,
    )


def absolute_error(output, target):
    """Return the sums of a task of one's own."""
    return {"error": (output[:, 0] - target["y"]).abs().sum()}


OWN = OwnTask(
    loss=lambda output, target: ((output[:, 0] - target["y"]) ** 2).mean(),
    sums=absolute_error,
    sum_names=["error"],
    combine=lambda sums: {"mae": sums["error"] / sums["num_evaluated"]},
    metric="mae",
    better="lower",
    num_outputs=1,
)


def table(task):
    x = numbers(5)
    y = torch.stack([x[:, 0] - x[:, 1], x[:, 2] * 2], 1)
    return dataset(x, {"y": y[:, 0]} if task is OWN else y, task)


def labels(task):
    x = numbers(5)
    return dataset(x, (x[:, :3] > 0).int(), task)


def images(task):
    x = numbers(1, 8, 8)
    y = (x[:, 0] > 0).long()
    y[:, 0, 0] = 255
    return dataset(x, y, task)


def sequences(task):
    """Tokens that count up, from a random one."""
    start = torch.arange(NUM_TRAIN + NUM_TEST)[:, None]
    ids = (start + torch.arange(6)) % NUM_TOKENS
    return dataset(ids, ids, task)


def two_inputs(task):
    x = numbers(5)
    return dataset({"left": x[:, :2], "right": x[:, 2:]}, (x[:, 0] > x[:, 3]).long(), task)


class Joined(nn.Module):
    """A stage with two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 8)

    def forward(self, left, right):
        return self.linear(torch.cat([left, right], 1))


def dense(shape, num_outputs, generator):
    return nn.Sequential(
        nn.Sequential(nn.Linear(5, 8), nn.ReLU()),
        nn.Sequential(nn.Linear(8, 8), nn.ReLU()),
        nn.Linear(8, num_outputs),
    )


def joined(shape, num_outputs, generator):
    assert shape == ()
    return nn.Sequential(Joined(), nn.Sequential(nn.ReLU(), nn.Linear(8, 8)), nn.Linear(8, num_outputs))


def convolutions(shape, num_outputs, generator):
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(shape[0], 4, 3, stride=2, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, num_outputs, 1), nn.Upsample(scale_factor=2)),
    )


def per_position(shape, num_outputs, generator):
    return nn.Sequential(
        nn.Embedding(num_outputs, 8), nn.Sequential(nn.Linear(8, 8), nn.ReLU()), nn.Linear(8, num_outputs)
    )


TASKS = {
    "regression": (Regression(num_outputs=2), table, dense),
    "own": (OWN, table, dense),
    "multi-label": (MultiLabel(num_labels=3), labels, dense),
    "segmentation": (Segmentation(num_classes=2, ignore_index=255), images, convolutions),
    "language model": (LanguageModel(num_tokens=NUM_TOKENS), sequences, per_position),
    "two inputs": (Classification(num_classes=2), two_inputs, joined),
}
"""Task, data and model, by name."""
