"""Proof, on a batch, that a model in stages is the model: what it returns, and what a step makes of it.

The stages run one after another, each on an input that is cut off from the stage before, as the sides of a
split model are; the gradients are then handed back from stage to stage. So one pass holds for all cuts.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from comdml_flwr.learning.global_generator import global_generator
from comdml_flwr.learning.models.tracing import pick_output
from comdml_flwr.learning.split import own_name
from comdml_flwr.learning.structure import Nested, call, map_tensors

TOLERANCE = 1e-5
"""Of the largest number of a tensor: other kernels may round otherwise. Most models are equal to the bit."""
_RATE = 0.1


def largest_difference(
    model: nn.Module, in_stages: Callable[[nn.Module], nn.Sequential], inputs: Nested
) -> tuple[float, str]:
    """Return by how much a model in stages differs from the model, and where.

    Parameters
    ----------
    model : nn.Module
        Neither it nor any random state is changed.
    in_stages : Callable[[nn.Module], nn.Sequential]
        Makes stages of a model.
    inputs : Nested
        A batch.

    Returns
    -------
    tuple[float, str]
        Relative to the largest number of a tensor: of the outputs in training and in evaluation, and of all
        floats after one step of SGD.
    """
    whole, chain = copy.deepcopy(model), in_stages(copy.deepcopy(model))
    found = [("output", _difference(*_train(whole, chain, inputs)))]
    ours, theirs = whole.state_dict(), {own_name(chain, n): x for n, x in chain.state_dict().items()}
    for name, x in ours.items():
        if isinstance(x, Tensor) and x.numel():
            other = theirs.get(name)
            found.append((name, _difference(x, other) if isinstance(other, Tensor) else float("inf")))
    whole, chain = copy.deepcopy(model).eval(), in_stages(copy.deepcopy(model)).eval()
    with torch.no_grad():
        outputs = [_run(one, inputs) for one in (whole, chain)]
    found.append(("output in evaluation", _difference(*outputs)))
    where, most = max(found, key=lambda one: one[1])
    return most, where


def _run(module: nn.Module, inputs: Nested) -> Tensor:
    with global_generator(2):
        output = pick_output(call(module, map_tensors(Tensor.clone, inputs)))
    assert isinstance(output, Tensor)
    return output


def _train(whole: nn.Module, chain: nn.Sequential, inputs: Nested) -> tuple[Tensor, Tensor]:
    """Take a step with both; return both outputs."""
    output = _run(whole.train(), inputs)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(3))
    torch.autograd.backward(output, weights)
    borders: list[tuple[Tensor, Tensor]] = []  # of each stage but the first, its input; and each one's output
    value: Nested = map_tensors(Tensor.clone, inputs)
    chain.train()
    with global_generator(2):
        for number, stage in enumerate(chain):
            leaf = value.detach().requires_grad_() if number and isinstance(value, Tensor) else torch.empty(0)
            value = call(stage, leaf.clone() if number else value)
            borders.append((leaf, value))
    gradient: Tensor | None = weights
    for leaf, result in reversed(borders):
        if gradient is None or not result.requires_grad:
            break
        torch.autograd.backward(result, gradient)
        gradient = leaf.grad
    with torch.no_grad():
        for parameter in {*whole.parameters(), *chain.parameters()}:
            if parameter.grad is not None:
                parameter.sub_(_RATE * parameter.grad)
    return output.detach(), borders[-1][1].detach()


def _difference(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape or one.dtype != other.dtype:
        return float("inf")
    if torch.equal(one, other) or not one.numel():
        return 0.0
    difference = float((one.double() - other.double()).abs().max())
    return (
        difference / max(float(one.double().abs().max()), 1e-12) if difference == difference else float("inf")
    )
