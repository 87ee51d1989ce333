"""The solver comparison: its columns by hand, and the small variant."""

import json

import pytest

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.types import Cut
from experiments import solver_comparison
from experiments.command import CONFIGS
from experiments.solver_comparison import draw_fleet, ratios, read_options

CUTS = (Cut(slow_share=0.5, fast_share=0.5, bytes_per_batch=1e6),)


def test_no_offload_over_perfect_balance_by_hand():
    """Ten agents with N batches each: N / 0.2 p, over 10 N / (2 (4 + 2 + 1 + 0.5 + 0.2) p)."""
    fleet = draw_fleet(0, 10, 1.0)
    (ratio,) = ratios(fleet, CUTS, "overlap", [("no offload", "perfect balance")])
    assert ratio == pytest.approx(5 * 15.4 / 10)


def test_bounds_are_below_and_greedy_and_no_offload_above_exact():
    pairs = [
        ("no offload", "exact"),
        ("greedy", "exact"),
        ("exact", "lower bound"),
        ("shared", "lower bound"),
    ]
    pairs += [("shared", "fractional bound"), ("exact", "shared"), ("exact", "exact")]
    found = ratios(draw_fleet(3, 10, 1 / 2.6), CUTS, "overlap", pairs)
    assert min(found) >= 1
    assert found[-1] == 1


def test_the_file_is_the_readmes_table():
    options = read_options(CONFIGS / "solvers.toml")
    assert (options.draws, options.num_agents, options.time_models) == (20, 100, ("overlap", "pipeline"))
    assert options.speeds == {"1e9 FLOP/s": pytest.approx(1e9 / 522402816 / 100), "2.6 s/batch": 1 / 2.6}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"greedy / exact"', '"greedy / best"', "must be OVER / UNDER of no offload"),
        ("s_per_batch = 2.6", "", "give flops_per_s or s_per_batch"),
        ('"overlap"', '"serial"', "must be of overlap, pipeline"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path, old, new, message):
    path = tmp_path / "solvers.toml"
    path.write_text((CONFIGS / "solvers.toml").read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        read_options(path)


def test_the_smoke_variant_runs(experiment):
    status, out, _ = experiment(solver_comparison.main, "--smoke", "--json")
    found = json.loads(out)
    assert status == 0
    assert [(row["speed"], row["time_model"]) for row in found["rows"]] == [
        (speed, time_model)
        for speed in ("1e9 FLOP/s", "2.6 s/batch")
        for time_model in ("overlap", "pipeline")
    ]
    assert all(len(row["ratios"]) == 1 and len(row["ratios"][0]) == 7 for row in found["rows"])
    assert all(row["ratios"][0][0] == pytest.approx(5.0) for row in found["rows"])  # 1 CPU for 0.2 CPUs
