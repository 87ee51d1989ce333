"""Conversions of what somebody gives as samples or targets, where their meaning is plain.

Arrays of NumPy, lists of numbers and tensors on a device become tensors in memory; floats of any width become
float32; uint8 and bool features become float32 as they are; other whole numbers become int64.
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.structure import Nested, check_structure, map_tensors


def as_structure(value: object, field: str) -> Nested:
    """Return tensors in memory, of arrays without a copy, in the structure in which they are given."""
    if isinstance(value, tuple | dict):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        found = {key: as_structure(part, f"{field}[{key!r}]") for key, part in parts}
        return check_structure(found if isinstance(value, dict) else tuple(found.values()), field)
    return _tensor(value, field)


def as_features(value: object, field: str, warn: Callable[[str], None]) -> Nested:
    """Return samples as a model takes them: float32, or int64 where they are whole numbers.

    `warn` is told, in a line, what is converted and should be known.

    Raises
    ------
    InputError
        They are no tensors of numbers, with the samples in the first dimension; it names `field`.
    """
    if not isinstance(value, tuple | dict):
        return _feature(_tensor(value, field), field, warn)
    return map_tensors(lambda x: _feature(x, field, warn), as_structure(value, field))


def _feature(x: Tensor, field: str, warn: Callable[[str], None]) -> Tensor:
    if x.dim() < 2 or 0 in x.shape[1:]:
        raise InputError(field, f"shape {tuple(x.shape)}", "must be (samples, ...), with numbers in each")
    if x.dtype in (torch.uint8, torch.bool):
        if x.dtype == torch.uint8:
            warn(f"{field}: uint8 becomes float32 as it is; scale it in the loader if it is to be 0..1")
        return x.float()
    if x.is_complex():
        raise InputError(field, x.dtype, "must be real numbers")
    return x.to(torch.float32 if x.is_floating_point() else torch.int64)


def _tensor(value: object, field: str) -> Tensor:
    """Return a tensor in memory; of an array, without a copy."""
    if isinstance(value, Tensor):
        return value if value.device.type == "cpu" and not value.requires_grad else value.detach().cpu()
    try:
        with warnings.catch_warnings(action="ignore"):  # an array that is read-only: nobody writes into it
            array = np.ascontiguousarray(value)
            return torch.from_numpy(array.copy() if min(array.strides, default=0) < 0 else array)
    except (TypeError, ValueError, RuntimeError):
        rule = "must be a tensor or an array of numbers"
        raise InputError(field, type(value).__name__, rule) from None
