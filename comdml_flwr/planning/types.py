"""What the planner takes and gives: links, profiles, cuts, pairs, plans.

Terms: an *agent* learns; a *cut* is the index m of the cut layer in the authors' order
(0 = no offload, 1 offloads least, M keeps only the stem); a *pair* is a slow agent and the fast agent that
trains its upper layers; a *plan* is the pairs, who trains alone, and the makespan that this predicts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import inf, isfinite, isnan
from typing import Self, TypeAlias

from comdml_flwr.core.by_cut import ByCut
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.typed_json import Json, read_float, read_int, read_list, read_row, read_table

BYTES_PER_S_PER_MBPS = 125_000.0

SERVER = -1
"""Stands for the server among agent ids, in the methods that have one; it trains on no data of its own."""


def _check(what: str, value: float, holds: bool, rule: str) -> None:
    if not (isfinite(value) and holds):
        raise InputError(what, value, rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A connection between two agents, equal in both directions.

    Parameters
    ----------
    bytes_per_s : float
        Bandwidth; 0 means that the two are not connected.
    latency_s : float
        Time from sending to receiving an empty message.
    """

    bytes_per_s: float
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        _check("link.bytes_per_s", self.bytes_per_s, self.bytes_per_s >= 0, "must be a finite number >= 0")
        _check("link.latency_s", self.latency_s, self.latency_s >= 0, "must be a finite number >= 0")


NO_LINK = Link(bytes_per_s=0.0)
"""Between agents that are not connected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What an agent tells of itself before a round.

    Parameters
    ----------
    agent : int
        Its id, >= 0; or SERVER.
    batches_per_s : float
        Training speed on the whole model (p_i in the paper), > 0.
    num_batches : float
        Batches that it trains in the round (N_i), > 0 (of the server: 0); fractional when the last batch of
        an epoch is small.
    links : Mapping[int, Link]
        Its links by the other agent's id; an absent id means not connected.
    memory_bytes : float
        What it may hold while it trains; inf means no bound.
    nic_bytes_per_s : float
        Speed of its network card, in each direction: all links together carry no more. inf means not told:
        as fast as its fastest link.
    """

    agent: int
    batches_per_s: float
    num_batches: float
    links: Mapping[int, Link] = field(default_factory=dict)
    memory_bytes: float = inf
    nic_bytes_per_s: float = inf

    def __post_init__(self) -> None:
        _check("profile.agent", self.agent, self.agent >= SERVER, "must be >= 0")
        for name in ("batches_per_s", "num_batches"):
            value = getattr(self, name)
            holds = value > 0 or (self.agent == SERVER and name == "num_batches" and value == 0)
            _check(f"profile.{name}", value, holds, "must be a finite number > 0")
        for name in ("memory_bytes", "nic_bytes_per_s"):
            value = getattr(self, name)
            if isnan(value) or value <= 0:
                raise InputError(f"profile.{name}", value, "must be a number > 0, or inf")

    @property
    def solo_s(self) -> float:
        """Time to train the whole model alone: T_i = N_i / p_i."""
        return self.num_batches / self.batches_per_s

    def to_json(self) -> dict[str, Json]:
        """Return all fields as plain values, by name; None: no bound.

        This is what travels to peers and what a plan's digest covers, so it is made of the fields that there
        are: none can be forgotten.
        """
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        values["links"] = links_to_json(self.links)
        return {name: None if value == inf else value for name, value in values.items()}

    @classmethod
    def from_json(cls, told: Json) -> Self:
        """Return the profile that `to_json` gave.

        Raises
        ------
        TypeError
            It is something else.
        InputError
            A value breaks a rule.
        """
        table = read_table(told)
        names = {one.name for one in fields(cls)}
        if table.keys() != names:
            raise TypeError(f"a profile holds {', '.join(sorted(names))}, not {', '.join(sorted(table))}")
        numbers = {name: read_bound(table[name]) for name in names - {"agent", "links"}}
        return cls(agent=read_int(table["agent"]), links=links_from_json(table["links"]), **numbers)


