"""Training can be put down and taken up; the two sides of a split model do not wait for each other."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.wire import decode, encode
from comdml_flwr.learning.data.source import TensorSamples, in_parts
from comdml_flwr.learning.models.resnet import resnet
from comdml_flwr.learning.optimizer import OptimizerSettings
from comdml_flwr.learning.split import load_floats, split, write_floats
from comdml_flwr.learning.suspended import SuspendedTraining
from comdml_flwr.learning.task import Classification
from comdml_flwr.learning.tasks.heads import head_for_samples
from comdml_flwr.learning.training import Learner
from tests.small import four_stages

SHAPE, CLASSES, CUT = (1, 8, 8), 10, 2
TASK = Classification(input_shape=SHAPE, num_classes=CLASSES)
SETTINGS = {
    "sgd": OptimizerSettings(name="sgd", learning_rate=0.05, momentum=0.9, weight_decay=1e-3),
    "sgd without momentum": OptimizerSettings(name="sgd", learning_rate=0.05, momentum=0.0),
    "adam": OptimizerSettings(name="adam", learning_rate=0.005, weight_decay=1e-3),
    "adamw": OptimizerSettings(name="adamw", learning_rate=0.005, weight_decay=0.1, decay_norms=False),
}


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def four(seed=1):
    return four_stages(SHAPE, CLASSES, seeded(seed))


def small_resnet(seed=1):
    """A network whose weights lie channels-last in memory, as those of the built-in models do."""
    return resnet(SHAPE, CLASSES, seeded(seed), blocks_per_group=1)


def head_of(activations):
    return head_for_samples("pool", tuple(activations.shape[1:]), CLASSES, seeded(7))


def batches(count=6, size=8):
    draw = seeded(3)
    return [
        (torch.randn(size, *SHAPE, generator=draw), torch.randint(CLASSES, (size,), generator=draw))
        for _ in range(count)
    ]


def over_the_wire(state):
    """What becomes of a state that is written to a file and read by another process."""
    blob = bytearray(encode({name: tensor.numpy() for name, tensor in state.items()}, {}))
    return {name: torch.from_numpy(np.array(array)) for name, array in decode(blob)[0].items()}


@pytest.mark.parametrize(
    ("carried", "settings"),
    [
        *(pytest.param(over_the_wire, settings, id=f"over the wire-{n}") for n, settings in SETTINGS.items()),
        pytest.param(dict, SETTINGS["adam"], id="in memory-adam"),  # all: test_learner_pool.py
    ],
)
@pytest.mark.parametrize("build", [four, small_resnet])
@pytest.mark.parametrize("with_head", [False, True], ids=["whole", "slow side"])
def test_a_training_put_down_and_taken_up_is_an_uninterrupted_one_to_the_bit(
    build, settings, carried, with_head
):
    def parts():
        model = build()
        slow_side = split(model, CUT)[0]
        return (slow_side, head_of(slow_side(batches()[0][0]))) if with_head else (model, None)

    body, head = parts()
    load_first = write_floats(body)  # with_head: the forward above has moved BatchNorm's statistics
    learner = Learner(body, head, settings, TASK)
    for x, y in batches():
        learner.train_batch(x, y)
    uninterrupted = learner.weights()

    state = None
    for x, y in batches():  # each batch in another process: new modules, and what was put down
        body, head = parts()
        if state is None:
            load_floats(body, load_first)
        else:
            for module in (body, *([head] if head else [])):
                load_floats(module, torch.full_like(write_floats(module), 9.0))
        learner = Learner(body, head, settings, TASK)
        if state is not None:
            learner.resume(SuspendedTraining(state))
        learner.train_batch(x, y)
        state = carried(learner.pause().state())

    assert uninterrupted.keys() == ({"body", "head"} if with_head else {"body"})
    for name, weights in uninterrupted.items():
        assert torch.equal(state[name], weights), name


def test_a_training_that_goes_on_does_not_write_into_what_it_was_resumed_from():
    learner = Learner(four(), None, SETTINGS["adam"], TASK)
    learner.train_batch(*batches()[0])
    state = learner.pause().state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    learner.resume(SuspendedTraining(state)).train_batch(*batches()[1])
    assert all(torch.equal(state[name], before[name]) for name in state)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_law_above_has_teeth(name):
    """Without the optimizer's state the same training ends elsewhere."""
    ends = []
    for forget in (False, True):
        learner, state = Learner(four(), None, SETTINGS[name], TASK), None
        for x, y in batches():
            if state is not None:
                learner.resume(SuspendedTraining(state))
            learner.train_batch(x, y)
            weights = learner.weights()
            state = weights if forget else learner.pause().state()
        ends.append(weights["body"])
    assert not torch.equal(*ends)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_finished_training_keeps_its_weights_and_nothing_of_the_optimizer(name):
    model = four()
    learner = Learner(model, head_of(torch.empty(1, 10)), SETTINGS[name], TASK)
    learner.train_batch(*batches()[0])
    assert learner.weights().keys() == {"body", "head"}
    in_training = learner.pause().state().keys() - {"body", "head"}
    assert all(key.startswith("optimizer/") for key in in_training)
    assert bool(in_training) == (name != "sgd without momentum")


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_step_is_the_one_that_plain_torch_takes(settings):
    """Over body and head: the loss is the head's, and both learn from it."""
    (x, y), *_ = batches()
    body, reference = split(four(), CUT)[0], split(four(), CUT)[0]
    head, reference_head = head_of(torch.empty(1, 16)), head_of(torch.empty(1, 16))
    learner = Learner(body, head, settings, TASK)
    _, loss = learner.train_batch(x, y)

    chain = nn.Sequential(reference, reference_head).train()
    optimizer = settings.start(list(chain.parameters()))
    expected = cross_entropy(chain(x), y)
    expected.backward()
    optimizer.step()
    assert torch.equal(loss, expected)
    assert torch.equal(write_floats(body), write_floats(reference))
    assert torch.equal(write_floats(head), write_floats(reference_head))


