"""An agent's role in a round of ComDML: whom it gives its upper layers to, and whose it trains.

The role follows from the plan and stays as it is for the round; beside it the agent keeps how far it has
trained the fast side of each partner. Both are kept as JSON among the agent's notes, in one place each.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Self

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.typed_json import Json, read_int, read_ints, read_list, read_table, read_text
from comdml_flwr.planning.types import Pair, Plan

_ROLE = "role"  # among the notes
_PROGRESS = "fast side of "  # and the partner's id


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """An agent's part in a round's plan; with neither helper nor partner it trains its whole model.

    Parameters
    ----------
    digest : str
        Of the plan and the profiles that it was made from: mail under another one is refused.
    offload : Pair, optional
        The pair in which this agent is the slow one.
    partners : Mapping[int, Pair]
        The pairs in which it is the helper, by the slow agent's id.
    same_cut : tuple[int, ...]
        The slow agents that have this one's cut, itself included: they average their auxiliary heads.
    """

    digest: str
    offload: Pair | None = None
    partners: Mapping[int, Pair] = field(default_factory=dict)
    same_cut: tuple[int, ...] = ()

    def has_lost_helper(self, agent: Agent) -> bool:
        """Tell whether this is a slow agent whose helper is gone."""
        return self.offload is not None and self.offload.fast in agent.gone

    def pack(self) -> dict[str, Json]:
        """Return the role as JSON."""
        return {
            "digest": self.digest,
            "offload": None if self.offload is None else self.offload.to_json(),
            "partners": [pair.to_json() for _, pair in sorted(self.partners.items())],
            "same_cut": list(self.same_cut),
        }

    @classmethod
    def unpack(cls, packed: Json) -> Self:
        """Return the role that `pack` gave. Raises TypeError or KeyError where it is something else."""
        table = read_table(packed)
        pairs = [Pair.from_json(pair) for pair in read_list(table["partners"])]
        return cls(
            digest=read_text(table["digest"]),
            offload=None if table["offload"] is None else Pair.from_json(table["offload"]),
            partners={pair.slow: pair for pair in pairs},
            same_cut=read_ints(table["same_cut"]),
        )


def role_in(plan: Plan, agent: int, digest: str) -> Role:
    """Return an agent's part in a plan."""
    offload = next((pair for pair in plan.pairs if pair.slow == agent), None)
    return Role(
        digest=digest,
        offload=offload,
        partners={pair.slow: pair for pair in plan.pairs if pair.fast == agent},
        same_cut=tuple(pair.slow for pair in plan.pairs if offload and pair.cut == offload.cut),
    )


def set_role(agent: Agent, role: Role) -> None:
    """Keep an agent's role for the later phases of the round."""
    agent.notes[_ROLE] = role.pack()


def role_of(agent: Agent) -> Role:
    """Return the role that an agent has in this round, once the plan is known."""
    return Role.unpack(agent.notes[_ROLE])


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a helper has trained a partner's fast side.

    Parameters
    ----------
    num_samples : int
        How many training samples the partner has, by its own word.
    batches_left : int
        How many of its batches in this round are still to come.
    """

    num_samples: int
    batches_left: int


def set_progress(agent: Agent, partner: int, progress: Progress) -> None:
    """Keep how far a helper has trained a partner's fast side."""
    agent.notes[f"{_PROGRESS}{partner}"] = asdict(progress)


def progress_of(agent: Agent, partner: int) -> Progress | None:
    """Return how far a helper has trained a partner's fast side; None if nothing has come of it."""
    note = agent.notes.get(f"{_PROGRESS}{partner}")
    if note is None:
        return None
    table = read_table(note)
    return Progress(num_samples=read_int(table["num_samples"]), batches_left=read_int(table["batches_left"]))
