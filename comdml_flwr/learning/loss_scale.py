"""Loss scaling: in float16, gradients below 6e-8 would vanish, so the loss is multiplied before.

P. Micikevicius et al., "Mixed Precision Training", ICLR 2018, arXiv 1710.03740. The scale is torch's dynamic
one: it is halved when a gradient overflows, and that batch's step is left out; after 2,000 batches without an
overflow it doubles. As the optimizer, it begins afresh in every round; it goes with a training that pauses.

In other precisions nothing is scaled, and all of this is the plain backward pass and step.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from comdml_flwr.learning.device import Device

INITIAL = 2.0**16  # torch's own; more than that overflows float16 at once
LEAST = 1.0  # what overflows unscaled is no matter of the scale


class LossScale:
    """The scale of one training's losses.

    Parameters
    ----------
    device : Device
        Where it trains; in float16, it scales.
    """

    def __init__(self, device: Device) -> None:
        self._kind = device.type
        self._scaler = self._new(INITIAL, 0) if device.precision == "float16" else None

    def _new(self, scale: float, num_good: int) -> torch.amp.GradScaler:
        """Return a scaler; torch's makes its tensors when it is first used, so this moves nothing."""
        scaler = torch.amp.GradScaler(self._kind)
        told = {"scale": scale, "backoff_factor": 0.5, "growth_factor": 2.0}
        scaler.load_state_dict({**told, "growth_interval": 2000, "_growth_tracker": num_good})
        return scaler

    def begin(self) -> None:
        """Begin afresh."""
        if self._scaler:
            self._scaler = self._new(INITIAL, 0)

    def backward(self, loss: Tensor) -> None:
        """Take the gradients of a loss, scaled."""
        if self._scaler:
            loss = self._scaler.scale(loss)
        loss.backward()  # type: ignore[no-untyped-call]

    def backward_from(self, z: Tensor, gradient: Tensor) -> None:
        """Take the gradients of what a loss depends on through z, scaled, given those of z (float32)."""
        if self._scaler:
            gradient = self._scaler.scale(gradient)
        torch.autograd.backward(z, gradient.to(z.dtype))

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the scale, before anybody looks at them or changes them."""
        if self._scaler and _has_gradients(optimizer):
            self._scaler.unscale_(optimizer)

    def unscaled(self, gradient: Tensor) -> Tensor:
        """Return a gradient that no optimizer steps by, float32, divided by the scale."""
        gradient = gradient.float()
        return gradient / self._scaler.get_scale() if self._scaler else gradient

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the optimizer step, unless a gradient has overflowed; the scale follows."""
        if self._scaler is None:
            optimizer.step()
        elif _has_gradients(optimizer):
            self._scaler.step(optimizer)
            self._scaler.update()

    def halve(self) -> bool:
        """Halve the scale after gradients that are not finite; False where that cannot help."""
        if self._scaler is None or self._scaler.get_scale() <= LEAST:
            return False
        self._scaler = self._new(self._scaler.get_scale() / 2, 0)
        return True

    def state(self) -> dict[str, Tensor]:
        """Return it as tensors by name; none where nothing is scaled."""
        if self._scaler is None:
            return {}
        told = self._scaler.state_dict()
        return {"loss_scale": torch.tensor([told["scale"], told["_growth_tracker"]])}

    def load_state(self, state: Tensor | None) -> None:
        """Take up what `state` gave."""
        if self._scaler and state is not None:
            scale, num_good = state.tolist()
            self._scaler = self._new(scale, int(num_good))


def _has_gradients(optimizer: torch.optim.Optimizer) -> bool:
    parameters: Iterable[Tensor] = (p for group in optimizer.param_groups for p in group["params"])
    return any(parameter.grad is not None for parameter in parameters)
