"""Time and memory of the solvers on comdml fleets.

    python -m tests.benchmarks.planning_time [--plot FILE]     # half a minute; figures in README.md beside it

Fleets as in experiments/solver_comparison.py (links {0, 10, 20, 50, 100} Mbps, CPUs {4, 2, 1, 0.5, 0.2}),
seed 1, ResNet-56 cuts from a table, 5 batches per agent, time model "pipeline". Time: the median of the
repeats after one that is not counted; it includes the table of pair costs. Memory: the peak of one more
repeat by tracemalloc (what Python and numpy allocate). Judging is what agents do with a plan before they
take it: the whole round is simulated with it and without offload.
"""

import argparse
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable
from importlib.metadata import version

import numpy as np

from comdml_flwr.core.by_cut import ByCut
from comdml_flwr.planning.clock.simulation import Workload
from comdml_flwr.planning.clock.whole_round import judge, round_clock
from comdml_flwr.planning.pairing import pair_agents
from comdml_flwr.planning.solvers.integer_program import solve
from comdml_flwr.planning.types import Link, Profile
from tests.planning.fleets import BYTES_PER_S_PER_MBPS, CPUS, resnet_cuts

RELAY = Link(bytes_per_s=10 * BYTES_PER_S_PER_MBPS)
ROWS = (
    ("exact", 10, 20, 0.002),
    ("exact", 30, 20, None),
    ("exact", 100, 10, 0.030),
    ("exact", 300, 3, None),
    ("exact", 1000, 3, 3.0),
    ("judging exact's plan", 10, 20, None),
    ("judging exact's plan", 100, 10, None),
    ("judging exact's plan", 1000, 3, None),
    ("greedy", 100, 10, None),
    ("shared", 10, 5, None),
    ("shared", 30, 5, None),
    ("shared", 100, 3, 1.0),
    ("integer-program", 10, 5, None),
    ("integer-program", 30, 3, None),
    ("integer-program, shared", 10, 3, None),
    ("integer-program, shared", 30, 1, None),
)
"""Solver, agents, repeats, and the most seconds it may take."""


def draw_fleet(num_agents: int, seed: int = 1) -> list[Profile]:
    """Draw the links of one fleet."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.choice([0, 10, 20, 50, 100], (num_agents, num_agents)), 1) * BYTES_PER_S_PER_MBPS
    links = upper + upper.T
    return [
        Profile(
            agent=i,
            batches_per_s=CPUS[i % len(CPUS)] / 2.6,
            num_batches=5,
            links={j: Link(bytes_per_s=float(links[i, j])) for j in range(num_agents) if j != i},
        )
        for i in range(num_agents)
    ]


def workload_of(profiles: list[Profile]) -> Workload:
    """Return what a round of ResNet-56 trains and sends."""
    return Workload(
        cuts=ByCut(resnet_cuts()),
        batch_size=100,
        batches={profile.agent: (100.0,) * int(profile.num_batches) for profile in profiles},
        num_floats=591_322,
        fast_floats=ByCut([2_570, 213_770, 450_058, 503_434, 563_210, 576_842, 590_858]),
        head_floats=ByCut([2_570, 2_570, 1_290, 1_290, 650, 650, 170]),
    )


def measure(solver: str, num_agents: int, repeats: int) -> tuple[float, float]:
    """Return (median seconds, peak bytes)."""
    profiles, cuts = draw_fleet(num_agents), resnet_cuts()
    plan, workload = pair_agents(profiles, cuts), workload_of(profiles)

    def work() -> object:
        if solver == "judging exact's plan":
            return judge(plan, profiles, cuts, round_clock(profiles, RELAY, workload))
        if solver == "integer-program, shared":
            return solve(profiles, cuts, shared=True, time_limit_s=60)
        return pair_agents(profiles, cuts, solver=solver)

    work()
    times_s = [_elapsed_s(work) for _ in range(repeats)]
    tracemalloc.start()
    work()
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return statistics.median(times_s), peak_bytes


def _elapsed_s(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def plot(results: list[tuple[str, int, float, float]], path: str) -> None:
    """Draw time and memory against the number of agents, both axes logarithmic."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for axis, column, label in ((axes[0], 2, "time (s)"), (axes[1], 3, "memory (bytes)")):
        for solver in dict.fromkeys(row[0] for row in results):
            points = [(row[1], row[column]) for row in results if row[0] == solver]
            axis.loglog(*zip(*points, strict=True), marker="o", label=solver)
        axis.set(xlabel="agents", ylabel=label)
        axis.grid(visible=True, alpha=0.3)
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--plot", metavar="FILE", help="also draw how time and memory grow (needs matplotlib)"
    )
    options = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "pulp", "highspy"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {packages}\n")
    print("| solver | agents | time | at most | peak memory |")
    print("|---|---:|---:|---:|---:|")
    results = []
    for solver, num_agents, repeats, most_s in ROWS:
        time_s, peak_bytes = measure(solver, num_agents, repeats)
        results.append((solver, num_agents, time_s, peak_bytes))
        most = f"{most_s * 1e3:g} ms" if most_s else ""
        cells = (solver, str(num_agents), f"{time_s * 1e3:.1f} ms", most, f"{peak_bytes / 1e6:.2f} MB")
        print(f"| {' | '.join(cells)} |", flush=True)
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
