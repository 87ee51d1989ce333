"""Fleets that change: the devices of a round, who takes part in it, and speeds as they are observed.

Everything here is a pure function of (fleet, seed, round): all agents, carriers and the dry run draw alike.

A scenario (scenario.py) changes devices between rounds. At each of its draws a share of the agents is chosen,
and each of them gets the device of an agent of the file drawn with equal chances (so the mix of the file is
kept on average; it may be its own), its work staying what it was. With `links`, each link of a chosen agent
becomes the link of a pair of the file, drawn alike. The order of the agents in the file does not matter.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.seeds import SHARED, derive_seed
from comdml_flwr.planning.fleet.fleet import Fleet, FleetAgent
from comdml_flwr.planning.fleet.scenario import Availability, Scenario
from comdml_flwr.planning.types import Cut, Link

_Places = NDArray[np.int64]


def fleet_at(fleet: Fleet, seed: int, round_: int) -> Fleet:
    """Return the fleet as it is in a round.

    Parameters
    ----------
    fleet : Fleet
        As the file has it: what holds in round 1, but for the noise.
    seed : int
        Of the run.
    round_ : int
        Counted from 1.

    Returns
    -------
    Fleet
        The same object where there is no scenario.
    """
    scenario = fleet.scenario
    if scenario is None:
        return fleet
    agents = sorted(fleet.agents, key=lambda agent: agent.id)
    devices, links = _drawn(scenario, len(agents), seed, (round_ - 1) // scenario.every)
    factors = _noise(scenario, len(agents), seed, round_)
    changed = {
        agent.id: _with_device(agent, agents[device], factor)
        for agent, device, factor in zip(agents, devices.tolist(), factors.tolist(), strict=True)
    }
    return replace(
        fleet,
        agents=tuple(changed[agent.id] for agent in fleet.agents),
        overrides={**fleet.overrides, **_links_drawn(fleet, links)},
    )


def unchanged_since(fleet: Fleet, round_: int) -> int:
    """Return the first round since which `fleet_at` has been what it is in this one."""
    if fleet.scenario is None:
        return 1
    if fleet.scenario.speed_noise:
        return round_
    return (round_ - 1) // fleet.scenario.every * fleet.scenario.every + 1


def newcomers_after(
    round_: int, num_rounds: int, present: Callable[[int], tuple[int, ...]]
) -> tuple[int, ...]:
    """Return who is absent in a round and takes part in the next; nobody after the last round."""
    if round_ == num_rounds:
        return ()
    now = present(round_)
    return tuple(agent for agent in present(round_ + 1) if agent not in now)


def draw_participants(
    ids: tuple[int, ...],
    participation: float,
    seed: int,
    round_: int,
    availability: Availability | None = None,
) -> tuple[int, ...]:
    """Return who takes part in a round: a seeded sample of those who are there.

    Parameters
    ----------
    ids : tuple[int, ...]
        All agents of the run, ascending.
    participation : float
        Share of those who are there, in (0, 1]; at least one agent takes part.
    seed, round_ : int
        Of the run.
    availability : Availability, optional
        Who is there; without it, all are.

    Raises
    ------
    InputError
        Nobody is there.
    """
    there = ids
    if availability is not None:
        there = tuple(agent for agent in ids if availability.is_present(agent, round_))
    if not there:
        raise InputError("availability", f"nobody in round {round_}", "must leave one agent in each round")
    count = max(1, round(participation * len(there)))
    generator = np.random.default_rng(derive_seed(seed, round_, SHARED, "participants"))
    return tuple(sorted(int(agent) for agent in generator.choice(there, size=count, replace=False)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedEstimate:
    """How fast an agent trains, smoothed over what was observed of it.

    Observed is the time of the slow side's batches at the cut that was in use, without what was spent on
    sending. An exponential moving average (EMA) smooths it, and other cuts follow by the ratio of their
    shares, as in DTFL (S. M. Sajjadi Mohammadabadi et al., arXiv 2312.05642):

        time at cut m' = EMA of (time at cut m / a_m) * a_m'

    Parameters
    ----------
    weight : float
        Of the newest observation, in (0, 1]; 1 forgets all others.
    batch_s : float or None
        Smoothed seconds per batch of the whole model; None before the first observation.

    Examples
    --------
    >>> half = Cut(slow_share=0.5, fast_share=0.5, bytes_per_batch=0)
    >>> estimate = SpeedEstimate(weight=0.5).observe(20.0, num_batches=10)  # 2 s a batch
    >>> estimate = estimate.observe(20.0, num_batches=10, cut=half)  # as if 4 s a batch
    >>> estimate.batch_s, estimate.slow_side_s(half)
    (3.0, 1.5)
    """

    weight: float = 0.5
    batch_s: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise InputError("weight", self.weight, "must be in (0, 1]")

    def observe(self, work_s: float, *, num_batches: float, cut: Cut | None = None) -> "SpeedEstimate":
        """Take in that so many batches took so long, on the slow side of a cut or on the whole model."""
        share = 1.0 if cut is None else cut.slow_share
        if not (work_s > 0 and num_batches > 0 and share > 0):
            values = f"{work_s!r} s for {num_batches!r} batches at share {share!r}"
            raise InputError("observed speed", values, "must all be > 0")
        newest_s = work_s / num_batches / share
        old_s = newest_s if self.batch_s is None else self.batch_s
        return replace(self, batch_s=self.weight * newest_s + (1 - self.weight) * old_s)

    @property
    def batches_per_s(self) -> float:
        """The speed on the whole model, as a profile tells it."""
        return 1 / self._known_batch_s()

    def slow_side_s(self, cut: Cut) -> float:
        """Return the expected seconds per batch of the slow side of a cut, observed before or not."""
        return self._known_batch_s() * cut.slow_share

    def fast_side_s(self, cut: Cut) -> float:
        """Return the expected seconds per batch of the fast side of a cut."""
        return self._known_batch_s() * cut.fast_share

    def _known_batch_s(self) -> float:
        if self.batch_s is None:
            raise InputError("observed speed", None, "must be observed once before it is used")
        return self.batch_s


def _drawn(scenario: Scenario, num_agents: int, seed: int, num_draws: int) -> tuple[_Places, _Places]:
    """Return whose device each agent has after so many draws, and which pair's link each pair has."""
    devices, one_other = np.arange(num_agents), np.triu_indices(num_agents, 1)
    links = np.arange(len(one_other[0]))
    count = round(scenario.share * num_agents)
    for number in range(1, num_draws + 1 if count else 1):
        dice = np.random.default_rng(derive_seed(seed, number, SHARED, "scenario"))
        chosen = np.zeros(num_agents, dtype=np.bool_)
        chosen[dice.choice(num_agents, size=count, replace=False)] = True
        devices[chosen] = dice.integers(num_agents, size=count)
        if scenario.links:
            anew = chosen[one_other[0]] | chosen[one_other[1]]
            links[anew] = dice.integers(max(1, len(links)), size=np.count_nonzero(anew))
    return devices, links


