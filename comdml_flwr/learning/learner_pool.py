"""The learners of one thread."""

import copy
import threading
from collections.abc import Callable

from torch import nn

from comdml_flwr.learning.device import Device
from comdml_flwr.learning.optimizer import OptimizerSettings
from comdml_flwr.learning.split import split
from comdml_flwr.learning.suspended import ModuleSlot
from comdml_flwr.learning.task import Task
from comdml_flwr.learning.training import Learner


class LearnerPool(threading.local):
    """The learners of one thread: built once, then loaded with the weights of whoever is next.

    There are two sets of modules: one for an agent's own training, and one for the upper layers of others, so
    that a helper, which trains both by turns, copies neither. (Both count in a helper's memory.) Learners of
    one set use the same modules: only the one that began or resumed last may be used.

    Parameters
    ----------
    build_model : Callable[[], nn.Sequential]
        Builds the model; its weights do not matter.
    build_aux_head : Callable[[int], nn.Module]
        Builds the auxiliary head of a cut; its weights do not matter.
    settings : OptimizerSettings
        The optimizer that every training begins with.
    task : Task
        What they learn.
    device : Device
        Where they train.
    """

    def __init__(
        self,
        build_model: Callable[[], nn.Sequential],
        build_aux_head: Callable[[int], nn.Module],
        settings: OptimizerSettings,
        task: Task,
        device: Device,
    ) -> None:
        self.model = build_model()  # on the host, for whoever wants its names and shapes
        self._own_model = self.model if device.is_host else copy.deepcopy(self.model)
        self._build_model, self._build_aux_head = build_model, build_aux_head
        self._settings, self._task, self._device = settings, task, device
        self._partner_model: nn.Sequential | None = None
        self._own_modules, self._partner_modules = ModuleSlot(), ModuleSlot()
        self._learners: dict[tuple[str, int], Learner] = {}
        self._rate = settings.learning_rate

    def at_rate(self, learning_rate: float) -> "LearnerPool":
        """Let the learners that are asked for next, in this thread, step at this rate; return the pool."""
        self._rate = learning_rate
        return self

    def whole(self) -> Learner:
        """Return the learner of the whole model."""
        return self._learner(("whole", 0), self._own_modules, lambda: (self._own_model, None))

    def whole_apart(self) -> Learner:
        """Return a new learner of the whole model in modules of its own, which the others never see."""
        return Learner(copy.deepcopy(self.model), None, self._settings, self._task, self._device)

    def slow_side(self, cut: int) -> Learner:
        """Return the learner of a slow side with its auxiliary head."""
        return self._learner(
            ("slow side", cut),
            self._own_modules,
            lambda: (split(self._own_model, cut)[0], self._build_aux_head(cut)),
        )

    def lower_part(self, cut: int) -> Learner:
        """Return the learner of a slow side without a head of its own, as SplitFed trains it."""
        return self._learner(
            ("lower part", cut), self._own_modules, lambda: (split(self._own_model, cut)[0], None)
        )

    def fast_side(self, cut: int) -> Learner:
        """Return the learner of a fast side."""
        return self._learner(
            ("fast side", cut), self._partner_modules, lambda: (split(self._partners(), cut)[1], None)
        )

    def _partners(self) -> nn.Sequential:
        if self._partner_model is None:
            self._partner_model = self._build_model()
        return self._partner_model

    def _learner(
        self,
        key: tuple[str, int],
        slot: ModuleSlot,
        parts: Callable[[], tuple[nn.Module, nn.Module | None]],
    ) -> Learner:
        if key not in self._learners:
            self._learners[key] = Learner(*parts(), self._settings, self._task, self._device, slot)
        return self._learners[key].at_rate(self._rate)
