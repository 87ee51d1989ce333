"""Which training samples each agent has."""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.repair import share_out


def partition(
    labels: NDArray[np.int64],
    num_agents: int,
    *,
    scheme: str,
    alpha: float,
    seed: int,
    smallest: int = 1,
    warn: Callable[[str], None] = lambda line: None,
) -> list[NDArray[np.int64]]:
    """Give every sample to exactly one agent.

    Parameters
    ----------
    labels : NDArray[np.int64]
        Shape (num_samples,).
    num_agents : int
        At least 1, with `smallest` samples for each.
    scheme : str
        "iid": shuffled, sizes differ by at most one. "dirichlet": the shares of each class are a draw from a
        symmetric Dirichlet distribution (Yurochkin et al., ICML 2019), so sizes and mixtures differ.
    alpha : float
        Concentration for "dirichlet", > 0; small is skewed. "iid" ignores it.
    seed : int
        Same seed, same partition.
    smallest : int
        How many samples each agent gets at least. Where the draws left one with fewer, some are moved from
        the largest shares (`repair.share_out`).
    warn : Callable[[str], None]
        Is told of that in one line.

    Returns
    -------
    list[NDArray[np.int64]]
        By agent, the ascending indices of its samples.

    Raises
    ------
    InputError
        If a value breaks these rules.
    """
    if not 1 <= num_agents <= len(labels) // smallest:
        each = "" if smallest == 1 else f", {smallest} for each"
        rule = f"must be from 1 to the {len(labels)} training samples{each}"
        raise InputError("number of agents", num_agents, rule)
    if scheme == "iid":
        indices = np.random.default_rng(seed).permutation(len(labels))
        return [np.sort(share) for share in np.array_split(indices, num_agents)]
    if scheme != "dirichlet":
        raise InputError("partition", scheme, "must be iid or dirichlet")
    if not 0 < alpha < float("inf"):
        raise InputError("alpha of the Dirichlet partition", alpha, "must be a finite number > 0")
    from datasets import Dataset  # both take seconds to load; so not on top
    from flwr_datasets.partitioner import DirichletPartitioner

    table = Dataset.from_dict({"index": np.arange(len(labels), dtype=np.int64), "label": labels})

    def shards(drawn_least: int) -> list[NDArray[np.int64]]:
        partitioner = DirichletPartitioner(
            num_agents, "label", float(alpha), min_partition_size=drawn_least, seed=seed
        )
        partitioner.dataset = table
        with warnings.catch_warnings(action="ignore"):  # one per draw that left an agent without samples
            parts = [partitioner.load_partition(agent)["index"] for agent in range(num_agents)]
        return [np.sort(np.asarray(part, dtype=np.int64)) for part in parts]

    try:
        drawn = shards(1)
    except ValueError:  # no draw of ten gave a sample to each
        drawn = shards(0)
    parts, num_moved = share_out(drawn, smallest, seed)
    if num_moved:
        num_poor = sum(len(part) < smallest for part in drawn)
        what = f"{num_poor} of {num_agents} agents with {'no sample' if smallest == 1 else 'too few samples'}"
        warn(f"partition: alpha = {alpha:g} left {what}: they got {num_moved} from the largest shares")
    return parts