def _noise(scenario: Scenario, num_agents: int, seed: int, round_: int) -> NDArray[np.float64]:
    """Return by which factor each speed differs: only + - *, so that all machines find the same bits."""
    if not scenario.speed_noise:
        return np.ones(num_agents)
    dice = np.random.default_rng(derive_seed(seed, round_, SHARED, "speed noise"))
    return 1 + scenario.speed_noise * (2 * dice.random(num_agents) - 1)


def _with_device(agent: FleetAgent, device: FleetAgent, factor: float) -> FleetAgent:
    return replace(
        device,
        id=agent.id,
        num_samples=agent.num_samples,
        num_batches=agent.num_batches,
        flops_per_s=_scaled(device.flops_per_s, factor),
        batches_per_s=_scaled(device.batches_per_s, factor),
    )


def _scaled(speed: float | None, factor: float) -> float | None:
    return None if speed is None else speed * factor


def _links_drawn(fleet: Fleet, links: _Places) -> dict[tuple[int, int], Link]:
    moved = np.flatnonzero(links != np.arange(len(links))).tolist()
    if not moved:
        return {}
    of_file, pairs = fleet.links_by_agent(), list(combinations(sorted(a.id for a in fleet.agents), 2))
    sources = {place: pairs[links[place]] for place in moved}
    return {pairs[place]: of_file[one][other] for place, (one, other) in sources.items()}
