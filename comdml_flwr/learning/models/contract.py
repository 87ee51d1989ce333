"""What every model keeps to before anything is trained, and what training must know of it.

A model of one's own is run once on two of its samples, stage by stage, as it trains and as it is evaluated.
That finds in one line, with the stage, what would otherwise end the run in its first round; and

    draws           dropout and the like draw from torch's generator: each batch needs a seed of its own
    alone           a stage cannot train on one sample (BatchNorm: one value has no variance): a batch of one
                    joins the batch before
    in place        a stage writes into its input. That may be a test sample, mail, or a leaf of autograd
                    once a half begins there: such a stage gets a copy
    parted weights  two stages share a weight, and a cut between them would train its two places apart

The model that is looked at is not the one that is trained: running it moves BatchNorm's statistics.
"""

import copy
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.user_code import describe_error, is_of_user
from comdml_flwr.learning.global_generator import global_generator, has_drawn
from comdml_flwr.learning.split import float_state, memory_of, named_stages
from comdml_flwr.learning.structure import (
    Nested,
    call,
    count_samples,
    flatten,
    is_chain,
    map_tensors,
    take,
)
from comdml_flwr.learning.task import Task

_SEED = 0  # of what the model draws while it is looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTraits:
    """What training must know of a model.

    Parameters
    ----------
    draws, draws_in_evaluation : bool
        Whether it draws from the global generator.
    alone : str
        The stage that cannot train on one sample; empty where all can.
    parted : Mapping[int, str]
        The cuts that would part a weight that stages share: which one.
    uncut : str
        Why a model that is no chain of stages cannot be cut; empty where it can.
    """

    draws: bool = False
    draws_in_evaluation: bool = False
    alone: str = ""
    parted: Mapping[int, str] = field(default_factory=dict)
    uncut: str = ""

    @property
    def smallest_batch(self) -> int:
        """How many samples a batch must have at least."""
        return 2 if self.alone else 1


def check_model(model: object, name: str) -> nn.Module:
    """Return a model with float32 weights in memory.

    Parameters
    ----------
    model : object
        What a builder returned.
    name : str
        As in the run configuration.

    Raises
    ------
    InputError
        It is none.
    """
    if not isinstance(model, nn.Module) or (isinstance(model, nn.Sequential) and not len(model)):
        kind = "no stage" if isinstance(model, nn.Sequential) else type(model).__name__
        raise InputError(f"model {name}", kind, "must be an nn.Module, or an nn.Sequential of stages")
    parts: list[tuple[nn.Module, str]] = [(model, f"model {name}: {type(model).__name__}")]
    if is_chain(model):
        _check_chain(model, name)
        parts = _stages(model, name)
    for part, where in parts:
        _check_tensors(part, where)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(f"model {name}", "no trainable parameter", "must have one that requires a gradient")
    return model


def _check_tensors(part: nn.Module, where: str) -> None:
    tensors = [*part.named_parameters(), *part.named_buffers()]
    if lazy := [tensor for tensor, value in tensors if is_lazy(value)]:
        rule = "must have a size: let the builder run the model on a sample before it returns it"
        raise InputError(where, f"lazy {lazy[0]}", rule)
    for tensor, value in tensors:
        if (value.is_floating_point() or value.is_complex()) and value.dtype != torch.float32:
            raise InputError(where, f"{tensor} of {value.dtype}", "must be float32")
        if value.device.type != "cpu":
            raise InputError(where, f"{tensor} on {value.device}", "must be on the CPU")
    try:
        copy.deepcopy(part)
    except Exception as error:
        rule = "must be one that can (a weight_norm of torch.nn.utils.parametrizations can)"
        raise InputError(where, f"cannot be copied ({type(error).__name__})", rule) from error


def _check_chain(model: nn.Sequential, name: str) -> None:
    """Refuse what a chain has beside its stages: its halves, which are chains of their own, lack it."""
    rule = "must be of a stage: its halves have its stages alone"
    if own := [*model._parameters, *model._buffers]:
        raise InputError(f"model {name}", own[0], rule)
    if model._forward_hooks or model._forward_pre_hooks or model._backward_hooks:
        raise InputError(f"model {name}", "a hook of the chain itself", rule)
    for method in ("__call__", "train"):
        if getattr(type(model), method) is not getattr(nn.Sequential, method):
            raise InputError(f"model {name}", f"{type(model).__name__}.{method}", rule)


def look_at(model: nn.Sequential, name: str, x: Nested, task: Task) -> tuple[ModelTraits, list[int]]:
    """Run a model, which nobody trains afterwards, on samples.

    Parameters
    ----------
    model : nn.Sequential
        Whose buffers change.
    name : str
        As in the run configuration.
    x : Nested
        Two training samples, shape (2, ...).
    task : Task
        What it is to learn: says what the model must return.

    Returns
    -------
    tuple[ModelTraits, list[int]]
        And the places of the stages that write into their input.

    Raises
    ------
    InputError
        A stage fails, or returns what the next stage or the loss cannot take.
    """
    with torch.no_grad():
        model.train()
        buffers = dict(model.named_buffers(remove_duplicate=False))
        before = {buffer: (value, value.clone()) for buffer, value in buffers.items()}
        elsewhere = _other_generators()
        with global_generator(_SEED):
            in_place = _run(model, name, x, task)
            draws = has_drawn(_SEED)
        _check_buffers(model, name, before)
        if _other_generators() != elsewhere:
            rule = "must draw from torch's generator alone, which is seeded for each batch"
            raise InputError(f"model {name}", "draws from NumPy's or Python's random generator", rule)
        with global_generator(_SEED):
            try:
                _run(model, name, take(x, slice(1)), task)
                alone = ""
            except InputError as error:
                alone = error.what.removeprefix(f"model {name}: ")
        model.eval()
        with global_generator(_SEED):
            _run(model, name, take(x, slice(1)), task)
            draws_in_evaluation = has_drawn(_SEED)
    traits = ModelTraits(
        draws=draws, draws_in_evaluation=draws_in_evaluation, alone=alone, parted=parted_weights(model)
    )
    return traits, in_place


