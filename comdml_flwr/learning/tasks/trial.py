"""A task of the user's own is tried on two samples before anybody trains.

Its functions would else be called for the first time in the first round, and what is wrong with what they
return would show in a line of ours, or not at all.
"""

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.global_generator import global_generator
from comdml_flwr.learning.structure import Nested, call
from comdml_flwr.learning.task import Task
from comdml_flwr.learning.tasks.own_task import OwnTask


def try_task(task: Task, model: nn.Module, x: Nested, target: Nested) -> None:
    """Call the functions of an `OwnTask` as a round does: loss, its gradient, sums, combine.

    Parameters
    ----------
    task : Task
        Any other task is ours, and not tried.
    model : Module
        The whole model; neither it nor any random state is changed.
    x, target : Nested
        Two training samples (or one), with their targets.

    Raises
    ------
    InputError
        One of the functions returns what it must not. What they raise themselves goes on.
    """
    if not isinstance(task, OwnTask):
        return
    tried = deepcopy(model).eval()
    with global_generator(0):
        output = call(tried, x)
        loss = task.loss(output, target)
        _check_loss(loss)
        torch.autograd.backward(loss)
        trained = [parameter for parameter in tried.parameters() if parameter.requires_grad]
        if trained and all(parameter.grad is None for parameter in trained):
            raise InputError("loss of OwnTask", "no gradient", "must be computed from the model's output")
        with torch.inference_mode():
            sums = task.evaluate(output.detach(), target)
    try:
        found = task.combine(sums)
    except ZeroDivisionError:  # a ratio that two samples do not have
        return
    if not isinstance(found, Mapping) or task.metric not in found:
        told = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
        raise InputError("combine of OwnTask", told, f"must return a mapping with {task.metric}, the metric")


def _check_loss(loss: object) -> None:
    """Refuse what is no loss."""
    rule = "must return a tensor of one number: the mean loss of a batch"
    if not isinstance(loss, Tensor):
        raise InputError("loss of OwnTask", type(loss).__name__, rule)
    if loss.numel() != 1 or loss.dim() > 0:
        raise InputError("loss of OwnTask", f"a tensor of shape {tuple(loss.shape)}", rule)
    if not bool(torch.isfinite(loss)):
        raise InputError("loss of OwnTask", loss.item(), "must be finite for two training samples")
    if not loss.requires_grad:
        raise InputError("loss of OwnTask", "a tensor without gradient", f"{rule}, with its gradient")
