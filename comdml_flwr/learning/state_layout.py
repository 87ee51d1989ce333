"""What a model's `state_dict` looks like: with it, a flat tensor of floats becomes one again.

Training moves a model's floats alone, as one tensor in the model's order (split.py). What else a model keeps,
such as BatchNorm's `num_batches_tracked`, stays as its builder made it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.split import float_state, memory_of, own_name


@dataclass(frozen=True, slots=True, kw_only=True)
class StateLayout:
    """Names and shapes of a model's state, and what of it is not trained.

    Parameters
    ----------
    shapes : Mapping[str, tuple[int, ...]]
        Of the floats, by name, in the order in which they lie in the flat tensor.
    others : Mapping[str, ndarray]
        The state that does not travel, by name: what is no float, and parameters that are not trained.
    second_names : Mapping[str, str]
        Further names of floats that layers share, with the name under which they are in `shapes`.
    buffers : frozenset[str]
        Those of `shapes` that are no parameters, such as BatchNorm's running mean and variance.
    """

    shapes: Mapping[str, tuple[int, ...]]
    others: Mapping[str, NDArray[np.generic]]
    second_names: Mapping[str, str] = field(default_factory=dict)
    buffers: frozenset[str] = frozenset()

    @property
    def is_parameter_P(self) -> NDArray[np.bool_]:
        """Whether each of the flat tensor's floats belongs to a parameter, shape (P,)."""
        sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        return np.repeat([name not in self.buffers for name in self.shapes], sizes).astype(np.bool_)

    def unflatten(self, weights_P: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
        """Return the whole state by name; the floats are views of `weights_P`, shape (P,)."""
        sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        pieces = np.split(weights_P, np.cumsum(sizes)[:-1]) if sizes else []
        shaped = zip(self.shapes.items(), pieces, strict=True)
        floats = {name: piece.reshape(shape) for (name, shape), piece in shaped}
        return {**floats, **{name: floats[first] for name, first in self.second_names.items()}, **self.others}


def layout_of(model: nn.Module) -> StateLayout:
    """Return the layout of a model that was just built, by the names that its builder's model has.

    What its state holds beside tensors is left out.

    Raises
    ------
    InputError
        It holds complex numbers.
    """
    own = partial(own_name, model) if isinstance(model, nn.Sequential) else str
    floats = [(own(name), tensor) for name, tensor in float_state(model)]
    shapes = {name: tuple(tensor.shape) for name, tensor in floats}
    state = {own(name): tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    first = {memory_of(tensor): name for name, tensor in floats if tensor.numel()}
    parameters = {own(name): p for name, p in model.named_parameters(remove_duplicate=False)}
    second_names = {
        name: first[memory_of(tensor)]
        for name, tensor in state.items()
        if name not in shapes and memory_of(tensor) in first
    }
    others = {
        name: np.array(tensor.numpy())
        for name, tensor in state.items()
        if name not in shapes and name not in second_names
    }
    for name, array in others.items():
        if array.dtype.kind not in "biu" and name not in parameters:
            rule = "must hold floats, whole numbers or truth values: this could not be trained or saved"
            raise InputError(f"the model's {name}", array.dtype.name, rule)
    return StateLayout(
        shapes=shapes,
        others=others,
        second_names=second_names,
        buffers=frozenset(shapes.keys() - parameters.keys()),
    )
