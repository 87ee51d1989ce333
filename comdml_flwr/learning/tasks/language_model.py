"""The next token at each position: cross-entropy, perplexity.

Shape suffixes: N samples, L positions, V tokens of the vocabulary.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from comdml_flwr.core.bounds import check_whole
from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.metrics import Better, Sums, counted
from comdml_flwr.learning.structure import Nested, one_tensor
from comdml_flwr.learning.tasks.heads import head_for_positions
from comdml_flwr.learning.tasks.samples import NOTHING_IGNORED, OfSamples, class_ids, form_of, rule_of_output


class LanguageModelMetrics:
    """Perplexity, of which less is better, and the mean loss of a token.

    Examples
    --------
    >>> LANGUAGE_MODEL_METRICS.of({"num_evaluated": 2, "num_tokens": 10, "loss_sum": 0.0})
    {'perplexity': 1.0, 'loss': 0.0}
    """

    primary = "perplexity"
    better: Better = "lower"
    most = math.inf
    nothing: Mapping[str, float] = MappingProxyType({"num_evaluated": 0, "num_tokens": 0, "loss_sum": 0.0})

    def is_possible(self, sums: Sums) -> bool:
        """Tell whether a loss is that of some tokens, and not negative."""
        num_evaluated, num_tokens = (counted(sums, name) for name in ("num_evaluated", "num_tokens"))
        if num_evaluated is None or num_tokens is None:
            return False
        loss_sum = sums["loss_sum"] or 0
        return loss_sum >= 0 if num_tokens else loss_sum == 0

    def of(self, sums: Sums) -> dict[str, float | None]:
        """Return exp(mean loss) and the mean loss of a token; None where it is not finite."""
        num_tokens, loss_sum = sums["num_tokens"], sums["loss_sum"]
        if not num_tokens or loss_sum is None:
            return {"perplexity": None, "loss": None}
        loss = loss_sum / num_tokens
        return {"perplexity": math.exp(loss) if loss < 700 else None, "loss": loss}  # e^710 is no float


LANGUAGE_MODEL_METRICS = LanguageModelMetrics()


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModel(OfSamples):
    """What comes next in a sequence of tokens.

    The auxiliary head is a layer norm and a linear layer at each position: activations are (L, D).

    Parameters
    ----------
    num_tokens : int
        V; a model returns logits (N, L, V), and targets are token ids (N, L).
    shift : bool
        Whether the targets are the inputs themselves, so that what is told at a position is judged by the
        target at the next one. False: each position has the token that follows as its target.
    ignore_index : int, optional
        Target that does not count, such as padding.
    """

    num_tokens: int
    shift: bool = True
    ignore_index: int = NOTHING_IGNORED

    def __post_init__(self) -> None:
        check_whole(self.num_tokens, "num_tokens of LanguageModel", least=2)

    @property
    def num_outputs(self) -> int:
        """V."""
        return self.num_tokens

    @property
    def metrics(self) -> LanguageModelMetrics:
        """Perplexity."""
        return LANGUAGE_MODEL_METRICS

    @property
    def facts(self) -> Mapping[str, str]:
        """Shape of a sample and size of the vocabulary."""
        return self.described("language model", self.num_tokens)

    def check_targets(self, targets: Nested, field: str) -> Tensor:
        """Return token ids (N, L), int64."""
        if not isinstance(targets, Tensor) or targets.dim() != 2 or targets.is_floating_point():
            rule = "must be (samples, positions), whole numbers: a token each"
            raise InputError(field, form_of(targets), rule)
        return class_ids(targets, self.num_tokens, self.ignore_index, field)

    def output_rule(self, shape: tuple[int, ...], num_samples: int) -> str:
        """Return that a model must return logits (N, L, V); empty where it does."""
        expected = (num_samples, *self.target_shape, self.num_tokens)
        return rule_of_output(shape, expected, ": a logit for each position and token")

    def loss(self, output: Tensor, target: Nested) -> Tensor:
        """Return the mean cross-entropy of the tokens that count; 0 where there are none."""
        loss, num_tokens = self._summed(output, target)
        return loss / num_tokens.clamp(min=1)

    def aux_head(self, activation_shape: tuple[int, ...], generator: torch.Generator) -> nn.Sequential:
        """Build a head that gives logits (N, L, V)."""
        return head_for_positions(activation_shape, self.num_tokens, generator)

    def evaluate(self, output: Tensor, target: Nested) -> dict[str, float]:
        """Return the summed loss of a batch and the number of its tokens."""
        loss, num_tokens = self._summed(output, target)
        return {"num_evaluated": len(output), "num_tokens": int(num_tokens), "loss_sum": float(loss)}

    def _summed(self, output: Tensor, target: Nested) -> tuple[Tensor, Tensor]:
        """Return the summed cross-entropy, and of how many tokens."""
        ids_NL = one_tensor(target, "token ids")
        if self.shift:
            output, ids_NL = output[:, :-1], ids_NL[:, 1:]
        loss = cross_entropy(
            output.flatten(0, 1), ids_NL.flatten(), ignore_index=self.ignore_index, reduction="sum"
        )
        return loss, (ids_NL != self.ignore_index).sum()
