"""What an agent keeps: tensors in declared slots (`core.slots`).

Theory of operation
-------------------
A round that goes back to its return point (`core.program`) finds the ROUND slots as they were when the phase
at the return point had run for the first time in this round: an agent that was absent before has taken over
the shared slots by then, and has trained. So a method may update a momentum or a control variate in any later
phase: however often the averaging begins again, a round counts once. What was trained, in PHASE slots, stays,
because it is what is averaged again. A round that is not committed ends with the same values.

Remembering them costs references and no copies, because tensors are replaced and never written into. Writing
into one (`agent.tensors["momentum"] += 1` does) would change what was remembered; `State` finds that out.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, MutableMapping

import numpy as np
import torch
from torch import Tensor

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.messages import Array
from comdml_flwr.core.slots import RETURN_POINT, Lifetime, Slot
from comdml_flwr.core.typed_json import Json

WEIGHTS = Slot(name="weights", lifetime=Lifetime.ROUND, shared=True, initial=lambda weights_P: weights_P)
"""All float weights of the model, in the model's order."""

ENDED = Slot(name="ended", lifetime=Lifetime.RUN)
"""The model that the last round ended with, until it is known whether it is the best one."""

OWN = Slot(name="own/", lifetime=Lifetime.PHASE)
"""What an agent has trained of its own model in this round."""

EVERY_AGENT = (WEIGHTS, ENDED, OWN)
"""The slots that agents have in every method."""


