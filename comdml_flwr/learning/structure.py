"""Inputs or targets of samples: a tensor, or a tuple or dict of tensors, nested.

Token ids and their mask are a dict; the inputs of a network with two branches are a tuple. All tensors of
such a structure have the samples in their first dimension. As mail and files have no structure, each tensor
gets a name from where it stands: "0", "input_ids", "1.mask"; a tensor that stands alone has the name "". So
the keys of a dict are no numbers and hold no dot.

Shapes: N samples.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias, TypeGuard

from torch import Tensor, nn

from comdml_flwr.core.errors import InputError, RunError

Nested: TypeAlias = Tensor | tuple["Nested", ...] | dict[str, "Nested"]
"""A tensor, or a tuple or dict of what is itself a `Nested`."""
Rows: TypeAlias = slice | Tensor
"""Which samples: a slice, or their indices (int64)."""


def map_tensors(function: Callable[[Tensor], Tensor], nested: Nested) -> Nested:
    """Return the same structure with `function` applied to each tensor.

    Examples
    --------
    >>> map_tensors(lambda x: x + 1, {"ids": torch.tensor([1]), "mask": (torch.tensor([0]),)})
    {'ids': tensor([2]), 'mask': (tensor([1]),)}
    """
    if isinstance(nested, Tensor):
        return function(nested)
    if isinstance(nested, tuple):
        return tuple(map_tensors(function, part) for part in nested)
    return {key: map_tensors(function, part) for key, part in nested.items()}


def take(nested: Nested, rows: Rows) -> Nested:
    """Return these samples: of a slice, without a copy."""
    return map_tensors(lambda x: x[rows], nested)


def flatten(nested: Nested) -> dict[str, Tensor]:
    """Return the tensors by name.

    Examples
    --------
    >>> flatten(({"mask": torch.tensor([0])}, torch.tensor([1])))
    {'0.mask': tensor([0]), '1': tensor([1])}
    """
    return dict(_named(nested, ()))


def unflatten(tensors: Mapping[str, Tensor]) -> Nested:
    """Return the structure whose `flatten` these are.

    Raises
    ------
    RunError
        They are those of none: a tuple lacks a place, or a name is that of a tensor and of a structure.
    """
    if "" in tensors and len(tensors) == 1:
        return tensors[""]
    groups: dict[str, dict[str, Tensor]] = {}
    for name, x in tensors.items():
        key, _, rest = name.partition(".")
        groups.setdefault(key, {})[rest] = x
    if not groups or "" in groups:
        raise RunError(f"tensors named {sorted(tensors)} form no structure")
    parts = {key: unflatten(group) for key, group in groups.items()}
    if not any(key.isdecimal() for key in parts):
        return parts
    places = [str(place) for place in range(len(parts))]
    if {*places} != {*parts}:
        raise RunError(f"tensors named {sorted(tensors)} form no tuple")
    return tuple(parts[place] for place in places)


def count_samples(nested: Nested) -> int:
    """Return N, by its first tensor; where it comes from outside, `check_structure` has looked at all."""
    _, first = next(_named(nested, ()))
    return len(first)


def check_structure(value: object, field: str) -> Nested:
    """Return a structure whose tensors all have the same number of samples.

    Parameters
    ----------
    value : object
        What somebody gave.
    field : str
        Its name, as the user knows it.

    Raises
    ------
    InputError
        It is none; the line names the place within it.
    """
    lengths: dict[str, int] = {}
    for path, x in _checked(value, field):
        if not x.dim():
            raise InputError(path, "a single number", "must have the samples in its first dimension")
        lengths[path] = len(x)
    first = next(iter(lengths))
    for path, length in lengths.items():
        if length != lengths[first]:
            raise InputError(path, f"{length} samples", f"must be {lengths[first]}, as in {first}")
    assert isinstance(value, Tensor | tuple | dict)
    return value


def one_tensor(nested: Nested, what: str) -> Tensor:
    """Return a structure that is one tensor. Raises RunError where it is not."""
    if not isinstance(nested, Tensor):
        raise RunError(f"{what}: {sorted(flatten(nested))} where one tensor is expected")
    return nested


def is_chain(module: nn.Module) -> TypeGuard[nn.Sequential]:
    """Tell whether a module is an `nn.Sequential`, whose children are its stages, and no more than that."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def call(module: nn.Module, inputs: Nested) -> Tensor:
    """Run a module: a tensor is its argument, a tuple its arguments, a dict its arguments by name.

    A chain hands several inputs to its first stage.
    """
    if isinstance(inputs, Tensor):
        output: Tensor = module(inputs)
    elif is_chain(module) and len(module):
        first, *rest = module
        output = call(first, inputs)
        for stage in rest:
            output = stage(output)
    else:
        output = module(*inputs) if isinstance(inputs, tuple) else module(**inputs)
    return output


def _named(nested: Nested, path: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors with their names, as they stand."""
    if isinstance(nested, Tensor):
        yield ".".join(path), nested
        return
    parts = enumerate(nested) if isinstance(nested, tuple) else nested.items()
    for key, part in parts:
        yield from _named(part, (*path, str(key)))


def _checked(value: object, path: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors with their paths; refuse what is none, and what has no name."""
    if isinstance(value, Tensor):
        yield path, value
        return
    if not isinstance(value, tuple | dict):
        raise InputError(path, type(value).__name__, "must be a tensor, or a tuple or dict of tensors")
    if not value:
        raise InputError(path, value, "must have at least one tensor")
    if isinstance(value, tuple):
        for place, part in enumerate(value):
            yield from _checked(part, f"{path}[{place}]")
        return
    for key, part in value.items():
        if not isinstance(key, str) or not key or "." in key or key.isdecimal():
            raise InputError(f"{path}: key", key, "must be a name, without a dot")
        yield from _checked(part, f"{path}[{key!r}]")
