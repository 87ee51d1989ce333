"""A task of one's own, made of functions."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.metrics import Better, Sums, counted
from comdml_flwr.learning.structure import Nested, check_structure, count_samples, map_tensors
from comdml_flwr.learning.tasks.heads import HeadKind, head_for_samples
from comdml_flwr.learning.tasks.samples import OfSamples

_OWN = ("num_evaluated", "loss_sum")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnMetrics:
    """The metrics of a task of one's own: see `OwnTask`."""

    primary: str
    better: Better
    sums: tuple[str, ...]
    combine: Callable[[Mapping[str, float]], Mapping[str, float]]
    most: float = math.inf

    @property
    def nothing(self) -> Mapping[str, float]:
        """The number of samples, the summed loss, and the user's sums."""
        return {"num_evaluated": 0, "loss_sum": 0.0, **dict.fromkeys(self.sums, 0.0)}

    def is_possible(self, sums: Sums) -> bool:
        """Tell whether samples are counted; of the rest nothing is known."""
        return counted(sums, "num_evaluated") is not None

    def of(self, sums: Sums) -> dict[str, float | None]:
        """Return the user's metrics, and the mean loss; None where one is not finite or a sum was not."""
        num, loss_sum = sums["num_evaluated"], sums["loss_sum"]
        loss = None if loss_sum is None or not num else loss_sum / num
        known = {name: value for name, value in sums.items() if value is not None}
        if not num or known.keys() != sums.keys():
            return {self.primary: None, "loss": loss}
        try:
            found = self.combine(known)
        except ArithmeticError:  # a ratio over none, a power too large
            found = {}
        values = {name: float(x) if math.isfinite(x) else None for name, x in found.items()}
        return {self.primary: None, **values, "loss": loss}


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTask(OfSamples):
    """A task of one's own.

    What is measured adds up over agents, as each judges its share of the test samples: an agent gives sums,
    and `combine` makes the numbers of the whole of them.

    Parameters
    ----------
    loss : Callable[[Tensor, Nested], Tensor]
        (output, target) -> mean loss of a batch.
    sums : Callable[[Tensor, Nested], Mapping[str, float or Tensor]]
        (output, target) -> sums over a batch of test samples, by name.
    sum_names : Sequence[str]
        Their names. Beside them there are `num_evaluated`, the samples, and `loss_sum`, their summed loss.
    combine : Callable[[Mapping[str, float]], Mapping[str, float]]
        (sums, all added up) -> metrics by name.
    metric : str
        The one that counts.
    better : "higher" or "lower"
        Which value of it is the better one.
    num_outputs : int
        What a model gives for each sample, (N, num_outputs), where the library's head is used.
    head : "pool", "conv", "mean", "first", or Callable[[tuple[int, ...], torch.Generator], nn.Module]
        The auxiliary head: the library's, or (shape of an activation without the samples, generator) -> head.
    name : str
        What the files of the trained model call the task.

    Examples
    --------
    >>> task = OwnTask(
    ...     loss=torch.nn.functional.l1_loss,
    ...     sums=lambda output, target: {"error": (output - target).abs().mean(1).sum()},
    ...     sum_names=["error"],
    ...     combine=lambda sums: {"mae": sums["error"] / sums["num_evaluated"]},
    ...     metric="mae",
    ...     better="lower",
    ...     num_outputs=1,
    ... )
    >>> task.metrics.of(task.evaluate(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [0.0]])))
    {'mae': 1.5, 'loss': 1.5}
    """

    loss: Callable[[Tensor, Nested], Tensor]
    sums: Callable[[Tensor, Nested], Mapping[str, float | Tensor]]
    sum_names: Sequence[str]
    combine: Callable[[Mapping[str, float]], Mapping[str, float]]
    metric: str
    num_outputs: int = 0
    better: Better = "higher"
    head: HeadKind | Callable[[tuple[int, ...], torch.Generator], nn.Module] = "pool"
    name: str = "own"

    def __post_init__(self) -> None:
        if self.better not in get_args(Better):
            raise InputError("better of OwnTask", self.better, "must be 'higher' or 'lower'")
        for what, name in [("metric", self.metric), *(("sum_names", name) for name in self.sum_names)]:
            if not name.isidentifier() or name in (*_OWN, "loss"):
                raise InputError(
                    f"{what} of OwnTask", name, f"must be a name, and none of {', '.join(_OWN)}, loss"
                )
        if not callable(self.head) and self.num_outputs < 1:
            rule = "must be at least 1: what the library's auxiliary head gives for each sample"
            raise InputError("num_outputs of OwnTask", self.num_outputs, rule)

    @property
    def metrics(self) -> OwnMetrics:
        """The user's."""
        return OwnMetrics(
            primary=self.metric, better=self.better, sums=tuple(self.sum_names), combine=self.combine
        )

    @property
    def facts(self) -> Mapping[str, str]:
        """Shape of a sample and number of outputs."""
        return self.described(self.name, self.num_outputs)

    def check_targets(self, targets: Nested, field: str) -> Nested:
        """Return targets with float32 in place of other floats."""
        check_structure(targets, field)
        return map_tensors(lambda x: x.float() if x.is_floating_point() else x, targets)

    def output_rule(self, shape: tuple[int, ...], num_samples: int) -> str:
        """Return nothing: the loss says what a model must return."""
        return ""

    def aux_head(self, activation_shape: tuple[int, ...], generator: torch.Generator) -> nn.Module:
        """Build the user's head, or the library's."""
        if callable(self.head):
            return self.head(activation_shape, generator)
        return head_for_samples(self.head, activation_shape, self.num_outputs, generator)

    def evaluate(self, output: Tensor, target: Nested) -> dict[str, float]:
        """Return the sums of a batch."""
        num, found = count_samples(target), self.sums(output, target)
        if found.keys() != {*self.sum_names}:
            rule = f"must be {', '.join(sorted(self.sum_names))}, as sum_names says"
            raise InputError("sums of OwnTask", ", ".join(sorted(found)), rule)
        own = {name: float(value) for name, value in found.items()}
        return {"num_evaluated": num, "loss_sum": float(self.loss(output, target)) * num, **own}
