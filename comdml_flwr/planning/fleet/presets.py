"""Fleets of the published settings, drawn from a seed, as the text of a fleet file.

comdml-10, -20, -50, -100: CPUs {4, 2, 1, 0.5, 0.2}, a fifth of the agents each; speeds of links from
{0, 10, 20, 50, 100} Mbps, all equally likely; ResNet-56 on 50,000 samples in equal parts; 20 % of the devices
drawn again every 100 rounds. (The paper's exact values were not available to us; these are the ones that its
authors' code and reports support.) What "0 Mbps" belongs to decides the whole result:

    per link    each pair's speed is drawn for itself. 0 means that these two are not connected; both still
                have other partners, so a slow agent nearly always finds a helper: exact pairing makes
                training 4.9 times as fast with 10 agents and 5.0 times with 20, 50 and 100.
    per agent   each agent's network is drawn, and a pair has the slower of its two. 0 means that the agent is
                cut off: it can never offload. Among many agents one of the slowest is cut off nearly always
                and fixes the makespan: 2.3, 2.1, 1.2 and 1.0 times as fast with 10, 20, 50 and 100 agents.

(Means over 20, 20, 10 and 6 seeds, exact solver, pipeline time model.)

dtfl-case-1, -2: the two cases of DTFL (arXiv 2312.05642), ten agents: 2, 1 and 0.2 CPUs at 30 Mbps; and 4
CPUs at 100 Mbps, 1 at 30, 0.1 at 10. The server of DTFL is left out: agents help each other. 30 % of the
devices, with their networks, are drawn again every 50 rounds. ResNet-110, as in its tables.

ten: ten unequal devices, the default of a run: one fleet for good, in ten.toml beside this file.

1 CPU is 1e9 FLOP/s of sustained training speed in all our presets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.seeds import SHARED, derive_seed

CPU_FLOPS_PER_S = 1e9
LINK_MBPS = (0, 10, 20, 50, 100)
ZERO_MBPS = ("per-link", "per-agent")
_RELAY_MBPS = 10
_NUM_SAMPLES = 50_000  # of CIFAR-10


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A published setting.

    Parameters
    ----------
    num_agents : int
        How many.
    cpus : tuple[float, ...]
        Devices, as equal in number as can be.
    mbps : tuple[float, ...] or None
        The network of each device; None: drawn from `LINK_MBPS`.
    model : str
        What to plan for.
    share, every : float, int
        Which share of the devices is drawn again after how many rounds.
    """

    num_agents: int
    cpus: tuple[float, ...]
    mbps: tuple[float, ...] | None
    model: str
    share: float
    every: int


def _comdml(num_agents: int) -> Preset:
    cpus = (4, 2, 1, 0.5, 0.2)
    return Preset(num_agents=num_agents, cpus=cpus, mbps=None, model="resnet-56", share=0.2, every=100)


def _dtfl(cpus: tuple[float, ...], mbps: tuple[float, ...]) -> Preset:
    return Preset(num_agents=10, cpus=cpus, mbps=mbps, model="resnet-110", share=0.3, every=50)


PRESETS: Mapping[str, Preset] = {
    **{f"comdml-{num_agents}": _comdml(num_agents) for num_agents in (10, 20, 50, 100)},
    "dtfl-case-1": _dtfl((2, 1, 0.2), (30, 30, 30)),
    "dtfl-case-2": _dtfl((4, 1, 0.1), (100, 30, 10)),
}


FIXED = "ten"
FLEET_NAMES = (FIXED, *PRESETS)
"""Wherever a fleet file is named one of these may stand instead."""


def preset_text(name: str, *, seed: int = 1, zero_mbps: str = "per-link") -> str:
    """Write a fleet file.

    Parameters
    ----------
    name : str
        One of `FLEET_NAMES`.
    seed : int
        Same seed, same file; `ten` does not depend on it.
    zero_mbps : str
        "per-link" or "per-agent", see the module docstring; the others have no 0 Mbps and ignore it.

    Returns
    -------
    str
        TOML; `load_fleet` reads it.

    Raises
    ------
    InputError
        There is no such preset or no such way.
    """
    if name not in FLEET_NAMES:
        raise InputError("preset", name, f"must be one of {', '.join(FLEET_NAMES)}")
    if zero_mbps not in ZERO_MBPS:
        raise InputError("zero-mbps", zero_mbps, f"must be one of {', '.join(ZERO_MBPS)}")
    if name == FIXED:
        return Path(__file__).with_name("ten.toml").read_text(encoding="utf-8")
    preset = PRESETS[name]
    dice = np.random.default_rng(derive_seed(seed, SHARED, SHARED, f"preset {name}"))
    per_link = preset.mbps is None and zero_mbps == "per-link"
    way = f", 0 Mbps {zero_mbps}" if preset.mbps is None else ""
    header = [
        f"# {name}, seed {seed}{way}: written by `comdml fleet new`.",
        "# 1 CPU = 1e9 FLOP/s; which speeds mean what: `comdml fleet new --help`.",
        "",
        *("[model]", f'name = "{preset.model}"', "input = [3, 32, 32]", "batch_size = 100", ""),
        "[links]",
        "bandwidth_mbps = 0      # 0 = not connected",
        f"relay_bandwidth_mbps = {_RELAY_MBPS}  # averaging between agents without a link",
        "",
        *("[scenario]", f"share = {preset.share}", f"every = {preset.every}", ""),
    ]
    agents = _agents(preset, dice, per_link)
    return "\n".join(header + agents + (_links(preset.num_agents, dice) if per_link else []))


def _agents(preset: Preset, dice: np.random.Generator, per_link: bool) -> list[str]:
    device = [number % len(preset.cpus) for number in range(preset.num_agents)]
    if preset.mbps is not None:
        mbps = [preset.mbps[place] for place in device]
    else:
        mbps = [] if per_link else dice.choice(LINK_MBPS, size=preset.num_agents).tolist()
    lines = []
    for number, place in enumerate(device):
        samples = _share(number + 1, preset.num_agents) - _share(number, preset.num_agents)
        flops_per_s = preset.cpus[place] * CPU_FLOPS_PER_S
        lines += ["[[agents]]", f"id = {number}", f"flops_per_s = {flops_per_s:.1e}"]
        lines += [f"num_samples = {samples}", *([f"bandwidth_mbps = {mbps[number]}"] if mbps else []), ""]
    return lines


def _share(number: int, num_agents: int) -> int:
    return _NUM_SAMPLES * number // num_agents


def _links(num_agents: int, dice: np.random.Generator) -> list[str]:
    pairs = list(combinations(range(num_agents), 2))
    speeds = dice.choice(LINK_MBPS, size=len(pairs)).tolist()
    lines = []
    for (one, other), mbps in zip(pairs, speeds, strict=True):
        if mbps:
            lines += ["[[link]]", f"between = [{one}, {other}]", f"bandwidth_mbps = {mbps}", ""]
    return lines