class State(MutableMapping[str, Tensor]):
    """The tensors of one agent by name, each in a slot.

    Parameters
    ----------
    slots : Iterable[Slot]
        That the method declares, beside those of every agent.
    initial_weights_P : Tensor
        The model's weights that all begin with, float32.

    Raises
    ------
    ValueError
        Two slots claim the same names; or, later, a tensor is set that no slot declares.
    """

    def __init__(self, slots: Iterable[Slot], initial_weights_P: Tensor) -> None:
        self.slots = (*EVERY_AGENT, *slots)
        for slot in self.slots:
            if sum(_claims(other, slot.name) for other in self.slots) > 1:
                raise ValueError(f"slot {slot.name!r}: another slot has this name or holds it in its family")
        self._tensors: dict[str, Tensor] = {}
        self._versions: dict[str, int] = {}
        self._at_return_point: dict[str, Tensor] | None = None
        self[WEIGHTS.name] = initial_weights_P  # the very tensor, which agents of one process share
        for slot in self.slots[len(EVERY_AGENT) :]:
            if slot.initial:
                self[slot.name] = torch.from_numpy(slot.initial(initial_weights_P.numpy()))

    def slot_of(self, name: str) -> Slot:
        """Return the slot of a tensor."""
        for slot in self.slots:
            if _claims(slot, name):
                return slot
        declared = ", ".join(slot.name for slot in self.slots)
        raise ValueError(f"tensor {name!r}: must be in a slot of every agent or of the method: {declared}")

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        self.slot_of(name)
        if self._tensors.get(name) is tensor:
            self._check_untouched(name)
        self._tensors[name] = tensor
        self._versions[name] = _version(tensor)

    def __delitem__(self, name: str) -> None:
        del self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def begin_round(self) -> None:
        """Drop what does not outlive a round."""
        self.commit()
        for name in self._of(Lifetime.PHASE):
            del self[name]

    def snapshot(self) -> dict[str, Tensor]:
        """Return the tensors that go back with a round."""
        names = self._of(Lifetime.ROUND)
        for name in names:
            self._check_untouched(name)
        return {name: self[name] for name in names}

    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Set what goes back with a round to what a snapshot holds; what it does not hold is dropped."""
        for name in self._of(Lifetime.ROUND):
            if name not in snapshot:
                del self[name]
        self.update(snapshot)

    def pass_return_point(self) -> None:
        """Remember what to go back to in this round."""
        self._at_return_point = self.snapshot()

    def roll_back(self) -> None:
        """Go back to the return point, if this round has passed it."""
        if self._at_return_point is not None:
            self.restore(self._at_return_point)

    def commit(self) -> None:
        """Forget the return point: the round's result stands."""
        self._at_return_point = None

    def shared(self) -> dict[str, Tensor]:
        """Return the shared slots by name, the weights first."""
        return {slot.name: self[slot.name] for slot in self.slots if slot.shared}

    def shared_arrays(self) -> dict[str, Array]:
        """Return the shared slots as `take_over` expects them."""
        return {name: tensor.numpy() for name, tensor in self.shared().items()}

    def sha256_of_shared(self, arrays: Mapping[str, Array]) -> str:
        """Return the digest of shared slots that another agent has sent, and that can be ones."""
        return sha256_of(torch.from_numpy(np.array(arrays[name])) for name in self.shared())

    def take_over(self, arrays: Mapping[str, Array], of: str) -> None:
        """Set the shared slots to copies of what another agent has sent.

        Parameters
        ----------
        arrays : Mapping[str, Array]
            As `shared_arrays` gives them.
        of : str
            Whose they are, for the error.

        Raises
        ------
        RunError
            One is not there, of another kind or length than this agent's, or not finite.
        """
        if wrong := self.wrong_shared(arrays):
            raise RunError(f"{of}: {wrong}")
        for name in self.shared():
            self[name] = torch.from_numpy(np.array(arrays[name]))

    def wrong_shared(self, arrays: Mapping[str, Array]) -> str:
        """Tell what is wrong with shared slots that another agent has sent; empty where nothing is."""
        for name, own in self.shared_arrays().items():
            array = arrays.get(name)
            if array is None or array.dtype != own.dtype or array.shape != own.shape:
                return f"{name} is no {own.dtype} array of shape {own.shape}"
            if not np.isfinite(array.sum(dtype=np.float64)):  # NaN and infinity survive a sum
                return f"{name} holds NaN or infinity"
        return ""

    def state_dict(
        self, *, between_rounds: bool, with_return_point: bool
    ) -> tuple[dict[str, Array], dict[str, Json]]:
        """Return all tensors as arrays, and which names stand for the array of another one.

        Parameters
        ----------
        between_rounds : bool
            Leave out what does not outlive a round.
        with_return_point : bool
            The round may still go back to its return point.
        """
        dropped = {*self._of(Lifetime.PHASE)} if between_rounds else set()
        tensors = {name: tensor for name, tensor in self.items() if name not in dropped}
        if with_return_point and self._at_return_point is not None:
            tensors |= {RETURN_POINT + name: tensor for name, tensor in self._at_return_point.items()}
        first: dict[int, str] = {}
        names = {name: first.setdefault(id(tensor), name) for name, tensor in tensors.items()}
        arrays = {name: tensor.numpy() for name, tensor in tensors.items() if names[name] == name}
        return arrays, {name: other for name, other in names.items() if name != other}

    def load_state_dict(self, arrays: Mapping[str, Array], same: Mapping[str, Json]) -> None:
        """Set all tensors to what `state_dict` gave."""
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        tensors |= {name: tensors[str(other)] for name, other in same.items()}
        remembered = {name: tensors.pop(name) for name in [*tensors] if name.startswith(RETURN_POINT)}
        self._tensors.clear()
        self.update(tensors)
        self._at_return_point = {
            name.removeprefix(RETURN_POINT): tensor for name, tensor in remembered.items()
        } or None

    def _of(self, lifetime: Lifetime) -> list[str]:
        return [name for name in self if self.slot_of(name).lifetime is lifetime]

    def _check_untouched(self, name: str) -> None:
        tensor = self._tensors[name]
        if self.slot_of(name).lifetime is not Lifetime.PHASE and _version(tensor) != self._versions[name]:
            raise ValueError(f"tensor {name!r} was written into: set it to a new one instead")


def _claims(slot: Slot, name: str) -> bool:
    return name.startswith(slot.name) if slot.is_family else name == slot.name


def _version(tensor: Tensor) -> int:
    """Return how often a tensor was written into; one made in inference mode does not know."""
    return 0 if tensor.is_inference() else tensor._version


def sha256_of(tensors: Iterable[Tensor]) -> str:
    """Return the digest of the bytes of tensors, one after the other."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.numpy().data)
    return digest.hexdigest()