@pytest.mark.parametrize(
    ("settings", "kind", "values"),
    [
        (SETTINGS["sgd"], torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}),
        (SETTINGS["adam"], torch.optim.Adam, {"lr": 0.005, "betas": (0.9, 0.999), "weight_decay": 1e-3}),
    ],
)
def test_the_settings_reach_the_optimizer(settings, kind, values):
    optimizer = settings.start(list(four().parameters()))
    assert type(optimizer) is kind
    assert {name: optimizer.param_groups[0][name] for name in values} == values


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(InputError, match=r"^optimizer = 'rmsprop': must be 'sgd', 'adam' or 'adamw'$"):
        Learner(four(), None, OptimizerSettings(name="rmsprop"), TASK)


def train_split(fast_seed, fast_rate, *, fast_trains=True):
    """Train both sides by local loss on the same batches; return the slow and the fast side's floats."""
    slow_side = split(four(), CUT)[0]
    fast_side = split(four(fast_seed), CUT)[1]
    slow = Learner(slow_side, head_of(torch.empty(1, 16)), SETTINGS["sgd"], TASK)
    fast = Learner(fast_side, None, OptimizerSettings(learning_rate=fast_rate), TASK)
    for x, y in batches():
        z, _ = slow.train_batch(x, y)
        if fast_trains:
            fast.train_batch(z, y)
    return write_floats(slow_side), write_floats(fast_side)


def test_the_slow_side_does_not_depend_on_the_fast_side():
    slow, fast = train_split(fast_seed=1, fast_rate=0.05)
    for other_slow, other_fast in (
        train_split(fast_seed=2, fast_rate=0.5),
        train_split(fast_seed=1, fast_rate=0.05, fast_trains=False),
    ):
        assert torch.equal(slow, other_slow)
        assert not torch.equal(fast, other_fast)


def test_the_fast_side_learns_from_the_activations_of_the_slow_side():
    (x, y), *_ = batches()
    slow_side, fast_side = split(four(), CUT)
    z, _ = Learner(slow_side, head_of(torch.empty(1, 16)), SETTINGS["sgd"], TASK).train_batch(x, y)
    expected = cross_entropy(fast_side(z), y)
    _, loss = Learner(fast_side, None, SETTINGS["sgd"], TASK).train_batch(z, y)
    assert torch.equal(loss, expected)


def test_activations_are_those_before_the_step_and_carry_no_graph():
    (x, y), *_ = batches()
    slow_side, fast_side = split(four(), CUT)
    with torch.no_grad():
        before = copy.deepcopy(slow_side).train()(x)
    z, loss = Learner(slow_side, head_of(before), SETTINGS["sgd"], TASK).train_batch(x, y)
    assert torch.equal(z, before)
    for tensor in (z, loss):
        assert tensor.grad_fn is None
        assert not tensor.requires_grad
        assert tensor.is_leaf

    gradients = [parameter.grad.clone() for parameter in slow_side.parameters()]
    Learner(fast_side, None, SETTINGS["sgd"], TASK).train_batch(z, y)
    for parameter, gradient in zip(slow_side.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient), "no gradient comes back"
    assert z.grad is None


