"""Every draw has a seed of its own, and the same one in every process and on every machine."""

from itertools import product

import torch

from comdml_flwr.core.seeds import SHARED, derive_seed


def test_every_purpose_round_and_agent_has_a_seed_of_its_own():
    draws = list(product((0, 1, 2), (SHARED, 0, 1, 12), (SHARED, 0, 2, 21), ("shuffle", "augment 1")))
    assert len({derive_seed(*draw) for draw in draws}) == len(draws)


def test_numbers_that_read_alike_when_run_together_differ():
    assert derive_seed(1, 23, 4, "x") != derive_seed(12, 3, 4, "x") != derive_seed(1, 2, 34, "x")
    assert derive_seed(1, 2, 3, "augment 11") != derive_seed(1, 2, 31, "augment 1")


def test_a_seed_fits_where_seeds_are_taken():
    seeds = [derive_seed(2**63 - 1, round_, 0, "shuffle") for round_ in range(200)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62, "the range is used"
    assert torch.Generator().manual_seed(max(seeds)).initial_seed() == max(seeds)


def test_a_seed_never_changes():
    """Another derivation would give other results for every seed that was ever published."""
    assert derive_seed(1, 2, 3, "shuffle") == 4465430900332562771
