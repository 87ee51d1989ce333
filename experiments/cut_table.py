"""One pair at each cut: the time against the layers that the slow agent offloads, for several links.

    python -m experiments.cut_table [CONFIG] [--picture cuts.svg] [--json] [--smoke]

Everything is modelled by the planner's own code (planning/costs.py, planning/alternatives.py); the cuts are
counted by learning/cut_profile.py. The columns:

    offloaded layers    weighted layers of the fast side: convolutions but those of shortcuts, and the last
                        linear layer. 0: trains alone. ResNet-56 has 56, ResNet-110 has 110
    slow side           N a_m / p_i
    transfer            N d_m / c_ij
    fast side           T_j + N b_m / p_j: the helper trains its own model, too
    end, overlap        the largest of the three, as published
    end, pipeline       with fill and drain of the pipeline: what our planner minimises by default
    sent                activations and labels
    times as fast       T_i over the end in the pipeline model: than without offload

Two things pull in different directions. The more is offloaded, the shorter is the slow side, but the longer
is the fast side. And activations are not of one size: 64 KiB a sample after the last two groups, 128 after
the middle two, 256 after the first two, and 64 again after the stem. Where the link is the bottleneck, cuts
in the middle cost more than they gain (below 1: slower than alone). With a helper twenty times as fast, as in
the file, the cut after the stem is the best on every link; with fast_cpus = 1 it is the cut after the second
group (37 of 56 layers offloaded) from 50 Mbps on.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from comdml_flwr.comparison.pictures import check_picture
from comdml_flwr.core.by_cut import ByCut
from comdml_flwr.core.strict_json import to_json
from comdml_flwr.core.units import human_bytes, human_s
from comdml_flwr.planning.alternatives import Case
from comdml_flwr.planning.costs import TIME_MODELS
from comdml_flwr.planning.fleet.fleet import FleetModel
from comdml_flwr.planning.fleet.toml_tables import Table
from comdml_flwr.planning.pairing import pair_agents
from comdml_flwr.planning.types import BYTES_PER_S_PER_MBPS, CutTable, Link, Profile
from experiments.command import (
    CONFIGS,
    AsJson,
    Picture,
    Smoke,
    count_model,
    numbers,
    print_table,
    read_settings,
    run,
    save_picture,
    shape,
    words,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SLOW, FAST = 0, 1
_KEYS = (
    "models",
    "input",
    "batch_size",
    "num_samples",
    "flops_per_s_per_cpu",
    "slow_cpus",
    "fast_cpus",
    "mbps",
)
MODELS_OF_THE_PAPER = ("resnet-56", "resnet-110")
_HEADS = (
    *("model, link", "offloaded layers", "cut", "slow side", "transfer", "fast side"),
    *("end, overlap", "end, pipeline", "sent", "times as fast"),
)
_COLOURS = ("#cc3311", "#ee7733", "#009988", "#33bbee", "#0077bb", "#332288", "#999999")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A pair at a cut; cut 0: the slow agent trains alone. Times in seconds, all modelled."""

    cut: int
    offloaded_layers: int
    slow_s: float
    transfer_s: float
    fast_s: float
    overlap_s: float
    pipeline_s: float
    sent_bytes: float
    times_as_fast: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """All cuts of one model over one link."""

    model: str
    mbps: float
    rows: tuple[Row, ...]

    @property
    def best(self) -> Row:
        """The row that ends first in the pipeline model; of equals the one that offloads least."""
        return min(self.rows, key=lambda row: row.pipeline_s)


def cut_rows(slow: Profile, fast: Profile, cuts: CutTable, offloaded: ByCut[int]) -> tuple[Row, ...]:
    """Ask the planner for a pair at each of its cuts, and for the slow agent alone.

    Parameters
    ----------
    slow, fast : Profile
        The two, linked.
    cuts : CutTable
        Cuts 1..M.
    offloaded : ByCut[int]
        Weighted layers of the fast side at each of them.

    Returns
    -------
    tuple[Row, ...]
        Cut 0, then those at which the pair is possible.
    """
    overlap, pipeline = (
        Case(
            profiles={slow.agent: slow, fast.agent: fast},
            cuts=cuts,
            plan=pair_agents((slow, fast), cuts, time_model=time_model),
        ).options(slow.agent, fast.agent)
        for time_model in TIME_MODELS
    )
    alone = Row(
        cut=0,
        offloaded_layers=0,
        slow_s=slow.solo_s,
        transfer_s=0.0,
        fast_s=fast.solo_s,
        overlap_s=max(slow.solo_s, fast.solo_s),
        pipeline_s=max(slow.solo_s, fast.solo_s),
        sent_bytes=0.0,
        times_as_fast=1.0,
    )
    paired = (
        Row(
            cut=option.cut,
            offloaded_layers=offloaded[option.cut],
            slow_s=option.slow_s,
            transfer_s=option.transfer_s,
            fast_s=option.helper_s,
            overlap_s=published.finish_s,
            pipeline_s=option.finish_s,
            sent_bytes=slow.num_batches * cuts[option.cut].bytes_per_batch,
            times_as_fast=alone.pipeline_s / option.finish_s,
        )
        for published, option in zip(overlap, pipeline, strict=True)
    )
    return (alone, *paired)


