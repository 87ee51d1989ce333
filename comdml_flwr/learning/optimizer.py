"""The optimizer with which every training of a round begins."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from comdml_flwr.core.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSettings:
    """Which optimizer, begun afresh in every round.

    Parameters
    ----------
    name : str
        "sgd", "adam" or "adamw".
    learning_rate, momentum, weight_decay : float
        As in torch.optim; momentum is for "sgd" only. Of "adamw", the decay is apart from the gradient
        (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019).
    decay_norms : bool
        Whether biases and the weights of norm layers decay, too: parameters of at most one dimension.
    clip_norm : float
        Longest gradient of a batch, over all parameters of a part; a longer one is scaled down. 0: any.
    """

    name: str = "sgd"
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    decay_norms: bool = True
    clip_norm: float = 0.0

    def start(self, parameters: list[nn.Parameter], *, fused: bool = True) -> torch.optim.Optimizer:
        """Return a new optimizer over these parameters; of none, one that does nothing.

        `fused` says whether one kernel steps over all of them; not every device has such.
        """
        parameters = parameters or [nn.Parameter(torch.empty(0))]
        rate, decay = self.learning_rate, self.weight_decay
        groups = [{"params": parameters}] if self.decay_norms else _groups(parameters)
        if self.name == "sgd":
            return torch.optim.SGD(groups, lr=rate, momentum=self.momentum, weight_decay=decay, fused=fused)
        if self.name == "adam":
            return torch.optim.Adam(groups, lr=rate, weight_decay=decay, fused=fused)
        if self.name == "adamw":
            return torch.optim.AdamW(groups, lr=rate, weight_decay=decay, fused=fused)
        raise InputError("optimizer", self.name, "must be 'sgd', 'adam' or 'adamw'")

    def clip(self, parameters: Iterable[nn.Parameter]) -> None:
        """Scale gradients down, in place, where together they are longer than `clip_norm`."""
        if self.clip_norm:
            nn.utils.clip_grad_norm_(parameters, self.clip_norm)


def _groups(parameters: list[nn.Parameter]) -> list[dict[str, object]]:
    """Return the parameters that decay and those that do not, without a group of none."""
    decaying = [p for p in parameters if p.dim() > 1]
    others = [p for p in parameters if p.dim() <= 1]
    groups: list[dict[str, object]] = [{"params": decaying}] if decaying else []
    return [*groups, {"params": others, "weight_decay": 0.0}] if others else groups
