"""The learning rate of a round: the same at all agents, because it follows from the configuration alone.

The optimizer is begun afresh in every round, so the rate is one number for a whole round.

    constant    the rate of the configuration
    step        multiplied by `schedule-factor` after every `schedule-every` rounds
    cosine      half a cosine over all rounds, from the full rate towards 0 (Loshchilov and Hutter, "SGDR:
                Stochastic Gradient Descent with Warm Restarts", ICLR 2017, without restarts)

With `warmup-rounds` = W, round r of the first W has r / (W + 1) of the rate, and the schedule begins after
them (Goyal et al., arXiv 1706.02677, section 2.2).
"""

import math

from comdml_flwr.core.config import RunConfig


def is_scheduled(config: RunConfig) -> bool:
    """Tell whether rounds of a run have different learning rates."""
    return config.schedule != "constant" or config.warmup_rounds > 0


def learning_rate(config: RunConfig, round_: int) -> float:
    """Return the learning rate of a round, counted from 1.

    Examples
    --------
    >>> from comdml_flwr.core.config import parse_config
    >>> keys = {"learning-rate": 1.0, "schedule": "step", "schedule-every": 2, "schedule-factor": 0.5}
    >>> [learning_rate(parse_config(keys), round_) for round_ in (1, 2, 3, 4, 5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    warmup = config.warmup_rounds
    if round_ <= warmup:
        return config.learning_rate * max(1, round_) / (warmup + 1)
    return config.learning_rate * _factor(config, round_ - 1 - warmup, config.num_rounds - warmup)


def _factor(config: RunConfig, num_before: int, num_rounds: int) -> float:
    """Return the share of the full rate in a round that has `num_before` of `num_rounds` before it."""
    if config.schedule == "step":
        return float(config.schedule_factor ** (num_before // config.schedule_every))
    if config.schedule == "cosine":
        return (1 + math.cos(math.pi * num_before / num_rounds)) / 2
    return 1.0
