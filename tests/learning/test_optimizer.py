"""What a step does beside the optimizer's own: which weights decay, and how long a gradient may be."""

import pytest
import torch
from torch import nn

from comdml_flwr.learning.optimizer import OptimizerSettings
from comdml_flwr.learning.task import Classification
from comdml_flwr.learning.training import Learner

TASK = Classification(input_shape=(4,), num_classes=3)
X = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
Y = torch.arange(6) % 3


def model():
    """Linear and norm layers, each with a bias."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 3))


def stepped(**keys):
    """Return a model and what one step made of it."""
    trained = model()
    Learner(trained, None, OptimizerSettings(learning_rate=0.1, momentum=0.0, **keys), TASK).train_batch(X, Y)
    return trained


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_biases_and_norm_layers_decay_only_if_they_are_to(name):
    plain, all_decay = stepped(name=name), stepped(name=name, weight_decay=0.5)
    some_decay = stepped(name=name, weight_decay=0.5, decay_norms=False)
    for (key, x), decayed, spared in zip(
        plain.named_parameters(), all_decay.parameters(), some_decay.parameters(), strict=True
    ):
        assert torch.equal(spared, decayed if x.dim() > 1 else x), key
    assert not torch.equal(plain[1].weight, all_decay[1].weight)


def test_adamw_decays_apart_from_the_gradient():
    def bare(weight_decay):
        return stepped(name="adamw", weight_decay=weight_decay)[0].weight

    decay = model()[0].weight * 0.1 * 0.5
    torch.testing.assert_close(bare(0.0) - bare(0.5), decay)


def test_a_part_with_biases_alone_trains():
    body = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3))
    body[1].weight.requires_grad_(False)
    before = body[0].weight.clone()
    Learner(body, None, OptimizerSettings(decay_norms=False), TASK).train_batch(X, Y)
    assert not torch.equal(body[0].weight, before)


def moved(clip_norm):
    before = [p.clone() for p in model().parameters()]
    after = stepped(clip_norm=clip_norm).parameters()
    return torch.cat([(a - b).detach().flatten() for a, b in zip(after, before, strict=True)])


def test_a_long_gradient_is_scaled_down_and_a_short_one_stays():
    free = moved(0.0)
    length = float(free.norm()) / 0.1
    assert torch.equal(moved(2 * length), free)
    clipped = moved(length / 4)
    torch.testing.assert_close(clipped, free / 4, rtol=1e-3, atol=1e-7)


def test_both_sides_of_splitfed_are_clipped():
    """The server side steps by its own loss, the client side by a gradient that it is given."""
    settings = OptimizerSettings(learning_rate=0.1, momentum=0.0, clip_norm=1e-3)
    for part in (model(), nn.Sequential(nn.Linear(4, 5))):
        before = torch.cat([p.detach().flatten() for p in part.parameters()])
        learner = Learner(part, None, settings, TASK)
        if len(part) == 1:
            learner.train_by_gradient(X, torch.ones(6, 5))
        else:
            learner.train_for_gradient(X, Y)
        after = torch.cat([p.detach().flatten() for p in part.parameters()])
        assert float((after - before).norm()) == pytest.approx(1e-4, rel=0.01)


def test_a_rate_holds_from_the_next_step_on():
    ends = []
    for rate in (0.1, 0.2):
        trained = model()
        learner = Learner(trained, None, OptimizerSettings(learning_rate=0.1, momentum=0.0), TASK)
        learner.at_rate(rate).train_batch(X, Y)
        ends.append(trained[0].weight.detach() - model()[0].weight.detach())
    torch.testing.assert_close(2 * ends[0], ends[1])