def links_to_json(links: Mapping[int, Link]) -> list[list[int | float]]:
    """Return links as rows of the other agent's id, bandwidth and latency, in ascending id."""
    return [[peer, link.bytes_per_s, link.latency_s] for peer, link in sorted(links.items())]


def links_from_json(rows: Json) -> dict[int, Link]:
    """Return the links that `links_to_json` gave. Raises TypeError where it is something else."""
    links = {}
    for row in read_list(rows):
        peer, bytes_per_s, latency_s = read_row(row, 3)
        links[read_int(peer)] = Link(bytes_per_s=read_float(bytes_per_s), latency_s=read_float(latency_s))
    return links


def read_bound(value: Json) -> float:
    """Return a number of JSON; None stands for inf, which JSON does not have."""
    return inf if value is None else read_float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One way to split the model, measured per batch.

    Parameters
    ----------
    slow_share : float
        Share of the whole model's time per batch that stays on the slow side, auxiliary head included (a_m).
    fast_share : float
        Share that the fast side takes (b_m). The two need not add up to 1.
    bytes_per_batch : float
        Activations and labels of one full batch (d_m).
    slow_bytes, fast_bytes : float
        What training one batch takes on each side: weights, gradients, optimizer state, activations. 0 means
        not told, which no agent with a bound on its memory may meet.
    whole_bytes : float
        The same for the whole model; equal in all cuts of a table.
    is_possible : bool
        False: no plan may use this cut. It is there so that the numbers of the other cuts stay.
    """

    slow_share: float
    fast_share: float
    bytes_per_batch: float
    slow_bytes: float = 0.0
    fast_bytes: float = 0.0
    whole_bytes: float = 0.0
    is_possible: bool = True

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            _check(f"cut.{name}", value, value >= 0, "must be a finite number >= 0")


CutTable: TypeAlias = ByCut[Cut]
"""The cuts 1..M of a model: `table[1]` is cut 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A slow agent, the fast agent that trains its upper layers, and the cut between the two halves.

    Parameters
    ----------
    slow, fast : int
        Agent ids. Where one helper serves several slow agents, each of them has a pair with it.
    cut : int
        1..M; 1 offloads least.
    finish_s : float
        When the later of the two has finished its training (predicted): for a helper of several, the end of
        its whole group.
    traffic_bytes : float
        Activations and labels that go from slow to fast in the round.
    """

    slow: int
    fast: int
    cut: int
    finish_s: float
    traffic_bytes: float

    def to_json(self) -> dict[str, int | float]:
        """Return the pair as `comdml plan --json` and `rounds.jsonl` show it."""
        return {
            "slow": self.slow,
            "fast": self.fast,
            "cut": self.cut,
            "finish_s": self.finish_s,
            "bytes": self.traffic_bytes,
        }

    @classmethod
    def from_json(cls, told: Json) -> Self:
        """Return the pair that `to_json` gave. Raises TypeError or KeyError where it is something else."""
        table = read_table(told)
        return cls(
            slow=read_int(table["slow"]),
            fast=read_int(table["fast"]),
            cut=read_int(table["cut"]),
            finish_s=read_float(table["finish_s"]),
            traffic_bytes=read_float(table["bytes"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Who helps whom in a round, and the end of training that this predicts.

    Parameters
    ----------
    solver, time_model : str
        How it was found.
    pairs : tuple[Pair, ...]
        In ascending id of the slow agent.
    solo : tuple[int, ...]
        Ids of the agents that train alone, ascending.
    makespan_s : float
        Predicted end of training of the last agent.
    solo_makespan_s : float
        The same if nobody helped anybody and memory had no bound.
    lower_bound_s : float
        No plan with one helper per slow agent ends earlier.
    """

    solver: str
    time_model: str
    pairs: tuple[Pair, ...]
    solo: tuple[int, ...]
    makespan_s: float
    solo_makespan_s: float
    lower_bound_s: float