def test_a_gradient_lives_for_one_batch():
    """Gradients that add up would be another optimizer."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    learner = Learner(model, None, OptimizerSettings(learning_rate=0.0), TASK)
    learner.train_batch(*batches()[0])
    first = [parameter.grad.clone() for parameter in model.parameters()]
    learner.train_batch(*batches()[0])
    assert all(torch.equal(p.grad, grad) for p, grad in zip(model.parameters(), first, strict=True))


class Named(nn.Module):
    """Logits as they come in: a model whose answers are known."""

    def forward(self, x):
        return x


def evaluate(model, x, y, batch_size=256):
    is_training = model.training
    learner = Learner(model, None, SETTINGS["sgd"], TASK)
    model.train(is_training)
    sums = learner.evaluate(in_parts(TensorSamples(x, y), 0, len(x), batch_size))
    assert model.training == is_training
    assert sums["num_evaluated"] == len(x)
    return sums["correct"], sums["loss_sum"]


def test_evaluate_counts_what_is_right_and_sums_the_losses():
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5], [0.6, 0.3, 0.1]]))
    correct, loss_sum = evaluate(nn.Sequential(Named()), logits, torch.tensor([0, 2, 2, 1]))
    assert (correct, type(correct)) == (2, int)
    assert loss_sum == pytest.approx(-np.log([0.7, 0.1, 0.5, 0.3]).sum(), rel=1e-6)
    assert isinstance(loss_sum, float)


@pytest.mark.parametrize("batch_size", [1, 7, 20, 1000])
def test_evaluation_in_parts_counts_every_sample_once(batch_size):
    draw = seeded(5)
    x, y = torch.randn(20, *SHAPE, generator=draw), torch.randint(CLASSES, (20,), generator=draw)
    model = four().eval()
    with torch.no_grad():
        logits = model(x)
    correct, loss_sum = evaluate(model, x, y, batch_size)
    assert correct == int((logits.argmax(1) == y).sum())
    assert loss_sum == pytest.approx(float(cross_entropy(logits, y, reduction="sum")), rel=1e-5)


def test_evaluating_nothing_gives_nothing():
    """With more agents than test samples some have none."""
    assert evaluate(four(), torch.empty(0, *SHAPE), torch.empty(0, dtype=torch.int64)) == (0, 0.0)


def test_evaluate_changes_nothing_and_does_not_depend_on_the_mode():
    model = four()
    for x, y in batches(2):  # BatchNorm's statistics are somewhere
        Learner(model, None, SETTINGS["sgd"], TASK).train_batch(x, y)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    x, y = batches()[5]
    results = [evaluate(model.train(mode), x, y) for mode in (True, False)]
    assert results[0] == results[1]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))


def test_a_model_trains_on_after_an_evaluation():
    """Evaluation leaves a model in another mode; a learner must not take that over."""
    model = four()
    evaluate(model, *batches()[0])
    Learner(model, None, SETTINGS["sgd"], TASK).train_batch(*batches()[0])
    other = four()
    Learner(other, None, SETTINGS["sgd"], TASK).train_batch(*batches()[0])
    assert torch.equal(write_floats(model), write_floats(other))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_learner_that_begins_anew_is_a_new_one_to_the_bit(settings):
    """No trace of the training before: weights, head, optimizer, mode."""

    def trained(learner):
        for x, y in batches():
            learner.train_batch(x, y)
        return learner.weights()

    model = small_resnet()
    slow_side = split(model, CUT)[0]
    head = head_of(slow_side(batches()[0][0]))
    body_P, head_P = write_floats(slow_side), write_floats(head)
    learner, whole = Learner(slow_side, head, settings, TASK), Learner(model, None, settings, TASK)
    first = trained(learner.begin(body_P, head_P))
    suspend = learner.pause().state()
    kept = {name: value.clone() for name, value in suspend.items()}
    evaluate(whole.load(torch.zeros(whole.num_floats)), *batches()[0])  # in the same modules
    again = trained(learner.begin(body_P, head_P))
    assert all(torch.equal(suspend[name], kept[name]) for name in kept), (
        "nobody writes into what was put down"
    )
    third = trained(learner.begin(body_P, head_P))
    assert all(torch.equal(first[name], third[name]) for name in first)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("with_head", [False, True], ids=["whole", "slow side"])
def test_a_hook_changes_the_gradients_that_the_step_takes(with_head):
    """Weight decay by a hook is the optimizer's own."""

    def trained(settings, hook=None):
        model = four()
        slow_side = split(model, CUT)[0]
        head = head_of(slow_side(batches()[0][0])) if with_head else None
        learner = Learner(slow_side if with_head else model, head, settings, TASK)
        for x, y in batches():
            learner.train_batch(x, y, hook=hook)
        return torch.cat([*learner.weights().values()])

    def decay(parameters):
        for parameter in parameters:
            parameter.grad += 0.1 * parameter.detach()

    plain = OptimizerSettings(name="sgd", learning_rate=0.05, momentum=0.9)
    expected = trained(OptimizerSettings(name="sgd", learning_rate=0.05, momentum=0.9, weight_decay=0.1))
    torch.testing.assert_close(trained(plain, decay), expected)
    assert not torch.allclose(trained(plain), expected)
