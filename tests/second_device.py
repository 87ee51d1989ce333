"""A second device in the host's memory: told apart by a mark on each storage, and refused where both meet.

Its operations are the CPU's, so a run on it must give the CPU's bits. Real devices let a single number of the
host take part in their operations; so does this one.
"""

import threading
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from comdml_flwr.learning.device import Device

_MARKED: dict[int, StorageWeakRef] = {}  # as long as one is in here, no other storage gets its address
_THREAD = threading.local()


class MixedDevicesError(Exception):
    """A tensor of the host meets one of the device."""


def is_on_device(tensor):
    """Tell on which side a tensor is."""
    return StorageWeakRef(tensor.untyped_storage()).cdata in _MARKED


def _mark(tensor):
    reference = StorageWeakRef(tensor.untyped_storage())
    _MARKED[reference.cdata] = reference
    return tensor


class _Operations(TorchDispatchMode):
    """What is computed of tensors of the device is on the device."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        taken = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        here = [tensor for tensor in taken if is_on_device(tensor)]
        if not here or getattr(_THREAD, "is_crossing", False):
            return operation(*args, **kwargs)
        strangers = [tuple(x.shape) for x in taken if x.dim() and not is_on_device(x)]
        if strangers:
            what = f"{len(here)} of the device and {strangers} of the host"
            raise MixedDevicesError(f"{operation} takes {what}")
        given = operation(*args, **kwargs)
        joins = taken if "_fused_" in str(operation) else ()  # an optimizer's counts of steps
        for tensor in tree_leaves((given, joins)):
            if isinstance(tensor, torch.Tensor):
                _mark(tensor)
        return given


class _Arrays(TorchFunctionMode):
    """NumPy has no tensor of a device."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in ("numpy", "__array__") and is_on_device(args[0]):
            raise MixedDevicesError(f"{function.__name__} of a tensor of the device")
        return function(*args, **kwargs or {})


@contextmanager
def kept_apart():
    """Let this thread refuse to mix host and device."""
    _THREAD.is_watched = True
    try:
        with _Arrays(), _Operations():
            yield
    finally:
        _THREAD.is_watched = False


@contextmanager
def _crossing():
    _THREAD.is_crossing = True
    try:
        yield
    finally:
        _THREAD.is_crossing = False


@dataclass(frozen=True)
class SecondDevice(Device):
    """The device; threads that train on it are watched from then on."""

    @property
    def is_host(self):
        return False

    def place(self, module):
        for tensor in (*module.parameters(), *module.buffers()):
            _mark(tensor)
        return module

    def to(self, tensor):
        if is_on_device(tensor):
            raise MixedDevicesError("to: it is there")
        with _crossing():
            return _mark(tensor.clone())

    def back(self, tensor):
        if not is_on_device(tensor):
            raise MixedDevicesError("back: it is not there")
        with _crossing():
            return tensor.clone()

    def copy_back(self, tensor):
        return self.back(tensor)

    def synchronize(self):
        pass

    def free_memory_bytes(self):
        return 10**9

    def make_deterministic(self, num_threads):
        super().make_deterministic(num_threads)
        if not getattr(_THREAD, "is_watched", False):
            _THREAD.is_watched = True
            _Arrays().__enter__()
            _Operations().__enter__()
