"""The learning rate of a round: the same at all agents, because it follows from what all of them are told.

The optimizer is begun afresh in every round, so the rate is one number for a whole round.

    constant    the rate of the configuration
    step        multiplied by `schedule-factor` after every `schedule-every` rounds
    cosine      half a cosine over all rounds, from the full rate towards 0 (Loshchilov and Hutter, "SGDR:
                Stochastic Gradient Descent with Warm Restarts", ICLR 2017, without restarts)
    plateau     multiplied by `schedule-factor` whenever the task's metric has not been better than its best
                for `schedule-patience` rounds, which then are counted from 0 again

Constant, step and cosine follow from the configuration. For a plateau, the loop over the rounds counts the
reductions from its records, and the agents are told their number with the steps of the next round. So a round
ends before the next one begins, and a run that goes on counts again from the rounds that are over.

With `warmup-rounds` = W, round r of the first W has r / (W + 1) of the rate, and the schedule begins after
them (Goyal et al., arXiv 1706.02677, section 2.2).
"""

import math
from collections.abc import Iterable

from comdml_flwr.core.config import RunConfig
from comdml_flwr.learning.metrics import Better, rank


def is_scheduled(config: RunConfig) -> bool:
    """Tell whether rounds of a run have different learning rates."""
    return config.schedule != "constant" or config.warmup_rounds > 0


def follows_metric(config: RunConfig) -> bool:
    """Tell whether a round's learning rate depends on the metrics of the rounds before."""
    return config.schedule == "plateau"


def count_reductions(scores: Iterable[float | None], better: Better, config: RunConfig) -> int:
    """Return how often a plateau has reduced the learning rate; 0 with another schedule.

    Parameters
    ----------
    scores : Iterable[float or None]
        The metric of each round, from the first on; None, which is not finite, is no better than any. Those
        of `warmup-rounds` do not count; a later round of which there is none is left out.
    better : "higher" or "lower"
        Which of two is the better one.
    config : RunConfig
        Of the run.

    Examples
    --------
    >>> from comdml_flwr.core.config import parse_config
    >>> config = parse_config({"schedule": "plateau", "schedule-patience": 2})
    >>> count_reductions([0.5, 0.7, 0.6, 0.7, 0.8], "higher", config)
    1
    """
    if not follows_metric(config):
        return 0
    best, num_since, num_reductions = -math.inf, 0, 0
    for score in list(scores)[config.warmup_rounds :]:
        if score is not None and rank(score, better) > best:
            best, num_since = rank(score, better), 0
            continue
        num_since += 1
        if num_since == config.schedule_patience:
            num_reductions, num_since = num_reductions + 1, 0
    return num_reductions


def learning_rate(config: RunConfig, round_: int, num_reductions: int = 0) -> float:
    """Return the learning rate of a round, counted from 1.

    Of a plateau, `num_reductions` says how often it was reduced before.

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
    if follows_metric(config):
        return float(config.learning_rate * config.schedule_factor**num_reductions)
    return config.learning_rate * _factor(config, round_ - 1 - warmup, config.num_rounds - warmup)


def _factor(config: RunConfig, num_before: int, num_rounds: int) -> float:
    """Return the share of the full rate in a round that has `num_before` of `num_rounds` before it."""
    if config.schedule == "step":
        return float(config.schedule_factor ** (num_before // config.schedule_every))
    if config.schedule == "cosine":
        return (1 + math.cos(math.pi * num_before / num_rounds)) / 2
    return 1.0
