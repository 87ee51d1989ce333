"""The cut table: the planner's numbers, by hand."""

import json
from itertools import pairwise

import pytest

from comdml_flwr.core.by_cut import ByCut
from comdml_flwr.planning.types import Cut, Link, Profile
from experiments import cut_table
from experiments.command import CONFIGS
from experiments.cut_table import cut_rows, read_blocks


def test_a_pair_by_hand():
    link = Link(bytes_per_s=1e6)
    slow = Profile(agent=0, batches_per_s=1, num_batches=10, links={1: link})
    fast = Profile(agent=1, batches_per_s=10, num_batches=10, links={0: link})
    alone, paired = cut_rows(
        slow, fast, ByCut([Cut(slow_share=0.5, fast_share=0.5, bytes_per_batch=1e5)]), ByCut([7])
    )
    assert (alone.cut, alone.offloaded_layers, alone.slow_s, alone.pipeline_s) == (0, 0, 10, 10)
    assert (paired.cut, paired.offloaded_layers, paired.sent_bytes) == (1, 7, 1e6)
    assert (paired.slow_s, paired.transfer_s, paired.fast_s) == pytest.approx((5, 1, 1 + 0.5))
    assert paired.overlap_s == pytest.approx(5)
    assert paired.pipeline_s == pytest.approx((0.5 + 0.1) + 9 * 0.5 + 0.05)
    assert paired.times_as_fast == pytest.approx(10 / 5.15)


@pytest.fixture(scope="module")
def blocks():
    return read_blocks(CONFIGS / "cut_table.toml")


def test_layers_are_counted_as_resnets_are_named(blocks):
    layers = {block.model: [row.offloaded_layers for row in block.rows] for block in blocks}
    assert layers["resnet-56"] == [0, 1, 10, 19, 28, 37, 46, 55]
    assert layers["resnet-110"] == [0, 1, 19, 37, 55, 73, 91, 109]


def test_transfers_are_in_true_units(blocks):
    block = next(block for block in blocks if (block.model, block.mbps) == ("resnet-56", 10))
    sizes = [5000 * (kib * 1024 + 8) for kib in (64, 64, 128, 128, 256, 256, 64)]  # activations and labels
    assert [row.sent_bytes for row in block.rows[1:]] == sizes
    assert [row.transfer_s for row in block.rows[1:]] == pytest.approx([size / 1.25e6 for size in sizes])


def test_a_faster_link_never_ends_later(blocks):
    by_model = {}
    for block in blocks:
        by_model.setdefault(block.model, []).append(block)
    for own in by_model.values():
        for slower, faster in pairwise(own):
            assert slower.mbps < faster.mbps
            pairs = zip(slower.rows, faster.rows, strict=True)
            assert all(high.pipeline_s >= low.pipeline_s for high, low in pairs)


def test_the_smoke_variant_prints_draws_and_tells_the_best(experiment, tmp_path):
    picture = tmp_path / "cuts.svg"
    status, out, _ = experiment(cut_table.main, "--smoke", "--picture", picture)
    assert status == 0
    assert out.count("\n") == 2 + 2 * 8
    assert out.count("*") == 2
    drawn = picture.read_bytes()
    status, out, _ = experiment(cut_table.main, "--smoke", "--json", "--picture", picture)
    assert status == 0
    assert picture.read_bytes() == drawn
    for block in json.loads(out)["blocks"]:
        best = min(block["rows"], key=lambda row: row["pipeline_s"])
        assert block["best_cut"] == best["cut"]
