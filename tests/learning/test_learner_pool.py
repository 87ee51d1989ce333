"""A training that pauses is an uninterrupted one to the bit, whoever trains in the same modules meanwhile."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest
import torch
from torch import nn

from comdml_flwr.learning.device import Device
from comdml_flwr.learning.learner_pool import LearnerPool
from comdml_flwr.learning.optimizer import OptimizerSettings
from comdml_flwr.learning.split import FlatFloats, write_floats
from comdml_flwr.learning.tasks.heads import head_for_samples
from tests.learning.test_training import CLASSES, SETTINGS, TASK, batches, seeded, small_resnet

CUT = 4  # both sides have BatchNorm, whose statistics a pass moves


def new_pool(settings):
    return LearnerPool(
        small_resnet, lambda cut: TASK.aux_head(head_shape(cut), seeded(7)), settings, TASK, Device()
    )


@cache
def head_shape(cut):
    x, _ = batches()[0]
    return tuple(small_resnet()[:-cut](x).shape[1:])


WEIGHTS = write_floats(small_resnet(2))


def whole(learners):
    return learners.whole(), (WEIGHTS,), batches()


def slow_side(learners):
    learner = learners.slow_side(CUT)
    head_P = write_floats(head_for_samples("pool", head_shape(CUT), CLASSES, seeded(8)))
    return learner, (WEIGHTS[: learner.num_floats], head_P), batches()


def fast_side(learners):
    learner = learners.fast_side(CUT)
    return learner, (WEIGHTS[-learner.num_floats :],), activations()


@cache
def activations():
    lower = small_resnet(4)[:-CUT]
    return [(lower(x).detach(), y) for x, y in batches()]


TRAININGS = [whole, slow_side, fast_side]


def nobody(learners):
    """Nobody comes between."""


def an_evaluation(learners):
    learners.whole().load(torch.ones_like(WEIGHTS))


def a_look(learners):
    """A forward pass in training mode, which moves BatchNorm's statistics; of SplitFed."""
    for learner, (x, _) in ((learners.whole(), batches()[5]), (learners.lower_part(CUT), batches()[4])):
        learner.forward(x)


def another_training(learners):
    for training in TRAININGS:
        learner, weights, data = training(learners)
        learner.begin(*weights)
        learner.train_batch(*data[-1])
        learner.pause()