def copy_inputs(model: nn.Sequential, places: list[int]) -> nn.Sequential:
    """Let these stages work on a copy of their input; return the model, whose bits stay the same."""
    for stage in {id(model[place]): model[place] for place in places}.values():
        stage.register_forward_pre_hook(_copied, with_kwargs=True)
    return model


def parted_weights(model: nn.Sequential) -> dict[int, str]:
    """Return the cuts between two stages that share a weight, and which weight: by its two names."""
    first: dict[object, tuple[int, str]] = {}
    parted: dict[int, str] = {}
    for place, (stage_name, stage) in enumerate(named_stages(model)):
        for tensor_name, tensor in stage.state_dict().items():
            if not isinstance(tensor, Tensor) or not tensor.numel():
                continue
            name = f"{stage_name}.{tensor_name}"
            earliest, other = first.setdefault(memory_of(tensor), (place, name))
            for later in range(earliest + 1, place + 1):
                parted.setdefault(len(model) - later, f"{other} is {name}")
    return parted


def _other_generators() -> tuple[object, bytes, object]:
    """Return the states of Python's and of NumPy's global generator."""
    _, keys, position, *_ = np.random.get_state(legacy=True)  # noqa: NPY002
    return random.getstate(), np.asarray(keys).tobytes(), position


def _copied(
    stage: nn.Module, args: tuple[Tensor, ...], named: dict[str, Tensor]
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    return tuple(map(Tensor.clone, args)), {name: x.clone() for name, x in named.items()}


def _run(model: nn.Sequential, name: str, x: Nested, task: Task) -> list[int]:
    """Run the stages one after another; return the places of those that write into their input."""
    in_place = []
    for place, (stage, where) in enumerate(_stages(model, name)):
        x = map_tensors(Tensor.clone, x)
        parts = flatten(x)
        versions = [part._version for part in parts.values()]
        try:
            z = call(stage, x)
        except Exception as error:
            told = describe_error(error) if is_of_user(error) else f"{type(error).__name__}: {error}"
            rule = f"must be taken: {' '.join(told.split())}"
            raise InputError(where, f"input of shape {_shapes(parts)}", rule) from error
        if [part._version for part in parts.values()] != versions:
            in_place.append(place)
        _check_output(z, where, count_samples(x), task if place == len(model) - 1 else None)
        x = z
    return in_place


def _shapes(parts: Mapping[str, Tensor]) -> str:
    """Return the shape of a tensor, or of each by name."""
    shapes = {name: tuple(part.shape) for name, part in parts.items()}
    return str(shapes.get("", shapes))


def _check_output(z: object, where: str, num_samples: int, task: Task | None) -> None:
    if not isinstance(z, Tensor):
        rule = "must return one tensor: wrap it in a module that picks it"
        raise InputError(where, f"returns {type(z).__name__}", rule)
    if not z.is_floating_point() or z.dtype != torch.float32:
        raise InputError(where, f"returns {z.dtype}", "must return float32")
    shape = tuple(z.shape)
    if task is not None and (rule := task.output_rule(shape, num_samples)):
        raise InputError(where, f"returns shape {shape}", rule)
    if len(shape) < 2 or shape[0] != num_samples or 0 in shape:
        rule = f"must return (samples, ...), here ({num_samples}, ...), with numbers in each"
        raise InputError(where, f"returns shape {shape}", rule)


def _check_buffers(model: nn.Sequential, name: str, before: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Refuse state that training changes and that is not among the floats that travel.

    `before` has each buffer, and a copy of what it held. Floats travel in the memory that they begin with.
    """
    travels = {memory_of(tensor) for _, tensor in float_state(model)}
    for stage_name, stage in named_stages(model):
        for owner_name, owner in stage.named_modules():
            counts = isinstance(owner, _BatchNorm) and owner.momentum is not None
            for tensor_name, value in owner.named_buffers(recurse=False):
                full = ".".join(filter(None, (stage_name, owner_name, tensor_name)))
                if counts and tensor_name == "num_batches_tracked":
                    continue
                if memory_of(value) in travels:
                    if full not in before or before[full][0] is not value:
                        rule = "must be made by the builder, and change in place (copy_) while it trains"
                        raise InputError(f"model {name}: buffer", full, rule)
                elif full in before and not torch.equal(before[full][1], value):
                    rule = "must not change while it trains: only floats in the state_dict travel"
                    cure = " (give BatchNorm a momentum)" if isinstance(owner, _BatchNorm) else ""
                    raise InputError(f"model {name}: buffer", full, rule + cure)


def _stages(model: nn.Sequential, name: str) -> list[tuple[nn.Module, str]]:
    """Return the stages, each with the words that name it."""
    return [
        (
            stage,
            f"model {name}: stage {number} of {len(model)} ({getattr(stage, 'label', type(stage).__name__)})",
        )
        for number, stage in enumerate(model, start=1)
    ]
