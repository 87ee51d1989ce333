"""What is learned: the only place that knows the shape of a sample and what "right" means.

A model stays a chain of stages. The task says what goes in, what the loss is, how a slow side learns alone,
and how well a model does.

Shape suffixes: N samples, K classes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from comdml_flwr.core.bounds import check_whole
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.typed_json import Json
from comdml_flwr.learning.data.batches import augment
from comdml_flwr.learning.metrics import CLASSIFICATION_METRICS, Metrics
from comdml_flwr.learning.structure import Nested, one_tensor
from comdml_flwr.learning.tasks.heads import HeadKind, head_for_samples
from comdml_flwr.learning.tasks.samples import OfSamples, rule_of_output


class Task(Protocol):
    """What samples, targets, loss and metrics are."""

    @property
    def metrics(self) -> Metrics:
        """What is measured of a model."""

    @property
    def facts(self) -> Mapping[str, str]:
        """What a file of the trained model tells of the task, by name."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample; () where a sample is several tensors."""

    @property
    def num_outputs(self) -> int:
        """How many numbers a model gives for each sample (or place): of classes, K."""

    def for_samples(self, x: Nested, targets: Nested) -> Self:
        """Return this task for samples and targets like these: a task says nothing of them before."""

    def sample(self, batch_size: int) -> Nested:
        """Return a batch as the model takes it, with shape and type but without values: on "meta"."""

    def target_bytes(self) -> int:
        """Return how many bytes the target of one sample takes on the wire."""

    def check_targets(self, targets: Nested, field: str) -> Nested:
        """Return targets as training takes them, converted where their meaning is plain.

        Raises
        ------
        InputError
            They are none: it names `field`.
        """

    def labels(self, targets: Nested) -> Tensor | None:
        """Return the class of each sample (N,), int64, by which data may be skewed; None: there are none."""

    def output_rule(self, shape: tuple[int, ...], num_samples: int) -> str:
        """Return what a model must return for `num_samples` samples; empty where it may return this shape."""

    def prepare(self, x: Nested, generator: torch.Generator) -> Nested:
        """Return a batch of training samples as they are trained on, augmented for instance."""

    def loss(self, output: Tensor, target: Nested) -> Tensor:
        """Return the mean loss of a batch."""

    def aux_head(self, activation_shape: tuple[int, ...], generator: torch.Generator) -> nn.Module:
        """Build the head over an activation (its shape without the samples) by which a slow side learns."""

    def evaluate(self, output: Tensor, target: Nested) -> dict[str, float]:
        """Return the sums of `metrics` over a batch of test samples."""

    def describe(self, target: Nested) -> dict[str, Json]:
        """Return what `agents.json` tells of an agent's training data, given all targets; of none as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification(OfSamples):
    """One label for each sample: cross-entropy and accuracy.

    Parameters
    ----------
    num_classes : int
        K, at least 2.
    augmented : bool
        Whether training batches, of images, are shifted and mirrored at random.
    head : "pool", "conv", "mean" or "first"
        The auxiliary head.
    """

    num_classes: int
    augmented: bool = False
    head: HeadKind = "pool"

    def __post_init__(self) -> None:
        check_whole(self.num_classes, "num_classes of Classification", least=2)

    @property
    def num_outputs(self) -> int:
        """K."""
        return self.num_classes

    @property
    def metrics(self) -> Metrics:
        """Accuracy and mean loss."""
        return CLASSIFICATION_METRICS

    @property
    def facts(self) -> Mapping[str, str]:
        """Shape of a sample and number of classes."""
        return {"input_shape": str(list(self.input_shape)), "num_classes": str(self.num_classes)}

    def check_targets(self, targets: Nested, field: str) -> Tensor:
        """Return labels (N,), int64, of labels of any type of number, or of a column of them."""
        if not isinstance(targets, Tensor):
            raise InputError(field, type(targets).__name__, "must be one tensor: one class number each")
        if targets.dim() == 2 and targets.shape[1] == 1:
            targets = targets[:, 0]
        if targets.dim() != 1:
            rule = "must be (samples,): one class number each (of one-hot rows, the argmax)"
            raise InputError(field, f"shape {tuple(targets.shape)}", rule)
        if targets.is_floating_point() or targets.is_complex():
            broken = targets if targets.is_complex() else targets[targets != targets.round()]
            if len(broken):
                raise InputError(field, broken[0].item(), "must be a whole number: the class of a sample")
        labels_N = targets.to(torch.int64)
        outside = labels_N[(labels_N < 0) | (labels_N >= self.num_classes)]
        if num := len(outside):
            rule = f"must be from 0 to {self.num_classes - 1}, as num_classes is {self.num_classes}"
            raise InputError(field, int(outside[0]), f"{rule} ({num} sample{'s' * (num > 1)} outside)")
        return labels_N

    def labels(self, targets: Nested) -> Tensor:
        """Return the labels themselves."""
        return one_tensor(targets, "labels")

    def output_rule(self, shape: tuple[int, ...], num_samples: int) -> str:
        """Return that a model must return logits (N, K); empty where it does."""
        expected = (num_samples, self.num_classes)
        return rule_of_output(shape, expected, f" for {num_samples} samples: a logit for each class")

    def prepare(self, x: Nested, generator: torch.Generator) -> Nested:
        """Return images shifted and mirrored where they are to be; other samples as they are."""
        return augment(one_tensor(x, "images"), generator) if self.augmented else x

    def loss(self, output: Tensor, target: Nested) -> Tensor:
        """Return the mean cross-entropy of logits (N, K) and labels (N,)."""
        return cross_entropy(output, one_tensor(target, "labels"))

    def aux_head(self, activation_shape: tuple[int, ...], generator: torch.Generator) -> nn.Sequential:
        """Build a head that gives logits (N, K)."""
        return head_for_samples(self.head, activation_shape, self.num_classes, generator)

    def evaluate(self, output: Tensor, target: Nested) -> dict[str, float]:
        """Return how many labels (N,) have the largest of the logits (N, K), the summed loss, and N."""
        labels_N = one_tensor(target, "labels")
        return {
            "correct": int((output.argmax(1) == labels_N).sum()),
            "loss_sum": float(cross_entropy(output, labels_N, reduction="sum")),
            "num_evaluated": len(labels_N),
        }

    def describe(self, target: Nested) -> dict[str, Json]:
        """Return how many samples have each label; an empty list where there is no sample."""
        labels_N = one_tensor(target, "labels")
        counts = torch.bincount(labels_N, minlength=self.num_classes) if len(labels_N) else labels_N
        return {"label_counts": counts.tolist()}


def most_counts(task: Task) -> int:
    """Return how much one sample adds at most to what a task counts: as many labels as its target has.

    Where that is not known, a number that none reaches.
    """
    return math.prod(task.target_shape) if isinstance(task, OfSamples) else 1 << 40
