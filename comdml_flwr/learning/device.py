"""Where modules live and train, and in which arithmetic: the one place that decides it.

Mail, the tensors of an agent and digests are on the host, always. A learner alone crosses over: what it is
given goes to the device (`to`), what it returns comes back (`back`). On the CPU neither copies anything.
Copies to a GPU go through pinned memory, so that the host goes on meanwhile; copies from it wait for what
they bring. An optimizer's hundreds of tensors cross in one copy for each type (`to_all`, `back_all`).

In another precision than float32 the weights stay float32. Layers that can, compute in the other type
(autocast), and activations come back in it; of float16, losses are scaled: loss_scale.py.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from comdml_flwr.core.settings.device import Precision

TYPES: Mapping[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_FUSED = ("cpu", "cuda", "xpu")  # in all versions of torch that we run with
_NOTHING = nullcontext()


@dataclass(frozen=True, slots=True)
class Device:
    """A device that trains, which is there: `devices.find_device` looks for it.

    Parameters
    ----------
    name : str
        As torch has it, with its number where there may be several: "cpu", "cuda:0", "mps", "xpu:0".
    precision : str
        "float32", "bfloat16" or "float16".
    is_deterministic : bool
        Whether torch may use deterministic kernels alone.
    """

    name: str = "cpu"
    precision: Precision = "float32"
    is_deterministic: bool = False

    @property
    def type(self) -> str:
        """Its kind, without a number."""
        return self.name.partition(":")[0]

    @property
    def is_host(self) -> bool:
        """Whether its memory is the host's, so that nothing needs a copy."""
        return self.type == "cpu"

    @property
    def dtype(self) -> torch.dtype:
        """The type of its precision."""
        return TYPES[self.precision]

    @property
    def has_fused_steps(self) -> bool:
        """Whether torch's optimizers can step over all of its parameters in one kernel."""
        return self.type in _FUSED

    @property
    def generators(self) -> tuple[torch.Generator, ...]:
        """The global generators that layers here may draw from: the host's, and its own."""
        if self.type == "cpu":
            return (torch.default_generator,)
        if self.type == "mps":
            return torch.default_generator, torch.mps._get_default_mps_generator()
        own = getattr(torch, self.type)
        own.init()  # before, there are none
        return torch.default_generator, own.default_generators[int(self.name.partition(":")[2])]

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module here, in place, and return it."""
        return module.to(self.name)

    def to(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the host on this device; the same one where it is there."""
        if self.type == "cuda":
            return tensor.pin_memory().to(self.name, non_blocking=True)
        return tensor.to(self.name)

    def back(self, tensor: Tensor) -> Tensor:
        """Return a tensor of this device on the host; the same one where it is there."""
        if self.type == "cuda":
            on_host = torch.empty_like(tensor, device="cpu", pin_memory=True)
            on_host.copy_(tensor, non_blocking=True)
            torch.cuda.current_stream(tensor.device).synchronize()
            return on_host
        return tensor.cpu()

    def copy_back(self, tensor: Tensor) -> Tensor:
        """Return a copy on the host of a tensor of this device; one that may be kept: it is not pinned."""
        return tensor.clone() if self.is_host else tensor.cpu()

    def to_all(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return tensors of the host on this device; the same ones where they are there."""
        return tensors if self.is_host else _in_one_copy(tensors, self.to)

    def back_all(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return tensors of this device on the host; the same ones where they are there."""
        return tensors if self.is_host else _in_one_copy(tensors, self.copy_back)

    def autocast(self) -> AbstractContextManager[object]:
        """Let what runs inside compute in this precision, where a layer can."""
        if self.precision == "float32":
            return _NOTHING
        return torch.autocast(self.type, dtype=self.dtype)

    def in_full(self, output: Tensor) -> Tensor:
        """Return an output in float32, to add up what a shorter type is too coarse for."""
        return output if self.precision == "float32" else output.float()

    def synchronize(self) -> None:
        """Wait until all work here is done, before a stopwatch is read; a CPU works while it is called."""
        if self.type == "mps":
            torch.mps.synchronize()
        elif not self.is_host:
            getattr(torch, self.type).synchronize(self.name)

    def make_deterministic(self, num_threads: int) -> None:
        """Let the same operations give the same bits in this process, from now on.

        On a CPU that is the number of threads: two in a convolution give other bits than one. On a GPU it
        takes deterministic kernels as well; torch refuses operations that have none. Their workspace must be
        set before cuBLAS is first used here.
        """
        torch.set_num_threads(num_threads)
        if self.is_deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
            torch.backends.cudnn.benchmark = False

    def free_memory_bytes(self) -> int | None:
        """Return how much of its own memory this process can still take; None where that is the host's."""
        if self.is_host:
            return None
        if self.type == "mps":
            return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
        own = getattr(torch, self.type)
        free_bytes, _ = own.mem_get_info(self.name)
        kept_bytes = own.memory_reserved(self.name) - own.memory_allocated(self.name)
        return int(free_bytes + kept_bytes)


def _in_one_copy(tensors: Mapping[str, Tensor], cross: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Return tensors after crossing over as one for each type; what comes is contiguous."""
    crossed: dict[str, Tensor] = {}
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors.values()):
        names = [name for name, tensor in tensors.items() if tensor.dtype == dtype]
        flat = cross(torch.cat([tensors[name].reshape(-1) for name in names]))
        pieces = torch.split(flat, [tensors[name].numel() for name in names])
        for name, piece in zip(names, pieces, strict=True):
            crossed[name] = piece.view(tensors[name].shape)
    return crossed
