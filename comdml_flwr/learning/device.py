"""Where modules live and train.

Mail, the tensors of an agent and digests are on the host, always. A learner alone crosses over: what it is
given goes to the device (`to`), what it returns comes back (`back`). Today that is the CPU, where neither
copies anything.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from comdml_flwr.core.errors import InputError


@dataclass(frozen=True, slots=True)
class Device:
    """A device that trains.

    Parameters
    ----------
    name : str
        "cpu".
    """

    name: str = "cpu"

    def __post_init__(self) -> None:
        if self.name != "cpu":
            raise InputError("device", self.name, "must be cpu")

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module here, in place, and return it."""
        return module.to(self.name)

    def to(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the host on this device; the same one where it is there."""
        return tensor.to(self.name)

    def back(self, tensor: Tensor) -> Tensor:
        """Return a tensor of this device on the host; the same one where it is there."""
        return tensor.cpu()

    def synchronize(self) -> None:
        """Wait until all work here is done, before a stopwatch is read; a CPU works while it is called."""

    def make_deterministic(self, num_threads: int) -> None:
        """Let the same operations give the same bits in this process, from now on.

        On a CPU that is the number of threads: two in a convolution give other bits than one.
        """
        torch.set_num_threads(num_threads)
