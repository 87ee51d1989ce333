"""Compare the solvers on comdml-100, and print the table of the README.

    python -m experiments.solver_comparison            # 20 draws, about two minutes

Each draw: 100 agents with {4, 2, 1, 0.5, 0.2} CPUs, 20 of each; every link drawn from {0, 10, 20, 50, 100}
Mbps (0: not connected); 50,000 samples in equal parts; ResNet-56 for 32 x 32 images, its cuts counted by
`learning.split.profile_model`, batches of 100. One CPU is 1e9 FLOP/s (our presets) or does a batch in 2.6 s
(as in the simulation that gave the expectation greedy / exact = 1.17).

Two bounds for shared helpers, which the lower bound of a plan (each agent has its favourite helper) does not
see: perfect balance (all work over all speed), and the fractional bound, which is higher: agents may divide
their batches among several helpers and cuts at will (a linear program, time model "overlap").
"""

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.sparse import coo_array, vstack

from comdml_flwr.assemble import MODELS, cut_table
from comdml_flwr.learning.split import profile_model
from comdml_flwr.planning.costs import TIME_MODELS
from comdml_flwr.planning.pairing import pair_agents
from comdml_flwr.planning.types import CutTable, Link, Profile

CPUS = (4.0, 2.0, 1.0, 0.5, 0.2)
MBPS = (0.0, 10.0, 20.0, 50.0, 100.0)
BYTES_PER_S_PER_MBPS = 125_000.0
NUM_SAMPLES, BATCH_SIZE = 50_000, 100


def counted_cuts() -> tuple[CutTable, float]:
    """Return the cuts of ResNet-56 and the FLOPs of a batch."""
    shape, classes = (3, 32, 32), 10
    model = MODELS["resnet-56"](shape, classes, torch.Generator())
    counted = profile_model(model, shape, classes, BATCH_SIZE)
    return cut_table(counted, BATCH_SIZE), float(counted.whole_flops * BATCH_SIZE)


def draw_fleet(seed: int, num_agents: int, cpu_batches_per_s: float) -> list[Profile]:
    """Draw the links of one fleet; agent i has CPU class i mod 5."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.choice(MBPS, (num_agents, num_agents)), 1)
    links = (upper + upper.T) * BYTES_PER_S_PER_MBPS
    return [
        Profile(
            agent=i,
            batches_per_s=CPUS[i % len(CPUS)] * cpu_batches_per_s,
            num_batches=NUM_SAMPLES / BATCH_SIZE / num_agents,
            links={j: Link(bytes_per_s=float(links[i, j])) for j in range(num_agents) if j != i},
        )
        for i in range(num_agents)
    ]


def ratios(profiles: Sequence[Profile], cuts: CutTable, time_model: str) -> tuple[float, ...]:
    """Return the columns of the table for one draw."""
    greedy, exact, shared = (
        pair_agents(profiles, cuts, solver=solver, time_model=time_model)
        for solver in ("greedy", "exact", "shared")
    )
    balance_s = sum(p.num_batches for p in profiles) / sum(p.batches_per_s for p in profiles)
    return (
        exact.solo_makespan_s / exact.makespan_s,
        greedy.makespan_s / exact.makespan_s,
        exact.makespan_s / exact.lower_bound_s,
        shared.makespan_s / exact.makespan_s,
        shared.makespan_s / shared.lower_bound_s,
        shared.makespan_s / balance_s,
        shared.makespan_s / fractional_bound_s(profiles, cuts, exact.makespan_s),
    )


def fractional_bound_s(profiles: Sequence[Profile], cuts: CutTable, high_s: float) -> float:
    """Bisect the smallest makespan at which the agents can offload if batches may be divided at will."""
    low_s = 0.0
    while high_s - low_s > 2e-3 * high_s:
        middle_s = (low_s + high_s) / 2
        low_s, high_s = (low_s, middle_s) if _can_divide(profiles, cuts, middle_s) else (middle_s, high_s)
    return low_s


def _can_divide(profiles: Sequence[Profile], cuts: CutTable, end_s: float) -> bool:
    """Tell whether all who are late alone can divide their batches so that everybody ends in time.

    Variables x_ijm >= 0: the share of i's batches that go to j at cut m; N_i b_m / p_j x_ijm of work and
    N_i d_m / D_j x_ijm of card time then go to helper j. A pair whose slow side or link alone is late is out.
    """
    late = [p for p in profiles if p.solo_s > end_s]
    helpers = [p for p in profiles if p.solo_s <= end_s]
    arcs = [
        (row, column, p.num_batches * cut.fast_share / q.batches_per_s, num_bytes / _card_bytes_per_s(q))
        for row, p in enumerate(late)
        for column, q in enumerate(helpers)
        for cut in cuts
        if p.num_batches * cut.slow_share / p.batches_per_s <= end_s
        and (num_bytes := p.num_batches * cut.bytes_per_batch) <= end_s * p.links[q.agent].bytes_per_s
    ]
    if not late or not arcs:
        return not late
    rows, columns, work_s, card_s = (np.array(values) for values in zip(*arcs, strict=True))
    place = np.arange(len(arcs))
    load = coo_array((work_s, (columns, place)), shape=(len(helpers), len(arcs)))
    card = coo_array((card_s, (columns, place)), shape=(len(helpers), len(arcs)))
    whole = coo_array((np.ones(len(arcs)), (rows, place)), shape=(len(late), len(arcs)))
    room_s = [end_s - q.solo_s for q in helpers] + [end_s] * len(helpers)
    found = linprog(
        np.zeros(len(arcs)), A_ub=vstack([load, card]), b_ub=room_s, A_eq=whole, b_eq=np.ones(len(late))
    )
    return bool(found.status == 0)


def _card_bytes_per_s(profile: Profile) -> float:
    return max(link.bytes_per_s for link in profile.links.values())


def main() -> None:
    """Print the table in Markdown: mean (worst) over the draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--agents", type=int, default=100)
    options = parser.parse_args()
    cuts, batch_flops = counted_cuts()
    heads = ("no offload / exact", "greedy / exact", "exact / lower bound", "shared / exact")
    heads += ("shared / lower bound", "shared / perfect balance", "shared / fractional bound")
    print(f"| 1 CPU | time model | {' | '.join(heads)} |")
    print("|---|---|" + "---:|" * len(heads))
    for name, speed in (("1e9 FLOP/s", 1e9 / batch_flops), ("2.6 s/batch", 1 / 2.6)):
        for time_model in TIME_MODELS:
            rows = [
                ratios(draw_fleet(seed, options.agents, speed), cuts, time_model)
                for seed in range(options.draws)
            ]
            cells = [f"{np.mean(column):.2f} ({max(column):.2f})" for column in zip(*rows, strict=True)]
            print(f"| {name} | {time_model} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
