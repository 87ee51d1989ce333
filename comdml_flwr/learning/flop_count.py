"""FLOPs, floats and memory of one pass through each stage of a model."""

import copy
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.user_code import describe_error, is_of_user
from comdml_flwr.learning.split import all_floats, memory_of, storage_of
from comdml_flwr.learning.structure import Nested, call, flatten, map_tensors


def count_stages(model: nn.Sequential, batch_N: Nested) -> list["StageCount"]:
    """Count a copy of the model, where the input is: a copy, as training moves BatchNorm's statistics."""
    counts: list[StageCount] = []
    activation_N, first = batch_N, next(iter(flatten(batch_N).values()))
    input_shape = tuple(first.shape[1:])
    try:
        stages = copy.deepcopy(model).to(first.device).train()
        for stage, in_memory in zip(stages, model, strict=True):
            counts.append(count_stage(stage, activation_N, weights_of(in_memory)))
            activation_N = counts[-1].output
    except Exception as error:
        reason = describe_error(error) if is_of_user(error) else str(error).partition("\n")[0]
        rule = f"must fit stage {len(counts) + 1} of the model: {reason}"
        raise InputError("input shape", input_shape, rule) from error
    return counts


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward and backward pass of a stage: `saved` is what it keeps in between, by storage."""

    flops: int
    saved: dict[int, torch.UntypedStorage]
    output_needs_grad: bool


Weights: TypeAlias = dict[object, tuple[int, int]]
"""(trainable floats, all floats) of each tensor, by memory: what two stages share counts once."""


@dataclass(frozen=True, slots=True)
class StageCount:
    """A stage counted without (passes[0]) and with (passes[1]) a gradient for its input."""

    weights: "Weights"
    passes: tuple[Pass, Pass]
    output: Tensor


def weights_of(stage: nn.Module) -> Weights:
    """Return of each distinct block of weights how many floats are trained, and how many it has."""
    trainable = {memory_of(parameter) for parameter in stage.parameters() if parameter.requires_grad}
    floats = [(memory_of(tensor), tensor.numel()) for _, tensor in all_floats(stage)]
    return {memory: (number * (memory in trainable), number) for memory, number in floats}


def count_stage(stage: nn.Module, input_N: Nested, weights: Weights) -> StageCount:
    """Count both passes; the input and the output go by one name in both, and in the neighbours' passes."""
    free, output_N = run_stage(stage, map_tensors(Tensor.detach, input_N))
    if not isinstance(input_N, Tensor) or not input_N.is_floating_point():  # samples, or the ids of words
        return StageCount(weights, (free, free), output_N.detach())
    copy_N = input_N.detach().requires_grad_().clone()  # a stage may begin with an operation in place
    bound, bound_output_N = run_stage(stage, copy_N)
    names = {storage_of(copy_N): storage_of(input_N), storage_of(bound_output_N): storage_of(output_N)}
    saved = {names.get(key, key): storage for key, storage in bound.saved.items()}
    bound = Pass(bound.flops, saved, bound.output_needs_grad)
    return StageCount(weights, (free, bound), output_N.detach())


def run_stage(stage: nn.Module, input_N: Nested) -> tuple[Pass, Tensor]:
    """Run one stage; return its FLOPs, what it keeps for the backward pass, and its output."""
    state = {storage_of(tensor) for tensor in (*stage.parameters(), *stage.buffers())}
    saved: dict[int, torch.UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        if storage_of(tensor) not in state:
            saved[storage_of(tensor)] = tensor.untyped_storage()
        return tensor

    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(note, lambda tensor: tensor):
        output_N = call(stage, input_N)
        if output_N.requires_grad:
            torch.autograd.backward(output_N, torch.empty_like(output_N))
    return Pass(counter.get_total_flops(), saved, output_N.requires_grad), output_N
