"""Each task: its sums add up, its head fits its loss, and what is no target is refused in one line."""

import math
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.metrics import add_sums, read_sums
from comdml_flwr.learning.structure import count_samples, flatten, take
from comdml_flwr.learning.task import Classification
from comdml_flwr.learning.tasks.heads import head_for_positions, head_for_samples
from comdml_flwr.learning.tasks.language_model import LanguageModel
from comdml_flwr.learning.tasks.multi_label import MultiLabel
from comdml_flwr.learning.tasks.own_task import OwnTask
from comdml_flwr.learning.tasks.regression import Regression
from comdml_flwr.learning.tasks.segmentation import Segmentation
from tests.learning.tasks.small_tasks import TASKS


def seeded():
    return torch.Generator().manual_seed(1)


@pytest.fixture(params=TASKS)
def case(request):
    task, data_for, build = TASKS[request.param]
    data = data_for(task)
    y = task.check_targets(data.y_train_N, "y")
    return task.for_samples(data.x_train_NCHW, y), data, y, build


def outputs_of(task, num):
    """Return outputs as a model might give them."""
    shapes = {LanguageModel: (6, 7), Segmentation: (2, 8, 8)}
    return torch.randn(num, *shapes.get(type(task), (task.num_outputs,)), generator=seeded())


def test_the_sums_of_parts_give_the_metrics_of_the_whole(case):
    task, _, y, _ = case
    output = outputs_of(task, count_samples(y))
    whole = task.evaluate(output, y)
    parts = [
        task.evaluate(output[rows], take(y, rows)) for rows in (slice(10), slice(10, 11), slice(11, None))
    ]
    added = add_sums(parts, task.metrics)
    assert whole.keys() == task.metrics.nothing.keys() == added.keys()
    assert all(type(zero) is type(whole[name]) for name, zero in task.metrics.nothing.items())
    assert all(map(task.metrics.is_possible, (whole, added, *parts)))
    assert task.metrics.of(added) == pytest.approx(task.metrics.of(whole), rel=1e-5)
    assert task.metrics.of(whole).keys() >= {task.metrics.primary, "loss"}
    assert read_sums(whole, task.metrics) == whole
    assert task.metrics.of(task.metrics.nothing)[task.metrics.primary] is None


def test_the_mean_loss_is_the_loss(case):
    task, _, y, _ = case
    output = outputs_of(task, count_samples(y))
    found = task.metrics.of(task.evaluate(output, y))["loss"]
    assert found == pytest.approx(float(task.loss(output, y)), rel=1e-5)


def test_an_output_of_a_loss_that_is_not_finite_leaves_no_metric_behind(case):
    task, _, y, _ = case
    sums = task.evaluate(outputs_of(task, count_samples(y)) * math.nan, y)
    told = {name: x if math.isfinite(x) else None for name, x in sums.items()}
    assert task.metrics.of(told)["loss"] is None


def test_the_auxiliary_head_of_each_stage_gives_what_the_loss_takes(case):
    task, data, y, build = case
    if isinstance(data.x_train_NCHW, dict):
        return
    z, few = data.x_train_NCHW[:4], take(y, slice(4))
    for stage in build(task.input_shape, task.num_outputs, seeded())[:-1]:
        z = stage(z).detach()
        head, again = (task.aux_head(tuple(z.shape[1:]), seeded()) for _ in range(2))
        assert task.output_rule(tuple(head(z).shape), 4) == ""
        assert torch.equal(head(z), again(z)), "drawn from the generator alone"
        task.loss(head(z), few).backward()
    assert task.sample(3).shape == (3, *data.x_train_NCHW.shape[1:])
    assert task.target_bytes() == sum(t[:1].nbytes for t in flatten(y).values())


def test_several_inputs_have_a_sample_each():
    task, data_for, _ = TASKS["two inputs"]
    sample = data_for(task).to_learn().sample(3)
    assert {name: tuple(x.shape) for name, x in sample.items()} == {"left": (3, 2), "right": (3, 3)}
    assert {x.device.type for x in sample.values()} == {"meta"}


