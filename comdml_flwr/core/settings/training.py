"""How an agent trains its model in a round."""

from typing import Literal

from comdml_flwr.core.settings.base import Settings, setting


class TrainingSettings(Settings, title="Training"):
    """How an agent trains its model in a round."""

    local_epochs: int = setting(2, ge=1, description="passes over an agent's own samples in a round")
    batch_size: int = setting(32, ge=1, description="samples per batch", dry_run="of the fleet")
    optimizer: Literal["sgd", "adam", "adamw"] = setting(
        "adam", description="`sgd`, `adam` or `adamw`, begun afresh in every round"
    )
    learning_rate: float = setting(0.005, gt=0, description="step size")
    schedule: Literal["constant", "step", "cosine", "plateau"] = setting(
        "constant",
        description="learning rate over the rounds: `constant`, `step` (times `schedule-factor` every"
        " `schedule-every` rounds), `cosine` (from the full rate towards 0 over `num-rounds`) or `plateau`"
        " (times `schedule-factor` after `schedule-patience` rounds without a better metric)",
    )
    schedule_every: int = setting(10, ge=1, description="of `step`: rounds at one rate")
    schedule_factor: float = setting(
        0.1, gt=0, le=1, description="of `step` and `plateau`: what the rate is multiplied with"
    )
    schedule_patience: int = setting(
        5, ge=1, description="of `plateau`: rounds without a better metric before the rate is reduced"
    )
    warmup_rounds: int = setting(
        0, ge=0, description="rounds in which the rate grows evenly to `learning-rate`; 0: none"
    )
    momentum: float = setting(0.9, ge=0, lt=1, description="of `sgd`; `adam`, `adamw`: 0.9 and 0.999")
    weight_decay: float = setting(
        0.0, ge=0, description="L2 penalty; with `adamw` apart from the gradient (decoupled)"
    )
    decay_norms: bool = setting(
        True, description="whether `weight-decay` is for biases and the weights of norm layers, too"
    )
    clip_norm: float = setting(
        0.0,
        ge=0,
        description="longest gradient of a batch, all parameters together (each side of a split model for"
        " itself); a longer one is scaled down; 0: none",
    )
    aux_head: Literal["auto", "pool", "conv", "mean", "first"] = setting(
        "auto",
        description="head by which a slow agent learns: `pool` over all places, `conv` before that, `mean` or"
        " `first` of a sequence's positions, each with a linear layer; `auto`: the task's own (`pool`)",
    )
    threads_per_agent: int = setting(
        1, ge=1, description="threads of a convolution; another number, other bits"
    )
