"""DTFL's published cases and the hypotheses about them, read from TOML, tried out, and compared.

The model of a round is in dtfl_model.py, the file in configs/dtfl.toml. Deviations are predicted / published
- 1; which one is worst goes by factor, so half as much is as bad as twice as much.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from comdml_flwr.core.messages import FLOAT_BYTES
from comdml_flwr.planning.fleet.fleet import FleetModel
from comdml_flwr.planning.fleet.toml_tables import Table
from comdml_flwr.planning.types import Cut
from experiments.command import count_model, numbers, read_settings, word
from experiments.dtfl_model import (
    Case,
    Prediction,
    Tier,
    Times,
    World,
    fitted_rounds,
    predict,
    with_their_cpu,
)

if TYPE_CHECKING:
    from comdml_flwr.runs.model_costs import ModelCosts

COLUMNS = ("compute", "communication", "total")
NUM_TIERS = 6
FLOPS, FLOPS_AND_MEMORY = "FLOPs", "FLOPs and memory"
_MODEL = "resnet-110"
_KEYS = ("batch_size", "num_samples", "flops_per_s_per_cpu", "server_cpus", "profiles", "cases", "hypotheses")
_HYPOTHESIS = ("label", "shares", "model_trips", "link_factor", "bytes_factor", "cpu", "rounds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """What may explain the published numbers; the defaults claim nothing. Keys: configs/dtfl.toml."""

    label: str
    shares: str = FLOPS
    model_trips: int = 2
    link_factor: float = 1.0
    bytes_factor: float = 1.0
    cpu: str = "ours"
    rounds: str = "equal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What the file says, and what the model costs.

    Parameters
    ----------
    cases, hypotheses : tuple[Case, ...], tuple[Hypothesis, ...]
        In the order of the file.
    shares : Mapping[str, tuple[float, ...]]
        By name: the client's share of the whole model's time in tiers 1..6.
    counted : World
        With counted shares, and no hypothesis.
    """

    cases: tuple[Case, ...]
    hypotheses: tuple[Hypothesis, ...]
    shares: Mapping[str, tuple[float, ...]]
    counted: World

    def world(self, hypothesis: Hypothesis) -> World:
        """Return the world of a hypothesis, with our CPU."""
        tiers = tuple(
            Tier(
                cut=Cut(
                    slow_share=share,
                    fast_share=tier.cut.fast_share,
                    bytes_per_batch=tier.cut.bytes_per_batch,
                ),
                weight_bytes=tier.weight_bytes,
            )
            for share, tier in zip(self.shares[hypothesis.shares], self.counted.tiers, strict=True)
        )
        return World(
            tiers=tiers,
            fedavg=self.counted.fedavg,
            num_batches=self.counted.num_batches,
            cpu_batches_per_s=self.counted.cpu_batches_per_s,
            server_cpus=self.counted.server_cpus,
            model_trips=hypothesis.model_trips,
            link_factor=hypothesis.link_factor,
            bytes_factor=hypothesis.bytes_factor,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A hypothesis, the world that it makes, its rounds by tier, and its predictions by case."""

    hypothesis: Hypothesis
    world: World
    rounds: tuple[float, ...]
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One published ratio next to the predicted one; case and tier count from 0."""

    case: int
    tier: int
    column: str
    published: float
    predicted: float

    @property
    def deviation(self) -> float:
        """Relative: 0.1 is 10 % too high."""
        return self.predicted / self.published - 1

    @property
    def log_factor(self) -> float:
        """Natural logarithm of predicted / published."""
        return log(self.predicted / self.published)


def try_out(study: Study, hypothesis: Hypothesis) -> Outcome:
    """Predict all cases under a hypothesis; what it fits is fitted to the first case."""
    world = study.world(hypothesis)
    if hypothesis.cpu == "fitted":
        world = with_their_cpu(study.cases[0], world)
    rounds = (1.0,) * NUM_TIERS
    if hypothesis.rounds == "fitted":
        rounds = fitted_rounds(study.cases[0], world)
    predictions = tuple(predict(case, world, rounds) for case in study.cases)
    return Outcome(hypothesis=hypothesis, world=world, rounds=rounds, predictions=predictions)


def entries(study: Study, outcome: Outcome) -> tuple[Entry, ...]:
    """Return all entries: case by case, tier by tier, in the order of COLUMNS."""
    return tuple(
        Entry(
            case=number,
            tier=tier,
            column=column,
            published=getattr(published, column),
            predicted=getattr(predicted, column),
        )
        for number, case in enumerate(study.cases)
        for tier, (published, predicted) in enumerate(
            zip(case.ratios, outcome.predictions[number].ratios, strict=True)
        )
        for column in COLUMNS
    )


def worst(some: Sequence[Entry]) -> Entry:
    """Return the entry whose prediction is off by the largest factor; of equals the first."""
    return max(some, key=lambda entry: abs(entry.log_factor))


def typical(some: Sequence[Entry]) -> float:
    """Return exp(root mean square of ln(predicted / published)) - 1."""
    return exp(sqrt(fmean(entry.log_factor**2 for entry in some))) - 1


def best_outcome(study: Study, outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome that is typically closest in the last case; of equals the first."""
    last = len(study.cases) - 1
    return min(outcomes, key=lambda o: typical([e for e in entries(study, o) if e.case == last]))


def implied_rounds(case: Case, world: World, bytes_per_s_per_mbps: float) -> tuple[float, ...]:
    """Return how many rounds are in the published communication of tiers 1..6 and FedAvg.

    Rounds = seconds * bytes/s of the slowest link (which the slowest client has in both cases) / bytes of a
    round, the model being counted as often as the world says.
    """
    bytes_per_s = min(case.mbps) * bytes_per_s_per_mbps
    return tuple(
        seconds.communication * bytes_per_s / _round_bytes(tier, world)
        for seconds, tier in zip((*case.tiers, case.fedavg), (*world.tiers, world.fedavg), strict=True)
    )


def implied_shares(case: Case, world: World) -> tuple[float, ...]:
    """Return the time of the client's layers in tiers 1..6 over that in the last.

    compute / communication * bytes of a round: the rounds, which are in both columns, cancel.
    """
    times = [
        seconds.compute / seconds.communication * _round_bytes(tier, world)
        for seconds, tier in zip(case.tiers, world.tiers, strict=True)
    ]
    return tuple(time / times[-1] for time in times)


def _round_bytes(tier: Tier, world: World) -> float:
    return world.num_batches * tier.cut.bytes_per_batch + world.model_trips * tier.weight_bytes


def read_study(config: Path, *, smoke: bool = False) -> Study:
    """Read the file, and count the model.

    Raises
    ------
    InputError
        As `read_settings`, or where a value breaks a rule.
    """
    top = read_settings(config, _KEYS, smoke=smoke)
    batch_size = top.whole("batch_size", lowest=1)
    costs = count_model(FleetModel(name=_MODEL, input=(3, 32, 32), batch_size=batch_size))
    shares = _shares(top, costs)
    keys = ("label", "cpus", "mbps", "compute_s", "communication_s", "total_s")
    return Study(
        cases=tuple(_read_case(table) for table in top.tables("cases", keys)),
        hypotheses=tuple(_read_hypothesis(table, shares) for table in top.tables("hypotheses", _HYPOTHESIS)),
        shares=shares,
        counted=World(
            tiers=_tiers(costs),
            fedavg=Tier(
                cut=Cut(slow_share=1.0, fast_share=0.0, bytes_per_batch=0.0),
                weight_bytes=FLOAT_BYTES * costs.num_floats,
            ),
            num_batches=top.whole("num_samples", lowest=1) / batch_size,
            cpu_batches_per_s=top.number("flops_per_s_per_cpu", positive=True) / costs.batch_flops,
            server_cpus=top.number("server_cpus", positive=True),
        ),
    )


def _tiers(costs: "ModelCosts") -> tuple[Tier, ...]:
    """Lay out cuts 6..1 as tiers 1..6: the client's weights are those below the cut, and its head."""
    return tuple(
        Tier(
            cut=costs.cuts[cut],
            weight_bytes=FLOAT_BYTES * (costs.num_floats - costs.fast_floats[cut] + costs.head_floats[cut]),
        )
        for cut in range(NUM_TIERS, 0, -1)
    )


def _shares(top: Table, costs: "ModelCosts") -> dict[str, tuple[float, ...]]:
    cuts = [costs.cuts[cut] for cut in range(NUM_TIERS, 0, -1)]
    shares = {
        FLOPS: tuple(cut.slow_share for cut in cuts),
        FLOPS_AND_MEMORY: tuple((cut.slow_share + cut.slow_bytes / cut.whole_bytes) / 2 for cut in cuts),
    }
    table = top.table("profiles", ("normalised", "code"))
    for name in table.values:
        times = numbers(table, name, NUM_TIERS)
        shares[name] = tuple(time / times[-1] for time in times)
    return shares


def _read_case(table: Table) -> Case:
    columns = (numbers(table, f"{column}_s", NUM_TIERS + 1) for column in COLUMNS)
    rows = [Times(compute=a, communication=b, total=c) for a, b, c in zip(*columns, strict=True)]
    cpus = numbers(table, "cpus")
    return Case(
        label=word(table, "label"),
        cpus=cpus,
        mbps=numbers(table, "mbps", len(cpus)),
        tiers=tuple(rows[:-1]),
        fedavg=rows[-1],
    )


def _read_hypothesis(table: Table, shares: Mapping[str, tuple[float, ...]]) -> Hypothesis:
    table.values = {"shares": FLOPS, "cpu": "ours", "rounds": "equal", **table.values}
    return Hypothesis(
        label=word(table, "label"),
        shares=word(table, "shares", shares),
        model_trips=table.whole("model_trips", lowest=1, default=2),
        link_factor=table.number("link_factor", positive=True, default=1.0),
        bytes_factor=table.number("bytes_factor", positive=True, default=1.0),
        cpu=word(table, "cpu", ("ours", "fitted")),
        rounds=word(table, "rounds", ("equal", "fitted")),
    )
