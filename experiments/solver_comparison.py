"""Compare the solvers on comdml-100, and print the table of docs/results/solvers.md.

    python -m experiments.solver_comparison [CONFIG] [--json] [--smoke]      # 20 draws, about two minutes

What is drawn and compared stands in experiments/configs/solvers.toml.

Each draw: 100 agents with {4, 2, 1, 0.5, 0.2} CPUs, 20 of each; every link drawn from {0, 10, 20, 50, 100}
Mbps (0: not connected); 50,000 samples in equal parts; ResNet-56 for 32 x 32 images, its cuts counted by
`learning.cut_profile`, batches of 100. One CPU is 1e9 FLOP/s (our presets) or does a batch in 2.6 s
(as in the simulation that gave the expectation greedy / exact = 1.17).

Two bounds for shared helpers, which the lower bound of a plan (each agent has its favourite helper) does not
see: perfect balance (all work over all speed), and the fractional bound, which is higher: agents may divide
their batches among several helpers and cuts at will (a linear program, time model "overlap").
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
import typer
from scipy.optimize import linprog
from scipy.sparse import coo_array, vstack

from comdml_flwr.core.strict_json import to_json
from comdml_flwr.planning.costs import TIME_MODELS
from comdml_flwr.planning.fleet.fleet import FleetModel
from comdml_flwr.planning.fleet.toml_tables import Table
from comdml_flwr.planning.pairing import pair_agents
from comdml_flwr.planning.types import BYTES_PER_S_PER_MBPS, CutTable, Link, Plan, Profile
from experiments.command import (
    CONFIGS,
    AsJson,
    Smoke,
    count_model,
    print_table,
    read_settings,
    run,
    word,
    words,
)

CPUS = (4.0, 2.0, 1.0, 0.5, 0.2)
MBPS = (0.0, 10.0, 20.0, 50.0, 100.0)
NUM_SAMPLES, BATCH_SIZE = 50_000, 100


_KEYS = ("draws", "num_agents", "time_models", "compare", "speeds")
MODEL = FleetModel(name="resnet-56", input=(3, 32, 32), batch_size=BATCH_SIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table: the ratios of each draw, in the order of the columns."""

    speed: str
    time_model: str
    ratios: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the file says; `compare` are (over, under) of QUANTITIES, `speeds` a CPU's batches/s by label."""

    draws: int
    num_agents: int
    time_models: tuple[str, ...]
    compare: tuple[tuple[str, str], ...]
    speeds: Mapping[str, float]
    cuts: CutTable


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


def ratios(
    profiles: Sequence[Profile], cuts: CutTable, time_model: str, compare: Sequence[tuple[str, str]]
) -> tuple[float, ...]:
    """Return the columns of the table for one draw."""
    needed = {name for pair in compare for name in pair}
    exact = pair_agents(profiles, cuts, solver="exact", time_model=time_model)
    time_s = {name: QUANTITIES[name](profiles, cuts, time_model, exact) for name in sorted(needed)}
    return tuple(time_s[over] / time_s[under] for over, under in compare)


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


Quantity: TypeAlias = Callable[[Sequence[Profile], CutTable, str, Plan], float]

QUANTITIES: Mapping[str, Quantity] = {
    "no offload": lambda profiles, cuts, time_model, exact: exact.solo_makespan_s,
    "exact": lambda profiles, cuts, time_model, exact: exact.makespan_s,
    "lower bound": lambda profiles, cuts, time_model, exact: exact.lower_bound_s,
    "greedy": lambda profiles, cuts, time_model, exact: _makespan_s(profiles, cuts, time_model, "greedy"),
    "shared": lambda profiles, cuts, time_model, exact: _makespan_s(profiles, cuts, time_model, "shared"),
    "perfect balance": lambda profiles, cuts, time_model, exact: (
        sum(p.num_batches for p in profiles) / sum(p.batches_per_s for p in profiles)
    ),
    "fractional bound": lambda profiles, cuts, time_model, exact: fractional_bound_s(
        profiles, cuts, exact.makespan_s
    ),
}
"""What can be compared, in seconds: of (profiles, cuts, time model, the exact plan)."""


def _makespan_s(profiles: Sequence[Profile], cuts: CutTable, time_model: str, solver: str) -> float:
    return pair_agents(profiles, cuts, solver=solver, time_model=time_model).makespan_s


def read_options(config: Path, *, smoke: bool = False) -> Options:
    """Read the file, and count ResNet-56."""
    top = read_settings(config, _KEYS, smoke=smoke)
    costs = count_model(MODEL)
    return Options(
        draws=top.whole("draws", lowest=1),
        num_agents=top.whole("num_agents", lowest=2),
        time_models=words(top, "time_models", TIME_MODELS),
        compare=tuple(_over_and_under(top, text) for text in words(top, "compare")),
        speeds={
            word(table, "label"): _cpu_batches_per_s(table, costs.batch_flops)
            for table in top.tables("speeds", ("label", "flops_per_s", "s_per_batch"))
        },
        cuts=costs.cuts,
    )


def _over_and_under(top: Table, text: str) -> tuple[str, str]:
    over, _, under = text.partition(" / ")
    if not {over, under} <= set(QUANTITIES):
        raise top.error("compare", f"must be OVER / UNDER of {', '.join(QUANTITIES)}; {text!r} is not")
    return over, under


def _cpu_batches_per_s(table: Table, batch_flops: float) -> float:
    if ("flops_per_s" in table) == ("s_per_batch" in table):
        raise table.error("flops_per_s", "give flops_per_s or s_per_batch")
    if "s_per_batch" in table:
        return 1 / table.number("s_per_batch", positive=True)
    return table.number("flops_per_s", positive=True) / batch_flops


def compared(options: Options) -> Iterator[Row]:
    """Yield the lines of the table, one after the other."""
    for label, speed in options.speeds.items():
        for time_model in options.time_models:
            draws = [
                ratios(draw_fleet(seed, options.num_agents, speed), options.cuts, time_model, options.compare)
                for seed in range(options.draws)
            ]
            yield Row(speed=label, time_model=time_model, ratios=tuple(draws))


def main(
    config: Annotated[Path, typer.Argument(help="TOML with the draws and what to compare.")] = CONFIGS
    / "solvers.toml",
    smoke: Smoke = False,
    as_json: AsJson = False,
) -> None:
    """Compare the solvers' makespans, and the bounds, over random fleets: mean (worst) of each ratio.

    Example: python -m experiments.solver_comparison

    Each draw has its own links; a ratio of 1.17 in "greedy / exact" means that training takes 17 % longer
    by greedy pairing. Nothing is trained; all times are modelled.
    """
    options = read_options(config, smoke=smoke)
    rows = list(compared(options))
    names = [f"{over} / {under}" for over, under in options.compare]
    if as_json:
        typer.echo(to_json({"compare": names, "rows": [asdict(row) for row in rows]}))
        return
    cells = (
        (
            row.speed,
            row.time_model,
            *(f"{np.mean(x):.2f} ({max(x):.2f})" for x in zip(*row.ratios, strict=True)),
        )
        for row in rows
    )
    print_table(("1 CPU", "time model", *names), cells)


if __name__ == "__main__":
    run(main)
