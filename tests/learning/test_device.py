"""A learner takes tensors of the host and returns tensors of the host; nobody else crosses over."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import comdml_flwr
from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.device import Device
from comdml_flwr.learning.training import Learner
from tests.learning.test_training import SETTINGS, TASK, batches, four


class Elsewhere:
    """A device that is the CPU, and refuses a tensor on the side where it is not."""

    def __init__(self):
        self.here = []

    def place(self, module):
        return module

    def to(self, tensor):
        self.here.append(tensor.clone())
        return self.here[-1]

    def back(self, tensor):
        assert not any(tensor is one for one in self.here)
        return tensor.clone().as_subclass(OnHost)


class OnHost(torch.Tensor):
    """A tensor that came back."""


class Guarded(nn.Module):
    """A model that takes what its device has, and nothing else."""

    def __init__(self, device):
        super().__init__()
        self.model, self.device = four(), device

    def forward(self, x):
        assert any(x is one or x._base is one for one in self.device.here), "it did not cross over"
        return self.model(x)


def learner_elsewhere():
    device = Elsewhere()
    return Learner(Guarded(device), None, SETTINGS["sgd"], TASK, device), device


def test_a_cpu_copies_nothing():
    device, x = Device(), torch.randn(2, 3).t()
    assert device.to(x) is x
    assert device.back(x) is x
    model = four()
    before = [p.data_ptr() for p in model.parameters()]
    assert device.place(model) is model
    assert [p.data_ptr() for p in model.parameters()] == before


def test_another_device_is_refused():
    with pytest.raises(InputError, match=r"^device = 'abacus': must be cpu$"):
        Device("abacus")


def test_a_learner_crosses_over_with_all_that_it_takes_and_returns():
    (x, y), (other, _), *_ = batches()
    learner, device = learner_elsewhere()
    assert all(isinstance(told, OnHost) for told in learner.train_batch(x, y))
    assert isinstance(learner.forward(x), OnHost)
    learner.evaluate(x, y)
    learner.train_by_gradient(other, torch.ones(len(other), 10))
    assert len(device.here) == 7
    state = learner.pause().state()
    assert all(isinstance(state[name], OnHost) for name in state if name.startswith("optimizer/"))


def test_a_gradient_comes_back():
    device = Elsewhere()
    learner = Learner(nn.Linear(4, 10), None, SETTINGS["sgd"], TASK, device)
    gradient = learner.train_for_gradient(torch.randn(3, 4), torch.tensor([1, 2, 3]))
    assert isinstance(gradient, OnHost)


@pytest.mark.parametrize("word", [r"\.cuda\(", r"\.cpu\(\)", r"set_num_threads", r"use_deterministic"])
def test_nobody_else_moves_tensors_or_sets_up_the_process(word):
    """But for the check of data and models that a user gives, which may lie on a device."""
    package = Path(comdml_flwr.__file__).parent
    users = {
        str(path.relative_to(package)) for path in package.rglob("*.py") if re.search(word, path.read_text())
    }
    assert users <= {"learning/device.py", "learning/data/contract.py"}
