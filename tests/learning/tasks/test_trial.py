"""A task of one's own is tried before anybody trains: what its functions return is refused in one line."""

import copy
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.learning.task import Classification
from comdml_flwr.learning.tasks.trial import try_task
from comdml_flwr.runs.assemble import assemble
from comdml_flwr.runs.catalogue import Catalogue
from tests.learning.tasks.small_tasks import OWN, table
from tests.small import small_config, small_fleet

X, TARGET = torch.randn(2, 5), {"y": torch.zeros(2)}
MODEL = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 1))


def test_a_task_that_can_be_is_tried_without_a_trace():
    before, state = copy.deepcopy(MODEL.state_dict()), torch.get_rng_state()
    try_task(OWN, MODEL, X, TARGET)
    try_task(replace(OWN, combine=lambda sums: {"mae": 1 / 0}), MODEL, X, TARGET)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in MODEL.state_dict().items())
    assert all(parameter.grad is None for parameter in MODEL.parameters())


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"loss": lambda out, target: 0.5}, "loss of OwnTask = 'float': must return a tensor of one number"),
        ({"loss": lambda out, target: None}, "loss of OwnTask = 'NoneType': must return a tensor"),
        (
            {"loss": lambda out, target: out[:, 0] - target["y"]},
            "loss of OwnTask = 'a tensor of shape (2,)': must return a tensor of one number",
        ),
        ({"loss": lambda out, target: out.detach().mean()}, "loss of OwnTask = 'a tensor without gradient'"),
        (
            {"loss": lambda out, target: torch.ones((), requires_grad=True)},
            "loss of OwnTask = 'no gradient': must be computed from the model's output",
        ),
        (
            {"loss": lambda out, target: (out * float("nan")).mean()},
            "loss of OwnTask = nan: must be finite for two training samples",
        ),
        ({"sums": lambda out, target: {"errors": 1.0}}, "sums of OwnTask = 'errors': must be error"),
        (
            {"combine": lambda sums: {"mea": 0.1}},
            "combine of OwnTask = 'mea': must return a mapping with mae",
        ),
        ({"combine": lambda sums: 0.1}, "combine of OwnTask = 'float': must return a mapping with mae"),
    ],
)
def test_what_it_returns_wrongly_is_one_line(wrong, line):
    with pytest.raises(InputError, match=f"^{re.escape(line)}"):
        try_task(replace(OWN, **wrong), MODEL, X, TARGET)


def test_a_task_of_ours_is_not_tried():
    try_task(Classification(num_classes=3), nn.Identity(), X, TARGET)


def test_what_it_raises_names_the_users_line_before_anybody_trains():
    task = replace(OWN, sums=lambda out, target: {"error": target["label"].sum()})
    models = {"line": lambda shape, num, generator: nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 1))}
    catalogue = Catalogue(models=models, datasets={"table": lambda config: replace(table(OWN), task=task)})
    line = r"^tests/learning/tasks/test_trial\.py, line \d+: KeyError: 'label'$"
    with pytest.raises(RunError, match=line):
        assemble(small_config(model="line", dataset="table"), small_fleet(2), 2, catalogue)