def in_another_thread(learners):
    """The agent goes on in a thread whose modules are others."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(another_training, learners).result()


WITH_EACH_OPTIMIZER = [nobody, another_training]
WITH_ONE = [an_evaluation, a_look, in_another_thread]  # the optimizer has no part in what these do
MEANWHILE = [
    pytest.param(meanwhile, settings, id=f"{meanwhile.__name__}-{name}")
    for name, settings in SETTINGS.items()
    for meanwhile in (WITH_EACH_OPTIMIZER + WITH_ONE if name == "adam" else WITH_EACH_OPTIMIZER)
]


@cache
def uninterrupted(training, settings):
    """Return the weights that a training without a pause ends with."""
    learner, weights, data = training(new_pool(settings))
    learner.begin(*weights)
    for x, y in data:
        learner.train_batch(x, y)
    return learner.weights()


@pytest.mark.parametrize(("meanwhile", "settings"), MEANWHILE)
@pytest.mark.parametrize("training", TRAININGS, ids=lambda training: training.__name__)
def test_a_training_that_pauses_after_each_batch_is_an_uninterrupted_one(training, meanwhile, settings):
    learners = new_pool(settings)
    learner, weights, data = training(learners)
    learner.begin(*weights)
    for x, y in data:
        learner.train_batch(x, y)
        paused = learner.pause()
        meanwhile(learners)
        learner.resume(paused)
    end = uninterrupted(training, settings)
    assert all(torch.equal(value, end[name]) for name, value in learner.weights().items())


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_trainings_that_take_turns_in_the_same_modules_do_not_disturb_each_other(settings):
    learners, paused = new_pool(settings), {}
    ends = {training: uninterrupted(training, settings) for training in (whole, slow_side)}
    for number in range(len(batches())):
        for training in ends:
            learner, weights, data = training(learners)
            learner.resume(paused[training]) if paused.get(training) else learner.begin(*weights)
            learner.train_batch(*data[number])
            paused[training] = learner.pause()
    for training, end in ends.items():
        state = paused[training].state()
        assert all(torch.equal(state[name], value) for name, value in end.items()), training.__name__


@pytest.mark.parametrize("training", TRAININGS, ids=lambda training: training.__name__)
def test_a_training_goes_on_in_the_modules_of_another_thread(training):
    learners = new_pool(SETTINGS["adam"])
    learner, weights, data = training(learners)
    learner.begin(*weights)
    for x, y in data[:3]:
        learner.train_batch(x, y)
    paused = learner.pause()

    def go_on():
        other, _, data = training(learners)
        other.resume(paused)
        for x, y in data[3:]:
            other.train_batch(x, y)
        return other.weights()

    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(go_on).result()
    end = uninterrupted(training, SETTINGS["adam"])
    assert all(torch.equal(value, end[name]) for name, value in there.items())


def test_a_helper_that_trains_both_models_by_turns_copies_neither(monkeypatch):
    learners = new_pool(SETTINGS["adam"])
    both = [whole(learners), fast_side(learners)]
    paused = []
    for learner, weights, data in both:
        learner.begin(*weights).train_batch(*data[0])
        paused.append(learner.pause())
    monkeypatch.setattr(FlatFloats, "load", None)
    monkeypatch.setattr(FlatFloats, "write", None)
    monkeypatch.setattr(torch.optim.Optimizer, "load_state_dict", None)
    for number in range(1, 4):
        for place, (learner, _, data) in enumerate(both):
            learner.resume(paused[place]).train_batch(*data[number])
            paused[place] = learner.pause()


def test_nobody_writes_into_what_was_put_down():
    learners = new_pool(SETTINGS["adam"])
    learner, weights, data = whole(learners)
    learner.begin(*weights).train_batch(*data[0])
    paused = learner.pause()
    kept = {name: value.clone() for name, value in paused.state().items()}
    another_training(learners)
    learner.begin(*weights).train_batch(*data[1])
    assert all(torch.equal(value, kept[name]) for name, value in paused.state().items())


def test_a_training_is_resumed_once():
    """It would go on from where the first one is."""
    learners = new_pool(SETTINGS["adam"])
    learner, weights, _ = whole(learners)
    paused = learner.begin(*weights).pause()
    learner.resume(paused)
    with pytest.raises(AssertionError, match="resumed before"):
        learner.resume(paused)


def test_a_learner_pool_builds_once_and_gives_each_thread_its_own():
    built = []

    def build(*cut):
        built.append((threading.get_ident(), *cut))
        return nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1))

    learners, barrier = LearnerPool(build, build, OptimizerSettings(), TASK, Device()), threading.Barrier(3)

    def look():
        sides = learners.slow_side(1), learners.slow_side(2), learners.fast_side(1)
        return learners.whole(), *sides, learners.lower_part(1)

    def work(_):
        barrier.wait(timeout=10)  # three threads, not one after the other in the same
        first = look()
        assert look() == first
        return first

    with ThreadPoolExecutor(3) as pool:
        found = [*pool.map(work, range(3)), look()]
    assert len({id(learner) for learners in found for learner in learners}) == 4 * 5
    assert len(built) == 4 * 4, "two models and two heads in each thread"
    assert {count for *_, count in Counter(built).items()} == {1, 2}
    for whole, slow_side, _, fast_side, lower_part in found:
        assert [*slow_side.body] == [*whole.body][: len(slow_side.body)] == [*lower_part.body]
        assert len(slow_side.body) + len(fast_side.body) == len(whole.body)
        assert not {*fast_side.body} & {*whole.body}, "a helper trains both by turns"