def test_r2_is_one_for_the_truth_and_zero_for_the_mean():
    task, y = Regression(), torch.tensor([[1.0], [2.0], [6.0]])
    for output, r2, mse in ((y, 1.0, 0.0), (torch.full((3, 1), 3.0), 0.0, 14 / 3)):
        assert task.metrics.of(task.evaluate(output, y)) == pytest.approx({"r2": r2, "mse": mse, "loss": mse})
    same = torch.ones(3, 1)
    assert task.metrics.of(task.evaluate(same, same)) == {"r2": None, "mse": 0.0, "loss": 0.0}


def test_the_mean_iou_is_that_of_the_confusion_matrix():
    task = Segmentation(num_classes=3, ignore_index=9)
    labels = torch.tensor([[[0, 0, 1, 9]]])
    told = torch.tensor([[[0, 1, 1, 0]]])
    output = torch.nn.functional.one_hot(told, 3).movedim(-1, 1).float()
    found = task.metrics.of(task.evaluate(output, labels))
    assert (found["mean_iou"], found["pixel_accuracy"]) == pytest.approx((0.5, 2 / 3))
    assert float(task.loss(output, torch.full_like(labels, 9))) == 0


@pytest.mark.parametrize("shift", [True, False])
def test_perplexity_is_the_exponential_of_the_mean_loss_of_the_tokens_that_count(shift):
    task = LanguageModel(num_tokens=5, shift=shift, ignore_index=4)
    ids, logits = torch.tensor([[0, 1, 4, 2], [3, 3, 4, 4]]), torch.randn(2, 4, 5, generator=seeded())
    of, judged = (logits[:, :-1], ids[:, 1:]) if shift else (logits, ids)
    counts = judged != 4
    loss = cross_entropy(of[counts], judged[counts])
    found = task.metrics.of(task.evaluate(logits, ids))
    assert found == pytest.approx({"perplexity": float(loss.exp()), "loss": float(loss)}, rel=1e-5)
    assert task.metrics.better == "lower"
    assert task.metrics.of({"num_evaluated": 1, "num_tokens": 1, "loss_sum": 1e4})["perplexity"] is None


@pytest.mark.parametrize(
    ("kind", "shape", "same"),
    [("pool", (4, 3, 3), (2, 3)), ("conv", (4, 3, 3), None), ("mean", (5, 4), (1,)), ("first", (5, 4), None)],
)
def test_each_kind_of_head_pools_in_its_own_way(kind, shape, same):
    z = torch.randn(2, *shape, generator=seeded())
    head = head_for_samples(kind, shape, 3, seeded())
    output = head(z)
    assert output.shape == (2, 3)
    if same is not None:
        torch.testing.assert_close(output, head[-1](z.mean(same)))
    if kind == "first":
        torch.testing.assert_close(output, head[-1](z[:, 0]))


@pytest.mark.parametrize("shape", [(6,), (6, 5), (6, 5, 4)])
def test_a_pool_takes_any_activation(shape):
    head = head_for_samples("pool", shape, 3, seeded())
    x_N = torch.randn(2, *shape, generator=seeded())
    assert sum(parameter.numel() for parameter in head.parameters()) == 6 * 3 + 3
    mean_ND = x_N.flatten(2).mean(2) if len(shape) > 1 else x_N
    assert torch.equal(head(x_N), head[1](mean_ND))


@pytest.mark.parametrize(
    ("task", "line"),
    [
        (
            partial(Classification, num_classes=1),
            "num_classes of Classification = 1: must be a whole number, at least 2",
        ),
        (
            partial(Classification, num_classes="10"),
            "num_classes of Classification = '10': must be a whole number, at least 2",
        ),
        (
            partial(Classification, num_classes=10.0),
            "num_classes of Classification = 10.0: must be a whole number, at least 2",
        ),
        (
            partial(Classification, num_classes=True),
            "num_classes of Classification = True: must be a whole number, at least 2",
        ),
        (
            partial(Segmentation, num_classes=1),
            "num_classes of Segmentation = 1: must be a whole number, at least 2",
        ),
        (
            partial(MultiLabel, num_labels=0),
            "num_labels of MultiLabel = 0: must be a whole number, at least 1",
        ),
        (
            partial(LanguageModel, num_tokens=1),
            "num_tokens of LanguageModel = 1: must be a whole number, at least 2",
        ),
        (
            partial(Regression, num_outputs=0),
            "num_outputs of Regression = 0: must be a whole number, at least 1",
        ),
    ],
)
def test_a_task_with_nothing_to_learn_is_refused(task, line):
    with pytest.raises(InputError, match=f"^{line}$"):
        task()


