"""In float16 losses are scaled; the scale is part of a training that pauses, and changes nothing else."""

import copy

import pytest
import torch
from torch import nn

from comdml_flwr.learning.device import Device
from comdml_flwr.learning.loss_scale import INITIAL, LossScale
from comdml_flwr.learning.split import write_floats
from comdml_flwr.learning.suspended import SuspendedTraining
from comdml_flwr.learning.training import Learner
from tests.learning.test_training import SETTINGS, TASK, batches, four, over_the_wire

FLOAT16 = Device(precision="float16")


def learner_of(model, device=FLOAT16, name="sgd"):
    return Learner(model, None, SETTINGS[name], TASK, device)


def scale_in(learner):
    return learner.pause().state()["loss_scale"].tolist()


def test_nothing_is_scaled_in_another_precision():
    for precision in ("float32", "bfloat16"):
        assert LossScale(Device(precision=precision)).state() == {}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_training_that_pauses_after_each_batch_is_an_uninterrupted_one(name):
    learner = learner_of(four(), name=name)
    for x, y in batches():
        learner.step(x, y)
    state = None
    for x, y in batches():
        other = learner_of(four(), name=name)
        if state is not None:
            other.resume(SuspendedTraining(over_the_wire(state)))
        other.step(x, y)
        state = dict(other.pause().state())
    assert state["loss_scale"].tolist() == [INITIAL, len(batches())]
    assert torch.equal(state["body"], learner.weights()["body"])


def overflowing():
    """A model whose scaled gradients overflow float16 until the scale is small enough."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.zeros_(model[1].weight)
    return model, torch.full((8, 1, 8, 8), 40.0), torch.zeros(8, dtype=torch.int64)


def test_a_batch_whose_gradients_overflow_is_left_out_and_halves_the_scale():
    model, x, y = overflowing()
    before = write_floats(model)
    learner = learner_of(model)
    learner.step(x, y)
    assert torch.equal(write_floats(model), before)
    assert scale_in(learner) == [INITIAL / 2, 0]


def test_a_round_begins_with_a_fresh_scale():
    model, x, y = overflowing()
    learner = learner_of(model)
    learner.step(x, y)
    learner.begin(write_floats(model))
    assert scale_in(learner) == [INITIAL, 0]


def test_gradients_that_are_sent_back_are_those_of_the_loss_itself():
    x, y = batches()[0]
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    plain, scaled = (
        learner_of(copy.deepcopy(model), device).train_for_gradient(x, y) for device in (Device(), FLOAT16)
    )
    assert scaled.dtype == torch.float32
    assert (plain - scaled).norm() < 0.01 * plain.norm()


def test_activations_whose_gradients_overflow_are_trained_on_with_a_smaller_scale():
    """They are not refused: they are finite, and only their scaled gradients were not."""
    model, x, y = overflowing()
    before = write_floats(model)
    learner = learner_of(model)
    assert learner.train_for_gradient(x, y) is not None
    assert not torch.equal(write_floats(model), before)
    assert scale_in(learner)[0] < INITIAL


def test_activations_that_are_not_finite_are_refused_all_the_same():
    model, x, y = overflowing()
    learner = learner_of(model)
    assert learner.train_for_gradient(x * float("inf"), y) is None
    assert learner.train_for_gradient(x * 1e30, y) is None


def test_what_has_nothing_to_train_takes_no_step():
    learner = learner_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 10).requires_grad_(False)))
    learner.step(*batches()[0])
    learner.train_by_gradient(batches()[0][0], torch.ones(8, 10))
    assert scale_in(learner) == [INITIAL, 0]
