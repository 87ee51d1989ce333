"""An agent gets its own samples from a source, and all of them together the whole data set."""

import numpy as np
import pytest
import torch

from comdml_flwr.agents.agent import Agent
from comdml_flwr.learning.data.source import Place, TensorSamples, partitioned
from comdml_flwr.planning.types import SERVER
from tests.small import few_digits, small_config, small_fleet, small_setup

PARTS = [np.arange(0, 200, 2), np.arange(1, 100, 2), np.arange(101, 200, 2)]


def at(number: int) -> Place:
    return Place(partition_id=number, num_partitions=len(PARTS))


def test_each_place_gets_its_part_and_the_test_samples_of_all():
    data, source = few_digits(), partitioned(few_digits(), PARTS)
    for number, part in enumerate(PARTS):
        own = source(at(number))
        train, test = own.train, own.test
        assert own.all_have_test
        assert len(train) == len(part)
        x, y = train.part(0, len(train))
        assert torch.equal(x, data.x_train_NCHW[part])
        assert torch.equal(y, data.y_train_N[part])
        assert test.x is data.x_test_NCHW
        assert test.targets is data.y_test_N


def test_a_batch_is_at_places_of_its_own_samples():
    data = few_digits()
    train = partitioned(data, PARTS)(at(2)).train
    x, y = train.batch(torch.tensor([3, 0]))
    assert torch.equal(x, data.x_train_NCHW[[107, 101]])
    assert torch.equal(y, data.y_train_N[[107, 101]])


@pytest.mark.parametrize("rows_N", [None, torch.tensor([4, 1, 2])])
def test_parts_cover_samples_once_and_none_is_empty(rows_N):
    samples = TensorSamples(torch.arange(10).reshape(5, 2), torch.arange(5), rows_N)
    whole = samples.batch(torch.arange(len(samples)))
    pieces = [samples.part(0, 1), samples.part(1, len(samples))]
    for index in (0, 1):
        assert torch.equal(torch.cat([piece[index] for piece in pieces]), whole[index])
    assert torch.equal(samples.all_targets(), whole[1])
    assert len(samples.none()) == 0


def test_all_of_a_data_set_is_not_copied():
    samples = TensorSamples(torch.arange(10).reshape(5, 2), torch.arange(5))
    x, targets = samples.part(1, 3)
    assert (x.untyped_storage(), targets.untyped_storage()) == (
        samples.x.untyped_storage(),
        samples.targets.untyped_storage(),
    )


def test_a_setup_asks_for_an_agents_own_data_alone_and_once():
    setup = small_setup(small_config(method="fedavg"), small_fleet(3))
    assert setup.loaded == {}
    agent = Agent(1, setup)
    assert agent.training_data is agent.training_data
    assert setup.loaded.keys() == {1}
    assert agent.num_samples == setup.num_samples[1]
    server = Agent(SERVER, setup)
    assert (server.num_samples, server.data.test) == (0, Agent(0, setup).data.test)
    assert server.describe_data() == {"num_samples": 0, "label_counts": []}
