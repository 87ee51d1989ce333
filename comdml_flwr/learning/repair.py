"""Samples for agents that a partition left without: each is to have some, or it could not train.

A Dirichlet partition with a small alpha gives most of a class to one agent, and of many agents some get
nothing at all. Drawing again does not help: with alpha = 0.01 and 100 agents practically no draw gives each a
sample. So samples are moved, one at a time, from the agent that has most (of several the first) to the one
that has least, until all have enough; a seed says which sample. Everybody else keeps what was drawn.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def share_out(parts: Sequence[Indices], smallest: int, seed: int) -> tuple[list[Indices], int]:
    """Return a partition in which each agent has at least `smallest` samples, and how many were moved.

    Parameters
    ----------
    parts : Sequence[NDArray[np.int64]]
        By agent, the ascending indices of its samples.
    smallest : int
        There must be at least this many samples for each agent.
    seed : int
        Same seed, same partition.

    Examples
    --------
    >>> parts, num_moved = share_out([np.array([0, 1, 2, 3]), np.array([], dtype=np.int64)], 1, seed=1)
    >>> [len(part) for part in parts], num_moved
    ([3, 1], 1)
    """
    shares = list(parts)
    sizes = np.array([len(part) for part in shares])
    generator, num_moved = np.random.default_rng(seed), 0
    while sizes.min() < smallest:
        least, most = int(sizes.argmin()), int(sizes.argmax())
        place = int(generator.integers(sizes[most]))
        shares[least] = np.sort(np.append(shares[least], shares[most][place]))
        shares[most] = np.delete(shares[most], place)
        sizes[[least, most]] += (1, -1)
        num_moved += 1
    return shares, num_moved
