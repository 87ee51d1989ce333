"""Cut a chain of stages in two, and move its numbers as one flat tensor.

Cuts follow the model contract of `learning.models`: cut m of M keeps all but the last m stages on the slow
side. The halves share the model's modules and keep the stages' names: nothing is copied, training a half
trains the model, and the float state of the two halves, one after the other, is that of the model.

Shape suffixes: P floats of a model.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.device import Device


def num_cuts(model: nn.Sequential) -> int:
    """Return M, the number of places where the model can be cut: one less than it has stages."""
    return len(model) - 1


def split(model: nn.Sequential, cut: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Cut a model in two halves that share its modules.

    Parameters
    ----------
    model : nn.Sequential
        Its children are the stages.
    cut : int
        1..M; the last `cut` stages go to the fast side.

    Returns
    -------
    tuple[nn.Sequential, nn.Sequential]
        (slow_side, fast_side).

    Raises
    ------
    InputError
        If the model has no such cut.
    """
    if not 1 <= cut <= num_cuts(model):
        raise InputError("cut", cut, f"must be from 1 to {num_cuts(model)} for this model")
    stages = named_stages(model)
    return _chain(stages[:-cut], model.training), _chain(stages[-cut:], model.training)


def join(slow_side: nn.Sequential, fast_side: nn.Sequential) -> nn.Sequential:
    """Return the model of two halves, sharing their modules; stages whose names clash get new numbers."""
    stages = named_stages(slow_side) + named_stages(fast_side)
    if len(dict(stages)) < len(stages):
        stages = [(str(number), stage) for number, (_, stage) in enumerate(stages)]
    return _chain(stages, slow_side.training)


def float_state(module: nn.Module) -> list[tuple[str, Tensor]]:
    """List the floats that travel: parameters that are trained, and buffers, BatchNorm's statistics included.

    The order is depth first, so a slow side's entries are a prefix of the model's, names included, and the
    fast side's are the rest. The tensors are the module's own memory, detached. Integer buffers stay at home,
    and so does a parameter that requires no gradient: everybody's builder makes the same.
    What has two names, as a weight that two layers share, goes by the first one.
    """
    frozen = {memory_of(p) for p in module.parameters() if not p.requires_grad and p.numel()}
    return [(name, x) for name, x in all_floats(module) if memory_of(x) not in frozen]


def all_floats(module: nn.Module) -> list[tuple[str, Tensor]]:
    """List the floats that a module keeps: those that travel, and parameters that require no gradient."""
    floats: dict[object, tuple[str, Tensor]] = {}
    for name, x in module.state_dict().items():
        if isinstance(x, Tensor) and x.is_floating_point():
            floats.setdefault(memory_of(x) if x.numel() else name, (name, x))
    return list(floats.values())


def memory_of(tensor: Tensor) -> tuple[object, ...]:
    """Name the numbers that a tensor shows: two that show the same have one name, as long as one is alive."""
    return storage_of(tensor), tensor.storage_offset(), tensor.shape, tensor.stride()


def storage_of(tensor: Tensor) -> int:
    """Name the memory of a tensor: views of it share the name; a meta tensor has no address, but has this."""
    return int(tensor.untyped_storage()._cdata)


class FlatFloats:
    """A module's float state next to one flat tensor, ready to be copied from one to the other.

    What both copies need is looked up once: for a module of a hundred layers that takes longer than the copy.
    It holds as long as the module keeps its tensors (training, loading and `train()` do).

    Parameters
    ----------
    module : nn.Module
        Whose floats.
    device : Device, optional
        Where it is placed; the flat tensors that are taken and returned are on the host. By default the CPU.
    """

    def __init__(self, module: nn.Module, device: Device | None = None) -> None:
        self._device = device or Device()
        self._tensors = [tensor for _, tensor in float_state(module)]
        sizes = [tensor.numel() for tensor in self._tensors]
        self._flat_P = self._device.to(torch.empty(sum(sizes)))
        pieces = zip(torch.split(self._flat_P, sizes), self._tensors, strict=True) if sizes else ()
        self._views = [piece.view_as(tensor) for piece, tensor in pieces]

    def __len__(self) -> int:
        return len(self._flat_P)

    def load(self, flat_P: Tensor) -> None:
        """Copy a flat tensor, shape (P,), into the module's float state, in place.

        Raises
        ------
        InputError
            If it does not hold exactly P numbers.
        """
        if flat_P.shape != self._flat_P.shape:
            rule = f"must be {tuple(self._flat_P.shape)} here"
            raise InputError("shape of the flat tensor", tuple(flat_P.shape), rule)
        self._flat_P.copy_(self._device.to(flat_P))
        if self._tensors:
            torch._foreach_copy_(self._tensors, self._views)

    def write(self) -> Tensor:
        """Copy the module's float state into a new flat tensor, shape (P,), float32."""
        if self._tensors:
            torch._foreach_copy_(self._views, self._tensors)
        return self._device.copy_back(self._flat_P)


def num_floats(module: nn.Module) -> int:
    """Return P, how many floats `write_floats` writes."""
    return sum(tensor.numel() for _, tensor in float_state(module))


def write_floats(module: nn.Module) -> Tensor:
    """Copy a module's float state into one new flat tensor, shape (P,), float32."""
    return FlatFloats(module).write()


def load_floats(module: nn.Module, flat_P: Tensor) -> None:
    """Copy a flat tensor, shape (P,), into a module's float state, in place; as `FlatFloats.load`."""
    FlatFloats(module).load(flat_P)


def named_stages(model: nn.Sequential) -> list[tuple[str, nn.Module]]:
    """List the stages with their names, one that comes twice as often as it comes."""
    return list(zip(model._modules, model, strict=True))  # named_children() skips a stage that comes twice


def own_name(chain: nn.Sequential, name: str) -> str:
    """Return the name that a tensor of a chain has in the user's model: its stages may be no part of that."""
    stage, _, rest = name.partition(".")
    prefix = getattr(chain._modules.get(stage), "own_prefix", None)
    return name if prefix is None else rest.removeprefix(prefix)


def _chain(stages: list[tuple[str, nn.Module]], training: bool) -> nn.Sequential:
    chain = nn.Sequential(OrderedDict(stages))
    chain.training = training  # of the container alone: the stages keep theirs
    return chain
