"""A slot: what a method declares of a tensor that it keeps.

A method says of every tensor that it keeps how long it lives, whether it is the same at all agents, and what
it begins with. Whatever has to be done with a tensor follows from its slot, so that nobody else knows it by
name:

    lifetime   with the end of a round   where a round begins again   in a checkpoint
    PHASE      dropped                   kept                         no
    ROUND      kept                      rolled back                  yes
    RUN        kept                      kept                         yes

A *shared* slot is handed, with the model's weights, to agents that were absent or come back, and is part of
the digest by which agents see that they agree on a round's result. `agents.state` says how all that is done.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from comdml_flwr.core.messages import Array, Floats

RETURN_POINT = "return point/"
"""Begins the names of what an agent remembers to go back to: no slot's name may."""


class Lifetime(Enum):
    """How long a tensor is kept, and whether it goes back with a round that begins again."""

    PHASE = "phase"
    ROUND = "round"
    RUN = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A tensor that a method keeps, or a family of them.

    Parameters
    ----------
    name : str
        Of the tensor. A name that ends in "/" declares a family: all tensors whose names begin with it, such
        as one for each cut or for each agent.
    lifetime : Lifetime
        PHASE: until the next round begins. ROUND: kept, and rolled back where a round begins again or is not
        committed. RUN: kept and never rolled back.
    shared : bool
        Equal at all agents after a round, as the weights are. Otherwise it is this agent's own.
    initial : Callable[[Floats], Array], optional
        What it begins with, given the model's initial weights (float32, shape (P,)): `np.zeros_like`, say.
        None: it is not there before it is set. A shared slot needs one.
    """

    name: str
    lifetime: Lifetime
    shared: bool = False
    initial: Callable[[Floats], Array] | None = None

    def __post_init__(self) -> None:
        if not self.name.removesuffix("/") or self.name.startswith(RETURN_POINT):
            raise ValueError(f"name = {self.name!r}: must be the name of a tensor or of a family of tensors")
        if self.initial and self.is_family:
            raise ValueError(f"slot {self.name!r}: a family has no initial value")
        if self.shared and (self.initial is None or self.lifetime is Lifetime.PHASE):
            raise ValueError(
                f"slot {self.name!r}: must have an initial value and outlive a round to be shared"
            )

    def of(self, member: int | str) -> str:
        """Return the name of a tensor of this family."""
        return f"{self.name}{member}"

    @property
    def is_family(self) -> bool:
        """Whether it declares all tensors whose names begin with its own."""
        return self.name.endswith("/")