@pytest.mark.parametrize("shape", [(), (0, 4)])
def test_a_head_over_nothing_is_refused(shape):
    with pytest.raises(InputError, match="activation shape"):
        head_for_samples("pool", shape, 3, seeded())


def test_the_head_at_each_position_learns_by_what_is_normalised():
    z, head = torch.randn(2, 5, 4, generator=seeded()), head_for_positions((5, 4), 3, seeded())
    torch.testing.assert_close(head(z), head(100 * z), rtol=1e-3, atol=1e-3)
    narrow = head_for_positions((5, 1), 3, seeded())
    assert not torch.allclose(narrow(z[..., :1]), narrow(100 * z[..., :1])), (
        "of one feature, a norm leaves nothing"
    )


def test_a_head_that_does_not_fit_is_refused():
    line = r"activation shape of the auxiliary head 'conv' = \(4,\): must be \(D, H, W\)"
    with pytest.raises(InputError, match=line):
        head_for_samples("conv", (4,), 3, seeded())


@pytest.mark.parametrize(
    ("task", "targets", "line"),
    [
        (Regression(num_outputs=2), torch.ones(3), "shape \\(3,\\)': must be \\(samples, 2\\)"),
        (Regression(), torch.tensor([math.nan]), "must be finite in every sample"),
        (MultiLabel(num_labels=2), torch.ones(3, 3), "must be \\(samples, 2\\): 0 or 1 for each label"),
        (MultiLabel(num_labels=2), torch.full((1, 2), 2), "y = 2.0: must be 0 or 1"),
        (Segmentation(num_classes=2), torch.ones(3, 3), "must be \\(samples, height, width\\)"),
        (
            Segmentation(num_classes=2),
            torch.full((1, 1, 1), 2),
            "y = 2: must be from 0 to 1, or",
        ),
        (LanguageModel(num_tokens=2), torch.ones(3, 3), "whole numbers: a token each"),
        (LanguageModel(num_tokens=2), torch.full((1, 1), -1), "y = -1: must be from 0 to 1, or ignore_index"),
    ],
)
def test_what_is_no_target_is_refused(task, targets, line):
    with pytest.raises(InputError, match=line):
        task.check_targets(targets, "y")


OWN = {
    "loss": lambda output, target: output.mean(),
    "sums": lambda output, target: {"other": 1.0},
    "sum_names": ["error"],
    "combine": lambda sums: {"ratio": 1 / sums["error"]},
    "metric": "ratio",
    "num_outputs": 1,
}


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"better": "more"}, "better of OwnTask = 'more': must be 'higher' or 'lower'"),
        (
            {"metric": "loss"},
            "metric of OwnTask = 'loss': must be a name, and none of",
        ),
        ({"sum_names": ["a b"]}, "sum_names of OwnTask = 'a b': must be a name"),
        ({"num_outputs": 0}, "num_outputs of OwnTask = 0: must be at least 1"),
    ],
)
def test_an_own_task_that_cannot_be_is_refused(keys, line):
    with pytest.raises(InputError, match=line):
        OwnTask(**{**OWN, **keys})


def test_an_own_tasks_sums_are_those_that_it_names():
    with pytest.raises(InputError, match="sums of OwnTask = 'other': must be error, as sum_names says"):
        OwnTask(**OWN).evaluate(torch.ones(2, 1), torch.ones(2))
    metrics = OwnTask(**OWN).metrics
    assert metrics.of({"num_evaluated": 2, "loss_sum": 1.0, "error": 0.0}) == {"ratio": None, "loss": 0.5}


def test_an_own_head_is_used():
    own = torch.nn.Sequential(torch.nn.Linear(3, 1))
    assert OwnTask(**{**OWN, "head": lambda shape, generator: own}).aux_head((3,), seeded()) is own
