"""Numbers as targets: mean squared error, R2.

Shape suffixes: N samples, D outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from comdml_flwr.core.bounds import check_whole
from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.metrics import Better, Sums, counted
from comdml_flwr.learning.structure import Nested, one_tensor
from comdml_flwr.learning.tasks.heads import HeadKind, head_for_samples
from comdml_flwr.learning.tasks.samples import OfSamples, rule_of_output


@dataclass(frozen=True, slots=True)
class RegressionMetrics:
    """R2 and mean squared error.

    R2 of an output is 1 - (sum of squared errors) / (sum of y^2 - (sum of y)^2 / n): 0 for a model that gives
    the mean, whatever it sees; of several outputs it is their mean. The sums are float64.

    Parameters
    ----------
    num_outputs : int
        D.

    Examples
    --------
    >>> sums = {"num_evaluated": 2, "y_0": 4.0, "y2_0": 10.0, "error2_0": 0.5}
    >>> RegressionMetrics(1).of(sums)
    {'r2': 0.75, 'mse': 0.25, 'loss': 0.25}
    """

    num_outputs: int
    primary: str = "r2"
    better: Better = "higher"
    most: float = 1.0

    @property
    def nothing(self) -> Mapping[str, float]:
        """Number of samples; by output, the sums of targets, of their squares and of squared errors."""
        names = [f"{name}_{place}" for place in range(self.num_outputs) for name in ("y", "y2", "error2")]
        return {"num_evaluated": 0, **dict.fromkeys(names, 0.0)}

    def is_possible(self, sums: Sums) -> bool:
        """Tell whether no sum of squares is negative."""
        squares = [value for name, value in sums.items() if "2_" in name and value is not None]
        return counted(sums, "num_evaluated") is not None and min(squares, default=0.0) >= 0

    def of(self, sums: Sums) -> dict[str, float | None]:
        """Return R2 (None: an output's targets are all equal), and the mean squared error, the loss."""
        num, r2, errors = sums["num_evaluated"], [], 0.0
        for place in range(self.num_outputs):
            y, y2, error2 = (sums[f"{name}_{place}"] for name in ("y", "y2", "error2"))
            if not num or y is None or y2 is None or error2 is None:
                return {"r2": None, "mse": None, "loss": None}
            spread = y2 - y * y / num
            r2.append(1 - error2 / spread if spread > 0 else None)
            errors += error2
        mse = errors / (num or 1) / self.num_outputs
        known = [value for value in r2 if value is not None]
        return {"r2": sum(known) / len(r2) if len(known) == len(r2) else None, "mse": mse, "loss": mse}


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression(OfSamples):
    """One number for each sample, or several.

    Parameters
    ----------
    num_outputs : int
        D; a model returns (N, D), and targets are (N, D), or (N,) where D is 1.
    head : "pool", "conv", "mean" or "first"
        The auxiliary head.
    """

    num_outputs: int = 1
    head: HeadKind = "pool"

    def __post_init__(self) -> None:
        check_whole(self.num_outputs, "num_outputs of Regression", least=1)

    @property
    def metrics(self) -> RegressionMetrics:
        """R2 and mean squared error."""
        return RegressionMetrics(self.num_outputs)

    @property
    def facts(self) -> Mapping[str, str]:
        """Shape of a sample and number of outputs."""
        return self.described("regression", self.num_outputs)

    def check_targets(self, targets: Nested, field: str) -> Tensor:
        """Return targets (N, D), float32."""
        if not isinstance(targets, Tensor) or targets.is_complex():
            raise InputError(field, type(targets).__name__, "must be one tensor of real numbers")
        y_ND = targets[:, None] if targets.dim() == 1 else targets
        if y_ND.dim() != 2 or y_ND.shape[1] != self.num_outputs:
            raise InputError(field, f"shape {tuple(targets.shape)}", f"must be (samples, {self.num_outputs})")
        y_ND = y_ND.float()
        if not bool(torch.isfinite(y_ND).all()):
            raise InputError(field, "NaN or infinity", "must be finite in every sample")
        return y_ND

    def output_rule(self, shape: tuple[int, ...], num_samples: int) -> str:
        """Return that a model must return (N, D); empty where it does."""
        expected = (num_samples, self.num_outputs)
        return rule_of_output(shape, expected, f" for {num_samples} samples: Regression's outputs")

    def loss(self, output: Tensor, target: Nested) -> Tensor:
        """Return the mean squared error of outputs and targets (N, D)."""
        return mse_loss(output, one_tensor(target, "targets"))

    def aux_head(self, activation_shape: tuple[int, ...], generator: torch.Generator) -> nn.Sequential:
        """Build a head that gives (N, D)."""
        return head_for_samples(self.head, activation_shape, self.num_outputs, generator)

    def evaluate(self, output: Tensor, target: Nested) -> dict[str, float]:
        """Return the sums of a batch."""
        y_ND = one_tensor(target, "targets").double()
        columns = {"y": y_ND, "y2": y_ND**2, "error2": (output.double() - y_ND) ** 2}
        sums = {name: column.sum(0).tolist() for name, column in columns.items()}
        by_output = {f"{name}_{place}": x for name, values in sums.items() for place, x in enumerate(values)}
        return {"num_evaluated": len(y_ND), **by_output}
