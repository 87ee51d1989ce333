"""A node's speed is measured on the run's own model, and the run does not notice."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.measuring.compute import seconds_per_batch, sustained_seconds_per_batch
from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.device import Device
from comdml_flwr.learning.learner_pool import LearnerPool
from comdml_flwr.learning.training import Learner
from comdml_flwr.methods.phases.training import train_whole
from comdml_flwr.runs.assemble import assemble
from comdml_flwr.runs.catalogue import Catalogue
from tests.small import CATALOGUE, four_stages, small_config, small_fleet, small_setup


def trained(setup, agent=0):
    one = Agent(agent, setup)
    one.begin_round(1)
    train_whole(one)
    return one.tensors["own/body"]


def with_dropout(shape, num_classes, generator):
    stages = four_stages(shape, num_classes, generator)
    stages[2].append(nn.Dropout(0.5))
    return stages


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_gives_the_same_bits_after_a_measurement_and_before(optimizer):
    config = small_config(optimizer=optimizer)
    undisturbed = trained(small_setup(config, small_fleet(2)))
    setup = small_setup(config, small_fleet(2))
    before = {name: tensor.clone() for name, tensor in setup.learners.model.state_dict().items()}
    seconds_per_batch(setup, 0)
    assert all(
        torch.equal(tensor, before[name]) for name, tensor in setup.learners.model.state_dict().items()
    )
    assert torch.equal(trained(setup), undisturbed)
    seconds_per_batch(setup, 1)
    assert torch.equal(trained(setup), undisturbed)


def test_a_measurement_in_the_middle_of_a_training_changes_nothing():
    setup = small_setup(small_config(), small_fleet(2))
    one = Agent(0, setup)
    one.begin_round(1)
    half = len(one.batches()) // 2
    train_whole(one, range(half))
    seconds_per_batch(setup, 0)
    train_whole(one, range(half, len(one.batches())))
    assert torch.equal(one.tensors["own/body"], trained(small_setup(small_config(), small_fleet(2))))


@pytest.mark.parametrize("augment", [False, True])
def test_it_draws_nothing_from_the_global_random_state(augment):
    catalogue = Catalogue(models={"four-stages": with_dropout}, datasets=CATALOGUE.datasets)
    setup = assemble(small_config(), small_fleet(2), 2, catalogue)
    setup = dataclasses.replace(setup, task=dataclasses.replace(setup.task, augmented=augment))
    before = torch.get_rng_state()
    seconds_per_batch(setup, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_median_is_of_the_batches_after_the_first(monkeypatch):
    setup, clock = small_setup(small_config(), small_fleet(2)), iter([10, 12, 20, 21, 30, 33])
    monkeypatch.setattr("comdml_flwr.agents.measuring.compute.time.perf_counter", lambda: next(clock))
    assert seconds_per_batch(setup, 0, num_batches=3) == 2  # of 2, 1 and 3


@pytest.mark.parametrize(
    ("took_s", "mean_s"),
    [([0.1, 0.5, 0.1, 0.5], 0.3), ([2.0, 3.0, 7.0], 4.0)],
    ids=["until a second is over", "but three batches"],
)
def test_a_machine_that_stands_still_now_and_then_is_measured_by_the_mean(took_s, mean_s, monkeypatch):
    looks = [look for seconds in took_s for look in (0.0, seconds)]
    monkeypatch.setattr("comdml_flwr.agents.measuring.compute.time.perf_counter", lambda: looks.pop(0))
    found_s = sustained_seconds_per_batch(small_setup(small_config(), small_fleet(2)), 0, least_s=1.0)
    assert found_s == pytest.approx(mean_s)
    assert looks == []


@pytest.mark.parametrize("num_samples", [1, 3, 8, 100])
def test_what_is_timed_is_a_full_batch_of_the_agents_own_samples(num_samples, monkeypatch):
    setup = small_setup(small_config(threads_per_agent=1), small_fleet(2))
    own = np.arange(40, 40 + num_samples)
    whole = setup.data(1)
    few = dataclasses.replace(whole.train, rows_N=torch.from_numpy(own))
    setup = dataclasses.replace(setup, loaded={1: dataclasses.replace(whole, train=few)})
    seen = []
    real = LearnerPool.whole_apart

    def watched(bench):
        learner = real(bench)
        train = learner.step
        learner.step = lambda x, y_N: (seen.append((x, y_N)), train(x, y_N))[1]
        return learner

    monkeypatch.setattr(LearnerPool, "whole_apart", watched)
    seconds_per_batch(setup, 1, num_batches=2)
    assert len(seen) == 3
    for x_NCHW, y_N in seen:
        assert len(x_NCHW) == len(y_N) == setup.config.batch_size
        assert set(y_N.tolist()) <= set(few.part(0, num_samples)[1].tolist())


def test_fifty_times_the_batch_takes_longer():
    few, many = (
        small_setup(small_config(batch_size=size, threads_per_agent=1), small_fleet(1)) for size in (4, 200)
    )
    assert seconds_per_batch(many, 0, 5) > seconds_per_batch(few, 0, 5)


def test_no_batch_is_no_measurement():
    with pytest.raises(InputError, match="num_batches = 0: must be at least 1"):
        seconds_per_batch(small_setup(small_config(), small_fleet(1)), 0, num_batches=0)


def test_the_stopwatch_waits_for_the_device_before_and_after_each_batch(monkeypatch):
    """A GPU takes work and trains on: without waiting, only the time of handing it over would be measured."""
    seen = []
    monkeypatch.setattr(Device, "synchronize", lambda device: seen.append("wait"))
    real = Learner.step
    monkeypatch.setattr(Learner, "step", lambda *given: (seen.append("train"), real(*given)))
    seconds_per_batch(small_setup(small_config(), small_fleet(2)), 1, num_batches=2)
    assert seen == ["train", *["wait", "train", "wait"] * 2]


def test_a_training_that_is_not_measured_waits_for_nothing(monkeypatch):
    seen = []
    monkeypatch.setattr(Device, "synchronize", lambda device: seen.append("wait"))
    trained(small_setup(small_config(), small_fleet(2)))
    assert not seen
