"""A label for each pixel: cross-entropy, mean intersection over union.

Shape suffixes: N samples, K classes, H height, W width.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from comdml_flwr.core.bounds import check_whole
from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.metrics import Better, Sums, counted
from comdml_flwr.learning.structure import Nested, one_tensor
from comdml_flwr.learning.tasks.heads import head_for_pixels
from comdml_flwr.learning.tasks.samples import NOTHING_IGNORED, OfSamples, class_ids, form_of, rule_of_output


@dataclass(frozen=True, slots=True)
class SegmentationMetrics:
    """Mean intersection over union, the share of pixels that are right, and the mean loss.

    What is summed are the diagonal and the margins of the confusion matrix: of each class, the pixels that
    are right, that have it and that were given it.

    Parameters
    ----------
    num_classes : int
        K.
    """

    num_classes: int
    primary: str = "mean_iou"
    better: Better = "higher"
    most: float = 1.0

    @property
    def nothing(self) -> Mapping[str, float]:
        """Number of samples and the counts of each class; the summed loss of all pixels."""
        names = [f"{name}_{k}" for name in ("right", "labelled", "told") for k in range(self.num_classes)]
        return {"num_evaluated": 0, **dict.fromkeys(names, 0), "loss_sum": 0.0}

    def is_possible(self, sums: Sums) -> bool:
        """Tell whether no more pixels are right than there are, and no loss is negative."""
        for k in range(self.num_classes):
            right, labelled, told = (counted(sums, f"{name}_{k}") for name in ("right", "labelled", "told"))
            if right is None or labelled is None or told is None or right > min(labelled, told):
                return False
        return counted(sums, "num_evaluated") is not None and (sums["loss_sum"] or 0) >= 0

    def of(self, sums: Sums) -> dict[str, float | None]:
        """Return the metrics; a class that no pixel has and none was given does not count in the mean."""
        right, labelled, told = (
            [sums[f"{name}_{k}"] or 0 for k in range(self.num_classes)]
            for name in ("right", "labelled", "told")
        )
        num_pixels, loss_sum = sum(labelled), sums["loss_sum"]
        if not num_pixels:
            return {"mean_iou": None, "pixel_accuracy": None, "loss": None}
        unions = [a + b - both for both, a, b in zip(right, labelled, told, strict=True)]
        found = [both / union for both, union in zip(right, unions, strict=True) if union]
        return {
            "mean_iou": sum(found) / len(found),
            "pixel_accuracy": sum(right) / num_pixels,
            "loss": None if loss_sum is None else loss_sum / num_pixels,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation(OfSamples):
    """One label for each pixel of an image.

    The auxiliary head is a 1 x 1 convolution, whose logits are scaled up to the targets' size.

    Parameters
    ----------
    num_classes : int
        K; a model returns logits (N, K, H, W), and targets are (N, H, W).
    ignore_index : int, optional
        Label of pixels that do not count, neither in the loss nor in the metrics.
    """

    num_classes: int
    ignore_index: int = NOTHING_IGNORED

    def __post_init__(self) -> None:
        check_whole(self.num_classes, "num_classes of Segmentation", least=2)

    @property
    def num_outputs(self) -> int:
        """K."""
        return self.num_classes

    @property
    def metrics(self) -> SegmentationMetrics:
        """Mean intersection over union and the share of pixels that are right."""
        return SegmentationMetrics(self.num_classes)

    @property
    def facts(self) -> Mapping[str, str]:
        """Shape of a sample and number of classes."""
        return self.described("segmentation", self.num_classes)

    def check_targets(self, targets: Nested, field: str) -> Tensor:
        """Return labels (N, H, W), int64."""
        if not isinstance(targets, Tensor) or targets.dim() != 3:
            rule = "must be (samples, height, width): a class for each pixel"
            raise InputError(field, form_of(targets), rule)
        return class_ids(targets, self.num_classes, self.ignore_index, field)

    def output_rule(self, shape: tuple[int, ...], num_samples: int) -> str:
        """Return that a model must return logits (N, K, H, W); empty where it does."""
        expected = (num_samples, self.num_classes, *self.target_shape)
        return rule_of_output(shape, expected, ": a logit for each class and pixel")

    def loss(self, output: Tensor, target: Nested) -> Tensor:
        """Return the mean cross-entropy of the pixels that count; 0 where there are none."""
        labels = one_tensor(target, "labels")
        num_pixels = (labels != self.ignore_index).sum().clamp(min=1)
        return cross_entropy(output, labels, ignore_index=self.ignore_index, reduction="sum") / num_pixels

    def aux_head(self, activation_shape: tuple[int, ...], generator: torch.Generator) -> nn.Sequential:
        """Build a head that gives logits (N, K, H, W)."""
        return head_for_pixels(activation_shape, self.num_classes, self.target_shape, generator)

    def evaluate(self, output: Tensor, target: Nested) -> dict[str, float]:
        """Return the counts of a batch and its summed loss."""
        labels = one_tensor(target, "labels")
        counts = labels != self.ignore_index
        label, told = labels[counts], output.argmax(1)[counts]
        columns = {"right": label[label == told], "labelled": label, "told": told}
        sums: dict[str, float] = {"num_evaluated": len(labels)}
        for name, found in columns.items():
            by_class = torch.bincount(found, minlength=self.num_classes).tolist()
            sums |= {f"{name}_{k}": count for k, count in enumerate(by_class)}
        loss = cross_entropy(output, labels, ignore_index=self.ignore_index, reduction="sum")
        return {**sums, "loss_sum": float(loss)}
