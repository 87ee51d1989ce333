"""Any number of labels for each sample: binary cross-entropy, micro-averaged F1.

Shape suffixes: N samples, L labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from comdml_flwr.core.bounds import check_whole
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.typed_json import Json
from comdml_flwr.learning.metrics import Better, Sums, counted
from comdml_flwr.learning.structure import Nested, one_tensor
from comdml_flwr.learning.tasks.heads import HeadKind, head_for_samples
from comdml_flwr.learning.tasks.samples import OfSamples, form_of, rule_of_output

_COUNTS = ("num_evaluated", "num_labels", "true_positives", "false_positives", "false_negatives")


class MultiLabelMetrics:
    """Micro-averaged F1, the share of labels that are right, and the mean loss.

    Examples
    --------
    >>> counts = {"true_positives": 3, "false_positives": 1, "false_negatives": 1}
    >>> MULTI_LABEL_METRICS.of({"num_evaluated": 5, "num_labels": 10, "loss_sum": 2.0, **counts})
    {'f1': 0.75, 'label_accuracy': 0.8, 'loss': 0.4}
    """

    primary = "f1"
    better: Better = "higher"
    most = 1.0
    nothing: Mapping[str, float] = MappingProxyType({**dict.fromkeys(_COUNTS, 0), "loss_sum": 0.0})

    def is_possible(self, sums: Sums) -> bool:
        """Tell whether no more labels are counted than there are, and no loss is negative."""
        counts = [counted(sums, name) for name in _COUNTS]
        known = [count for count in counts if count is not None]
        return len(known) == len(counts) and sum(known[2:]) <= known[1] and (sums["loss_sum"] or 0) >= 0

    def of(self, sums: Sums) -> dict[str, float | None]:
        """Return the metrics; F1 is None where there is no positive label, neither true nor predicted."""
        num, labels, right, false, missed = (sums[name] or 0 for name in _COUNTS)
        if not num or not labels:
            return {"f1": None, "label_accuracy": None, "loss": None}
        judged = 2 * right + false + missed
        loss_sum = sums["loss_sum"]
        return {
            "f1": 2 * right / judged if judged else None,
            "label_accuracy": 1 - (false + missed) / labels,
            "loss": None if loss_sum is None else loss_sum / num,
        }


MULTI_LABEL_METRICS = MultiLabelMetrics()


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiLabel(OfSamples):
    """Several labels at once: each is there or not.

    Parameters
    ----------
    num_labels : int
        L; a model returns logits (N, L), and targets (N, L) are 0 or 1. A label counts as predicted where its
        logit is above 0.
    head : "pool", "conv", "mean" or "first"
        The auxiliary head.
    """

    num_labels: int
    head: HeadKind = "pool"

    def __post_init__(self) -> None:
        check_whole(self.num_labels, "num_labels of MultiLabel", least=1)

    @property
    def num_outputs(self) -> int:
        """L."""
        return self.num_labels

    @property
    def metrics(self) -> MultiLabelMetrics:
        """F1 and the share of labels that are right."""
        return MULTI_LABEL_METRICS

    @property
    def facts(self) -> Mapping[str, str]:
        """Shape of a sample and number of labels."""
        return self.described("multi-label", self.num_labels)

    def check_targets(self, targets: Nested, field: str) -> Tensor:
        """Return targets (N, L), float32, each 0 or 1."""
        if not isinstance(targets, Tensor) or targets.dim() != 2 or targets.shape[1] != self.num_labels:
            rule = f"must be (samples, {self.num_labels}): 0 or 1 for each label"
            raise InputError(field, form_of(targets), rule)
        y_NL = targets.float()
        if len(others := y_NL[(y_NL != 0) & (y_NL != 1)]):
            raise InputError(field, others[0].item(), "must be 0 or 1")
        return y_NL

    def output_rule(self, shape: tuple[int, ...], num_samples: int) -> str:
        """Return that a model must return logits (N, L); empty where it does."""
        expected = (num_samples, self.num_labels)
        return rule_of_output(shape, expected, f" for {num_samples} samples: a logit for each label")

    def loss(self, output: Tensor, target: Nested) -> Tensor:
        """Return the mean binary cross-entropy."""
        return binary_cross_entropy_with_logits(output, one_tensor(target, "labels"))

    def aux_head(self, activation_shape: tuple[int, ...], generator: torch.Generator) -> nn.Sequential:
        """Build a head that gives logits (N, L)."""
        return head_for_samples(self.head, activation_shape, self.num_labels, generator)

    def evaluate(self, output: Tensor, target: Nested) -> dict[str, float]:
        """Return the counts of a batch and its loss, over samples."""
        y_NL = one_tensor(target, "labels")
        is_there, is_told = y_NL > 0.5, output > 0
        loss = binary_cross_entropy_with_logits(output, y_NL, reduction="sum")
        return {
            "num_evaluated": len(y_NL),
            "num_labels": y_NL.numel(),
            "true_positives": int((is_there & is_told).sum()),
            "false_positives": int((~is_there & is_told).sum()),
            "false_negatives": int((is_there & ~is_told).sum()),
            "loss_sum": float(loss) / self.num_labels,
        }

    def describe(self, target: Nested) -> dict[str, Json]:
        """Return how many samples have each label."""
        return {"label_counts": [int(count) for count in one_tensor(target, "labels").sum(0)]}
