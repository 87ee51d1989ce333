"""Activations and their targets as mail: a tensor keeps its name, several have names of their own."""

import numpy as np
import pytest
import torch

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.errors import RunError
from comdml_flwr.methods.phases.activations import (
    Activations,
    aligned,
    pack_activations,
    unpack_activations,
)
from tests.small import small_config, small_fleet, small_setup

Z = torch.arange(6.0).view(2, 3)


@pytest.fixture(scope="module")
def agent():
    return Agent(0, small_setup(small_config(), small_fleet(2)))


def mail_of(agent, tensors):
    return agent.send(1, Activations(num_samples=2, batches_left=0, tensors=tensors))


def test_one_tensor_of_targets_is_called_labels(agent):
    assert [*pack_activations(agent, Z, torch.tensor([1, 2]), "batch 0")] == ["activations", "labels"]


@pytest.mark.parametrize(
    "targets", [torch.tensor([1, 2]), (torch.tensor([1, 2]), {"mask": torch.tensor([True, False])})]
)
def test_targets_come_as_they_were_sent(agent, targets):
    sent, z, received = unpack_activations(
        agent, mail_of(agent, pack_activations(agent, Z, targets, "batch 0"))
    )
    assert (sent.num_samples, type(received)) == (2, type(targets))
    assert torch.equal(z, Z)
    if isinstance(targets, tuple):
        assert received[1]["mask"].tolist() == [True, False]
        received = received[0]
    assert received.tolist() == [1, 2]


def test_what_lies_anywhere_in_a_message_is_trained_on_where_torch_would_have_put_it(agent):
    message = np.zeros(100, dtype=np.float32)
    for first in range(1, 5):
        activations, targets = (message[first + place : first + place + 6] for place in (0, 50))
        tensors = {"activations": activations.reshape(2, 3), "labels": targets.reshape(2, 3)}
        _, z, received = unpack_activations(agent, mail_of(agent, tensors))
        assert (z.data_ptr() % 64, received.data_ptr() % 64) == (0, 0)
    own = torch.zeros(16)
    assert aligned(own) is own


@pytest.mark.parametrize("names", [[], ["labels", "labels.0"], ["labels.1"], ["labels.mask", "labels.0"]])
def test_targets_of_no_structure_are_refused(agent, names):
    tensors = {name: torch.tensor([1, 2]).numpy() for name in names}
    with pytest.raises(RunError, match=r"^activations from agent 0, round 0: "):
        unpack_activations(agent, mail_of(agent, {"activations": Z.numpy(), **tensors}))