def read_blocks(config: Path, *, smoke: bool = False) -> tuple[Block, ...]:
    """Return what the file of settings asks for: a block for each model and link."""
    top = read_settings(config, _KEYS, smoke=smoke)
    blocks = []
    for name in words(top, "models", MODELS_OF_THE_PAPER):
        model = FleetModel(name=name, input=shape(top, "input"), batch_size=top.whole("batch_size", lowest=1))
        costs, offloaded = count_model(model), _offloaded_layers(model)
        for mbps in numbers(top, "mbps"):
            slow, fast = _pair(top, model.batch_size, costs.batch_flops, mbps)
            rows = cut_rows(slow, fast, costs.cuts, offloaded)
            blocks.append(Block(model=name, mbps=mbps, rows=rows))
    return tuple(blocks)


def _pair(top: Table, batch_size: int, batch_flops: float, mbps: float) -> tuple[Profile, Profile]:
    link = Link(bytes_per_s=mbps * BYTES_PER_S_PER_MBPS)
    flops_per_s = top.number("flops_per_s_per_cpu", positive=True)
    slow, fast = (
        Profile(
            agent=agent,
            batches_per_s=top.number(key, positive=True) * flops_per_s / batch_flops,
            num_batches=top.whole("num_samples", lowest=1) / batch_size,
            links={SLOW + FAST - agent: link},
        )
        for agent, key in ((SLOW, "slow_cpus"), (FAST, "fast_cpus"))
    )
    return slow, fast


def _offloaded_layers(model: FleetModel) -> ByCut[int]:
    """Count the weighted layers of the fast side at each cut, as ResNets are named: without shortcuts."""
    import torch  # here: --help needs none of it
    from torch import nn

    from comdml_flwr.learning.split import num_cuts, split
    from comdml_flwr.runs.catalogue import MODELS

    built = MODELS[model.name](model.input, model.num_classes, torch.Generator())
    return ByCut(
        sum(
            isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in name
            for name, module in split(built, cut)[1].named_modules()
        )
        for cut in range(1, num_cuts(built) + 1)
    )


def main(
    config: Annotated[Path, typer.Argument(help="TOML with the pair, the models and the links.")] = CONFIGS
    / "cut_table.toml",
    picture: Picture = None,
    smoke: Smoke = False,
    as_json: AsJson = False,
) -> None:
    """Show how long one pair takes at each cut, against the layers that the slow agent offloads (modelled).

    Example: python -m experiments.cut_table --picture cuts.svg

    Columns: slow side, transfer and fast side (the helper trains its own model, too) go on side by side;
    "end" is when both agents are done, by the published formula (overlap: the largest of the three) and
    with fill and drain of the pipeline. The best cut of a link is marked with *.
    """
    if picture is not None:
        check_picture(picture)
    blocks = read_blocks(config, smoke=smoke)
    if picture is not None:
        save_picture(partial(draw, blocks=blocks), (5.0 * len({b.model for b in blocks}), 4.0), picture)
    if as_json:
        typer.echo(to_json({"blocks": [{**asdict(b), "best_cut": b.best.cut} for b in blocks]}))
        return
    print_table(_HEADS, (_cells(block, row) for block in blocks for row in block.rows))


def _cells(block: Block, row: Row) -> tuple[str, ...]:
    times_s = (row.slow_s, row.transfer_s, row.fast_s, row.overlap_s, row.pipeline_s)
    return (
        f"{block.model}, {block.mbps:g} Mbps",
        str(row.offloaded_layers),
        str(row.cut) if row.cut else "none",
        *(human_s(time_s) for time_s in times_s),
        human_bytes(row.sent_bytes),
        f"{row.times_as_fast:.2f}{'*' if row == block.best else ''}",
    )


def draw(figure: "Figure", *, blocks: Sequence[Block]) -> None:
    """Draw a line for each link, one panel for each model; a ring marks the best cut of a line."""
    models = list(dict.fromkeys(block.model for block in blocks))
    panels = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
    for axis, model in zip(panels, models, strict=True):
        own = [block for block in blocks if block.model == model]
        layers = [row.offloaded_layers for row in own[0].rows]
        slow_s = [row.slow_s for row in own[0].rows]
        axis.plot(layers, slow_s, color="#333333", linestyle=":", label="slow side alone")
        for block, colour in zip(own, cycle(_COLOURS), strict=False):
            ends_s = [row.pipeline_s for row in block.rows]
            axis.plot(layers, ends_s, color=colour, marker=".", label=f"{block.mbps:g} Mbps")
            ring = {"marker": "o", "markersize": 11, "markerfacecolor": "none", "linestyle": "none"}
            axis.plot(block.best.offloaded_layers, block.best.pipeline_s, color=colour, **ring)
        axis.set(title=model, xlabel="offloaded layers")
        axis.set_xticks([layers[0], *layers[2:]])  # 0 and 1 are too close
        axis.grid(visible=True, which="both", alpha=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("end of the pair's training, s (modelled)")
    panels[0].legend(frameon=False, fontsize=8, title="ring: the best cut", title_fontsize=8)


if __name__ == "__main__":
    run(main)
