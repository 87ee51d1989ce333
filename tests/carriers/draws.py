"""Histories that are drawn at random, by what goes wrong in them."""

import random
from math import inf

from comdml_flwr.carriers.simulated.history import Crash, Cut, History, Partition, Slow, Stall
from tests.carriers.lies import LIES, Liar

NUM_ACTIONS = 190  # more than an agent does in three rounds without a fault
LAST_S = 8.0  # when three rounds without a fault are over


def _crash(rng, ids, back_after_s=inf):
    return Crash(rng.choice(ids), rng.randint(1, NUM_ACTIONS), back_after_s)


def nothing(rng, ids):
    return tuple(Slow(agent, rng.choice([1.0, 3.0, 10.0])) for agent in ids)


def one_crash(rng, ids):
    return (_crash(rng, ids),)


def two_crashes(rng, ids):
    return tuple(Crash(agent, rng.randint(1, NUM_ACTIONS)) for agent in rng.sample(ids, 2))


def one_crash_and_back(rng, ids):
    return (_crash(rng, ids, rng.uniform(0.1, 30.0)),)


def one_stall(rng, ids):
    return (Stall(rng.choice(ids), rng.randint(1, NUM_ACTIONS), rng.choice([0.5, 1.9, 5.0, 15.0, 60.0])),)


def one_way_cut(rng, ids):
    start_s, (sender, receiver) = rng.uniform(0.0, LAST_S), rng.sample(ids, 2)
    return (Cut(sender, receiver, start_s, start_s + rng.choice([0.5, 1.9, 5.0, 15.0, 60.0, inf])),)


def short_partition(rng, ids):
    start_s, side = rng.uniform(0.0, LAST_S), rng.sample(ids, rng.randint(1, len(ids) - 1))
    return (Partition(tuple(sorted(side)), start_s, start_s + rng.uniform(0.1, 1.9)),)


def long_partition(rng, ids):
    start_s, side = rng.uniform(0.0, LAST_S), rng.sample(ids, rng.randint(1, len(ids) - 1))
    return (Partition(tuple(sorted(side)), start_s, start_s + rng.uniform(2.0, 60.0)),)


def resets(rng, ids):
    """Every second or so the connections of one agent break for a moment."""
    starts_s = [second + rng.random() for second in range(int(LAST_S))]
    return tuple(
        Partition((rng.choice(ids),), start_s, start_s + rng.uniform(0.01, 0.3)) for start_s in starts_s
    )


KINDS = [
    nothing,
    one_crash,
    two_crashes,
    one_crash_and_back,
    one_stall,
    one_way_cut,
    short_partition,
    long_partition,
    resets,
]


def draw(kind, seed, ids, *, with_liar=False):
    """Return a history of a kind; the same for the same seed."""
    rng = random.Random(f"{kind.__name__} {seed}")
    faults = kind(rng, list(ids))
    if with_liar:
        faults = (*faults, Liar(rng.choice(list(ids)), rng.choice(LIES).name, rng.randint(1, 3)))
    return History(seed=seed, faults=faults)
