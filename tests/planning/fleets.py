"""Generated fleets for the laws of the solvers: every number draws one, the same on every machine."""

from dataclasses import dataclass

import numpy as np

from comdml_flwr.planning.costs import TIME_MODELS
from comdml_flwr.planning.types import Cut, CutTable, Link, Profile

CPUS = (4.0, 2.0, 1.0, 0.5, 0.2)
MBPS = (10.0, 20.0, 50.0, 100.0)
BYTES_PER_S_PER_MBPS = 125_000.0
BATCHES_PER_S_PER_CPU = 1 / 2.6
# ResNet-56 at 32 x 32 and batches of 100: share of the multiply-adds below the cut, MiB of activations
CUTS = ((1.0, 6.25), (0.847, 6.25), (0.657, 12.5), (0.504, 12.5), (0.315, 25.0), (0.161, 25.0), (0.005, 6.25))
WHOLE_BYTES = 1e9
MEMORY_BYTES = (0.6e9, 1.1e9, 1.6e9, 2.5e9, 8e9, np.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One generated planning problem."""

    profiles: list[Profile]
    cuts: CutTable
    time_model: str


def resnet_cuts() -> CutTable:
    return tuple(
        Cut(
            slow_share=share,
            fast_share=1 - share,
            bytes_per_batch=mib * 2**20,
            slow_bytes=WHOLE_BYTES * share + 1e6,
            fast_bytes=WHOLE_BYTES * (1 - share) + 1e6,
            whole_bytes=WHOLE_BYTES,
        )
        for share, mib in CUTS
    )


def generated_case(number: int) -> Case:
    """Return fleet `number`: 2-12 agents; density, data, memory and time model go round with the number."""
    rng = np.random.default_rng(number)
    size, density = int(rng.integers(2, 13)), (1.0, 0.5, 0.2)[number % 3]
    is_dirichlet, is_bounded = number // 3 % 2 == 1, number // 6 % 2 == 1
    links = np.triu(rng.choice(MBPS, (size, size)) * (rng.random((size, size)) < density), 1)
    links = (links + links.T) * BYTES_PER_S_PER_MBPS
    speeds = rng.choice(CPUS, size) * rng.uniform(0.8, 1.2, size) * BATCHES_PER_S_PER_CPU
    total = float(rng.choice([5, 20, 50])) * size
    shares = rng.dirichlet(np.ones(size)) if is_dirichlet else np.full(size, 1 / size)
    batches = np.maximum(np.round(total * shares * 4) / 4, 0.25)
    memory = rng.choice(MEMORY_BYTES, size) if is_bounded else np.full(size, np.inf)
    cards = rng.choice([np.inf, 50 * BYTES_PER_S_PER_MBPS], size)
    latency_s = float(rng.choice([0, 0.05]))
    profiles = [
        Profile(
            agent=3 * i,
            batches_per_s=float(speeds[i]),
            num_batches=float(batches[i]),
            links={
                3 * j: Link(bytes_per_s=float(links[i, j]), latency_s=latency_s)
                for j in range(size)
                if j != i
            },
            memory_bytes=float(memory[i]),
            nic_bytes_per_s=float(cards[i]),
        )
        for i in range(size)
    ]
    return Case(profiles=profiles, cuts=resnet_cuts(), time_model=TIME_MODELS[number % 2])
