"""A learner takes tensors of the host and returns tensors of the host; each crossing is needed."""

import re
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from comdml_flwr.learning import split as split_module
from comdml_flwr.learning import training as training_module
from comdml_flwr.learning.split import split
from comdml_flwr.learning.suspended import SuspendedTraining
from tests.learning.test_training import CUT, SETTINGS, TASK, batches, four, head_of
from tests.second_device import MixedDevicesError, SecondDevice, is_on_device, kept_apart

CROSSING = re.compile(r"self\._device\.(to|back|copy_back|to_all|back_all|place)\b")
NUM_CROSSINGS = {
    module: len(CROSSING.findall(Path(module.__file__).read_text()))
    for module in (training_module, split_module)
}
DEVICES = {"second": SecondDevice(), "second in float16": SecondDevice(precision="float16")}


def on_host(*tensors):
    assert not any(is_on_device(tensor) for tensor in tensors)


def walk_all_paths(learner_class, device):
    """Train, evaluate, pause and resume a whole model, and both sides of one; return all that comes of it."""
    (x, y), (other, _), *_ = batches()
    whole, slow, fast, lower = (four() for _ in range(4))
    seen = []

    def learner(body, head=None, settings=SETTINGS["adam"]):
        return learner_class(body, head, settings, TASK, device)

    with kept_apart():
        one = learner(whole)
        one.begin(one.weights()["body"])
        seen += one.train_batch(x, y)
        one.step(x, y)
        state = one.pause().state()
        seen += state.values()
        one.resume(SuspendedTraining(dict(state))).step(other, y)
        sums = one.evaluate([(x, y)])
        seen += one.weights().values()

        slow_side = learner(split(slow, CUT)[0], head_of(torch.empty(1, 16)), SETTINGS["sgd"])
        slow_side.begin(*slow_side.weights().values())
        z, _ = slow_side.train_batch(x, y)
        seen += [z, *slow_side.weights().values()]
        fast_side = learner(split(fast, CUT)[1])
        gradient = fast_side.train_for_gradient(z, y)
        lower_part = learner(split(lower, CUT)[0])
        seen += [gradient, lower_part.forward(x)]
        lower_part.train_by_gradient(x, gradient)
        seen += [*fast_side.weights().values(), *lower_part.weights().values()]
    on_host(*seen)
    return sums, seen


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES.keys())
def test_a_learner_mixes_nothing_and_gets_the_bits_of_the_cpu(device):
    sums, seen = walk_all_paths(training_module.Learner, device)
    on_cpu = training_module.Device(precision=device.precision)
    expected_sums, expected = walk_all_paths(training_module.Learner, on_cpu)
    assert sums == expected_sums
    assert all(torch.equal(one, other) for one, other in zip(seen, expected, strict=True))


class Two(nn.Module):
    """Takes images and their mirror images."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, left, right):
        return self.linear(left.flatten(1)) + self.linear(right.flatten(1))


def test_all_tensors_of_inputs_cross_over():
    x, y = batches()[0]
    for inputs in ((x, x.flip(-1)), {"left": x, "right": x.flip(-1)}):
        with kept_apart():
            learner = training_module.Learner(Two(), None, SETTINGS["sgd"], TASK, SecondDevice())
            z, loss = learner.train_batch(inputs, y)
            learner.evaluate([(inputs, y)])
        on_host(z, loss)


def without_crossing(module, number):
    """Return a module like this one that leaves out one crossing."""
    source = Path(module.__file__).read_text()
    found = list(CROSSING.finditer(source))[number]
    mutant = types.ModuleType(module.__name__)
    source = f"{source[: found.start()]}(lambda x: x){source[found.end() :]}"
    exec(compile(source, f"without {found[0]} at {found.start()}", "exec"), vars(mutant))
    return mutant


@pytest.mark.parametrize("number", range(NUM_CROSSINGS[training_module]))
def test_a_learner_needs_each_of_its_crossings(number):
    mutant = without_crossing(training_module, number)
    with pytest.raises((MixedDevicesError, AssertionError)):
        walk_all_paths(mutant.Learner, DEVICES["second"])


@pytest.mark.parametrize("number", range(NUM_CROSSINGS[split_module]))
def test_flat_floats_need_each_of_their_crossings(number, monkeypatch):
    flat_floats = without_crossing(split_module, number).FlatFloats
    monkeypatch.setattr(training_module, "FlatFloats", flat_floats)
    with pytest.raises((MixedDevicesError, AssertionError)):
        walk_all_paths(training_module.Learner, DEVICES["second"])
