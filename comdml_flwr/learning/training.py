"""Local training, batch by batch: a whole model, the slow side with its auxiliary head, or the fast side.

Local-loss split training (ComDML; after Han et al., "Accelerating Federated Learning with Split Learning on
Locally Generated Losses", ICML-FL 2021): the slow side learns from the loss of its auxiliary head and sends
its activations, detached, with the targets; the fast side learns from them with the model's own loss. No
gradient returns, so neither side ever waits for the other's backward pass.

All three are the same step on a `body` and, where the loss is local, a `head` over it. SplitFed, a method
that we compare with, cuts the same step in two: the upper part returns the gradient of its input, the lower
part trains by it.

A part may have nothing to train (a stage that only pools, frozen layers): it then takes no step. Layers that
draw, as dropout does, need a seed for each batch, so that who runs it, and when, changes no bit. Shapes: N
samples.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn

from comdml_flwr.learning.device import Device
from comdml_flwr.learning.global_generator import global_generator
from comdml_flwr.learning.loss_scale import LossScale
from comdml_flwr.learning.optimizer import OptimizerSettings
from comdml_flwr.learning.split import FlatFloats
from comdml_flwr.learning.structure import Nested, call, map_tensors
from comdml_flwr.learning.suspended import ModuleSlot, SuspendedTraining
from comdml_flwr.learning.task import Task


class StepHook(Protocol):
    """Changes the gradients of a batch before the optimizer steps: SCAFFOLD's correction, FedProx's pull."""

    def __call__(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add to each parameter's `grad`, in place.

        Parameters
        ----------
        parameters : Sequence[nn.Parameter]
            That are trained, in the model's order; `grad` is None where the loss does not depend on one.
        """


