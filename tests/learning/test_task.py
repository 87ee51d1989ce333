"""What a task says of its samples, targets and outputs is what its loss and its batches are."""

import re
from pathlib import Path

import pytest
import torch

import comdml_flwr
from comdml_flwr.learning.task import Classification

TASK = Classification(input_shape=(3, 8, 8), num_classes=5, augmented=True)


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def test_a_sample_has_shape_and_type_and_no_values():
    batch = TASK.sample(7)
    assert (batch.device.type, batch.shape, batch.dtype) == ("meta", (7, 3, 8, 8), torch.float32)
    words = Classification(input_shape=(9,), num_classes=2, dtype=torch.int64)
    assert words.sample(1).nbytes == 9 * 8


def test_the_target_of_a_sample_is_as_large_as_it_says():
    assert torch.tensor([3]).nbytes == TASK.target_bytes()


def test_the_auxiliary_head_gives_what_the_loss_takes():
    output = TASK.aux_head((4, 2, 2), seeded())(torch.randn(6, 4, 2, 2, generator=seeded()))
    assert TASK.output_rule(tuple(output.shape), 6) == ""
    assert TASK.loss(output, torch.arange(6) % 5).shape == ()
    assert TASK.output_rule((6, 4), 6) == "must return (6, 5) for 6 samples: a logit for each class"


@pytest.mark.parametrize("augmented", [True, False])
def test_only_images_that_are_to_be_are_augmented(augmented):
    task, x = (
        Classification(input_shape=(3, 8, 8), num_classes=5, augmented=augmented),
        torch.randn(9, 3, 8, 8),
    )
    prepared = task.prepare(x, seeded())
    assert (prepared is x) == (not augmented)
    assert torch.equal(prepared, task.prepare(x, seeded()))


def test_labels_are_counted_and_no_sample_has_none():
    assert TASK.describe(torch.tensor([4, 0, 4])) == {"label_counts": [1, 0, 0, 0, 2]}
    assert TASK.describe(torch.empty(0, dtype=torch.int64)) == {"label_counts": []}


@pytest.mark.parametrize("word", ["cross_entropy", "head_for_samples", "bincount"])
def test_nobody_else_knows_what_is_learned(word):
    """The loss, the head, the metric and the labels: in the tasks, or where they have them from."""
    package = Path(comdml_flwr.__file__).parent
    beside = {"learning/data/image_parts.py"} if word == "bincount" else set()  # it counts pixel values
    users = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if path.parent != package / "learning" / "tasks" and re.search(rf"\b{word}\(", path.read_text())
    }
    assert users <= {"learning/task.py"} | beside
