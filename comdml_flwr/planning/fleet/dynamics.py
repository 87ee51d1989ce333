"""Fleets that change: the devices of a round, who takes part in it, and speeds as they are observed.

Everything here is a pure function of (fleet, seed, round): all agents, carriers and the dry run draw alike.

A scenario (scenario.py) changes devices between rounds. At each of its draws a share of the agents is chosen,
and each of them gets the device of an agent of the file drawn with equal chances (so the mix of the file is
kept on average; it may be its own), its work staying what it was. With `links`, each link of a chosen agent
becomes the link of a pair of the file, drawn alike. The order of the agents in the file does not matter.
"""

from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.core.seeds import SHARED, derive_seed
from comdml_flwr.planning.fleet.fleet import Fleet, FleetAgent
from comdml_flwr.planning.fleet.scenario import Scenario
from comdml_flwr.planning.types import Link

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


def _drawn(scenario: Scenario, num_agents: int, seed: int, num_draws: int) -> tuple[_Places, _Places]:
    """Return whose device each agent has after a number of draws, and which pair's link each pair has."""
    devices, one_other = np.arange(num_agents), np.triu_indices(num_agents, 1)
    links = np.arange(len(one_other[0]))
    count = round(scenario.share * num_agents)
    for number in range(1, num_draws + 1 if count else 1):
        dice = np.random.default_rng(derive_seed(seed, number, SHARED, "scenario"))
        chosen = np.zeros(num_agents, dtype=np.bool_)
        chosen[dice.choice(num_agents, size=count, replace=False)] = True
        devices[chosen] = dice.integers(num_agents, size=count)
        if scenario.links:
            redrawn = chosen[one_other[0]] | chosen[one_other[1]]
            links[redrawn] = dice.integers(max(1, len(links)), size=np.count_nonzero(redrawn))
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