class Learner:
    """A part of a network in training.

    Parameters
    ----------
    body : nn.Module
        The part; trained in place.
    head : nn.Module or None
        Auxiliary head over `body`; None where `body` ends in the model's own output.
    settings : OptimizerSettings
        The optimizer to begin with.
    task : Task
        What it learns.
    device : Device, optional
        Where it trains; all that it takes and returns is on the host. By default the CPU.
    slot : ModuleSlot, optional
        That of all learners which share modules with this one.

    It begins with the weights that are there.
    """

    def __init__(
        self,
        body: nn.Module,
        head: nn.Module | None,
        settings: OptimizerSettings,
        task: Task,
        device: Device | None = None,
        slot: ModuleSlot | None = None,
    ) -> None:
        self._device = device or Device()
        modules = [self._device.place(part).train() for part in (body, head) if part is not None]
        self.body, self.head = body, head
        self._parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
        self._body_floats = FlatFloats(body, self._device)
        self._head_floats = None if head is None else FlatFloats(head, self._device)
        self._settings = settings
        self._optimizer = settings.start(self._parameters, fused=self._device.has_fused_steps)
        self._loss_scale = LossScale(self._device)
        self._task, self._slot = task, slot or ModuleSlot()

    @property
    def num_floats(self) -> int:
        """How many floats the body has."""
        return len(self._body_floats)

    def at_rate(self, learning_rate: float) -> "Learner":
        """Let steps be taken at this learning rate from now on; return this learner."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        return self

    def begin(self, body_P: Tensor, head_P: Tensor | None = None) -> "Learner":
        """Begin a training with these weights and a fresh optimizer; return this learner."""
        self._slot.evict()
        self._load(body_P, head_P)
        self._forget_steps()
        self._loss_scale.begin()
        return self

    def pause(self) -> SuspendedTraining:
        """Return the training so that it can be resumed, here or in a learner of another process."""
        paused = SuspendedTraining(owner=self, suspend=self._suspend)
        self._slot.hold(paused)
        return paused

    def resume(self, paused: SuspendedTraining) -> "Learner":
        """Go on with a training that paused; return this learner."""
        state = paused.take(self)
        if state is None:
            self._slot.release()
        else:
            self._slot.evict()
            self._optimizer.state.clear()
            self._load_state(state)
        return self

    def load(self, body_P: Tensor) -> nn.Module:
        """Load weights into the body and return it: to look at it, or to evaluate it."""
        self._slot.evict()
        self._body_floats.load(body_P)
        return self.body

    def evaluate(self, batches: Iterable[tuple[Nested, Nested]]) -> dict[str, float]:
        """Return the task's sums over batches of test samples, none of which is empty.

        The body's mode stays as it was.
        """
        sums = dict(self._task.metrics.nothing)
        was_training = self.body.training
        self.body.eval()
        for x, y_N in batches:  # what reads them is the user's, and knows nothing of inference mode
            with torch.inference_mode():
                with self._device.autocast():
                    output = call(self.body, self._placed(x))
                found = self._task.evaluate(self._device.in_full(output), self._placed(y_N))
            for name, value in found.items():
                sums[name] += value
        self.body.train(was_training)
        return sums

    def step(self, x: Nested, y_N: Nested, draws: int | None = None, hook: StepHook | None = None) -> None:
        """Take one optimizer step: as `train_batch`, but so that nobody waits for a GPU to end it."""
        self._train(x, y_N, draws, hook)

    def train_batch(
        self, x: Nested, y_N: Nested, draws: int | None = None, hook: StepHook | None = None
    ) -> tuple[Tensor, Tensor]:
        """Take one optimizer step.

        Parameters
        ----------
        x : Nested
            Samples, or for a fast side the activations of the slow side; (N, ...).
        y_N : Nested
            Targets, as the task has them.
        draws : int, optional
            Seed for what its layers draw; None for a model that draws nothing.
        hook : StepHook, optional
            Called between the backward pass and the step.

        Returns
        -------
        tuple[Tensor, Tensor]
            The body's output, detached, and the mean loss of the batch.
        """
        z, loss = self._train(x, y_N, draws, hook)
        return self._device.back(z), self._device.back(loss)

    def _train(
        self, x: Nested, y_N: Nested, draws: int | None, hook: StepHook | None
    ) -> tuple[Tensor, Tensor]:
        """Take one optimizer step; what is returned is on the device."""
        z, loss = self._backward(self._placed(x), self._placed(y_N), draws)
        self._loss_scale.unscale(self._optimizer)
        if hook is not None:
            hook(self._parameters)
        self._step()
        return z, loss

    def _placed(self, nested: Nested) -> Nested:
        """Return tensors of the host on the device."""
        return map_tensors(self._device.to, nested)

    def _drawing(self, draws: int | None) -> AbstractContextManager[None]:
        """Let layers draw from this seed; None for a model that draws nothing."""
        return global_generator(draws, self._device.generators)

    def _backward(self, x: Nested, y_N: Nested, draws: int | None) -> tuple[Tensor, Tensor]:
        """Run a batch forward and backward; return the body's output and the loss, both detached."""
        with self._device.autocast():
            with self._drawing(draws):
                z = call(self.body, x)
            loss = self._task.loss(z if self.head is None else self.head(z), y_N)
        self._optimizer.zero_grad(set_to_none=True)
        if loss.requires_grad:
            self._loss_scale.backward(loss)
        return z.detach(), loss.detach()

    def _step(self) -> None:
        """Step by the gradients that are there, unscaled."""
        self._settings.clip(self._parameters)
        self._loss_scale.step(self._optimizer)

    def forward(self, x: Nested, draws: int | None = None) -> Tensor:
        """Return the body's output, in training mode but without a step.

        That moves BatchNorm's statistics, so a training that paused here is put down before.
        """
        self._slot.evict()
        with torch.no_grad(), self._device.autocast(), self._drawing(draws):
            z = call(self.body, self._placed(x))
        return self._device.back(z)

    def train_for_gradient(self, z: Tensor, y_N: Nested, draws: int | None = None) -> Tensor | None:
        """Take one optimizer step on activations and return the gradient of the loss with respect to them.

        Activations that are not finite, or whose loss or gradients are not, are refused: None is returned, no
        step is taken, and BatchNorm's statistics are as before.
        """
        if not _are_finite([z]):
            return None
        before = [(buffer, buffer.clone()) for buffer in self.body.buffers()]
        z, y_N = self._device.to(z).detach().requires_grad_(), self._placed(y_N)
        while not self._has_finite_gradients(z, y_N, draws):
            for buffer, value in before:
                buffer.copy_(value)
            if not self._loss_scale.halve():
                return None
        gradient = torch.zeros_like(z) if z.grad is None else z.grad  # the loss may not depend on it
        gradient = self._loss_scale.unscaled(gradient)
        self._loss_scale.unscale(self._optimizer)
        self._step()
        return self._device.back(gradient)

    def _has_finite_gradients(self, z: Tensor, y_N: Nested, draws: int | None) -> bool:
        """Run activations forward and backward; tell whether all that comes of it is finite."""
        z.grad = None
        _, loss = self._backward(z, y_N, draws)
        gradients = [x.grad for x in (z, *self._parameters) if x.grad is not None]
        return _are_finite([loss, *gradients, *self.body.buffers()])

    def train_by_gradient(self, x: Nested, gradient: Tensor, draws: int | None = None) -> None:
        """Take one optimizer step, given the gradient of a loss with respect to the body's output."""
        self._optimizer.zero_grad(set_to_none=True)
        with self._device.autocast(), self._drawing(draws):
            z = call(self.body, self._placed(x))
        if z.requires_grad:
            self._loss_scale.backward_from(z, self._device.to(gradient))
        self._loss_scale.unscale(self._optimizer)
        self._step()

    def weights(self) -> dict[str, Tensor]:
        """Return the weights: "body" and, where the loss is local, "head"."""
        weights = {"body": self._body_floats.write()}
        if self._head_floats is not None:
            weights["head"] = self._head_floats.write()
        return weights

    def _suspend(self) -> dict[str, Tensor]:
        """Return weights and optimizer state; the optimizer's tensors are given away."""
        steps = self._optimizer.state_dict()["state"].items()
        tensors = {f"optimizer/{index}/{name}": x for index, values in steps for name, x in values.items()}
        self._optimizer.state.clear()
        return {**self.weights(), **self._device.back_all(tensors), **self._loss_scale.state()}

    def _forget_steps(self) -> None:
        """Make the optimizer a fresh one: its tensors at 0, which saves making hundreds of new ones."""
        tensors = [x for values in self._optimizer.state.values() for x in values.values() if x is not None]
        if tensors:
            torch._foreach_zero_(tensors)

    def _load(self, body_P: Tensor, head_P: Tensor | None) -> None:
        self._body_floats.load(body_P)
        if self._head_floats is not None and head_P is not None:
            self._head_floats.load(head_P)

    def _load_state(self, state: Mapping[str, Tensor]) -> None:
        self._load(state["body"], state.get("head"))
        self._loss_scale.load_state(state.get("loss_scale"))
        whole = self._optimizer.state_dict()
        stepped = [p for group in self._optimizer.param_groups for p in group["params"]]
        steps = {key: value for key, value in state.items() if key.startswith("optimizer/")}
        for key, value in self._device.to_all(steps).items():
            _, index, name = key.split("/")
            whole["state"].setdefault(int(index), {})[name] = _laid_out_like(stepped[int(index)], value)
        self._optimizer.load_state_dict(whole)


def _are_finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """Copy an optimizer's state, with its parameter's strides: a file has none, and fused steps rely on them.

    What is no copy, steps would write into; or a single number would keep all that it crossed over with.
    """
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value.clone()
