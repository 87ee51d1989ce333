"""Who owns which shard of a flat tensor, and in which order agents send to each other."""

from collections.abc import Sequence
from itertools import pairwise


def staggered_receivers(agent: int, agents: Sequence[int]) -> tuple[int, ...]:
    """Return all agents beginning with the one after `agent`: no two agents begin with the same receiver."""
    start = agents.index(agent) + 1
    return (*agents[start:], *agents[:start])


def shard_bounds(num_floats: int, num_shards: int) -> tuple[tuple[int, int], ...]:
    """Return where each of `num_shards` contiguous shards of a vector starts and stops.

    Examples
    --------
    >>> shard_bounds(10, 3)
    ((0, 3), (3, 6), (6, 10))
    """
    marks = [num_floats * shard // num_shards for shard in range(num_shards + 1)]
    return tuple(pairwise(marks))


def assign_round_robin(holders: Sequence[int], newcomers: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Return which newcomers each holder of the current model sends it to: they are dealt out in turn."""
    return {holder: tuple(newcomers[place :: len(holders)]) for place, holder in enumerate(holders)}
