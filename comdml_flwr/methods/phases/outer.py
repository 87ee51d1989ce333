"""The outer step: what becomes of the average of the trained models.

A round is one step of an outer optimizer, whose gradient is the way from the mean of the trained models back
to the model that all began with. With `TAKE_MEAN` the mean is the next model, as in FedAvg. DiLoCo (Douillard
et al., arXiv 2311.08105), FedAvgM (Hsu et al., arXiv 1909.06335) and SlowMo (Wang et al., ICLR 2020) keep a
momentum over rounds.

There is no server to take the step: every agent takes it for itself, from the same mean and the same state,
and so to the same bits. What lasts from one round to the next is in shared slots, so agents that come back
take it over with the weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.state import WEIGHTS
from comdml_flwr.core.slots import Slot


class OuterStep(Protocol):
    """What becomes of the averaged model; deterministic, because every agent computes it alike."""

    @property
    def slots(self) -> tuple[Slot, ...]:
        """What it keeps from round to round: shared slots that are rolled back with a round."""

    def __call__(
        self, start_P: Tensor, mean_P: Tensor, state: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Take the step of one round.

        Parameters
        ----------
        start_P : Tensor
            The weights that the round began with, float32.
        mean_P : Tensor
            The mean of the trained weights, float32.
        state : Mapping[str, Tensor]
            What its slots hold; nothing is written into these tensors.

        Returns
        -------
        tuple[Tensor, Mapping[str, Tensor]]
            The weights that the next round begins with, and what its slots hold then.
        """


@dataclass(frozen=True, slots=True)
class TakeMean:
    """The mean is the next model."""

    slots: tuple[Slot, ...] = ()

    def __call__(
        self, start_P: Tensor, mean_P: Tensor, state: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean."""
        return mean_P, {}


TAKE_MEAN = TakeMean()


def take_outer_step(agent: Agent, mean_P: Tensor, step: OuterStep) -> None:
    """Make the step's result this agent's model.

    The step is for trained parameters. Statistics such as BatchNorm's running variance are averaged and no
    more: momentum could carry a variance below zero.
    """
    state = {slot.name: agent.tensors[slot.name] for slot in step.slots}
    weights_P, after = step(agent.weights_P, mean_P, state)
    if weights_P is not mean_P:
        weights_P = torch.where(torch.from_numpy(agent.setup.layout.is_parameter_P), weights_P, mean_P)
    agent.tensors.update({WEIGHTS.name: weights_P, **after})
