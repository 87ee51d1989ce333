"""Ways to spread samples over agents, as flwr_datasets has them: labels and a seed in, shares out.

The label-skewed ones are flwr_datasets' own partitioners, asked for row numbers. Those that skew only the
sizes, and the one by natural ids, are a line of numpy each and give the same shares (the tests compare them):
flwr_datasets refuses sizes of 0, which `partition` repairs. Its partitioners of sizes cut a data set into
ranges; here it is shuffled first, as "iid" does, because image folders are sorted by class.

Left out are those that need a table for each agent (size, distribution), that order samples by a real number
(continuous), or that share out columns (vertical).
"""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.core.errors import InputError

if TYPE_CHECKING:
    from flwr_datasets.partitioner import Partitioner

Indices = NDArray[np.int64]


def iid(num_samples: int, num_agents: int, seed: int) -> list[Indices]:
    """Shuffle, and cut into shares whose sizes differ by at most one."""
    return np.array_split(np.random.default_rng(seed).permutation(num_samples), num_agents)


def by_size(
    num_samples: int, num_agents: int, seed: int, units: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> list[Indices]:
    """Shuffle, and cut into shares whose sizes go as a function of the agent's number, 1 for the first.

    Parameters
    ----------
    num_samples, num_agents, seed : int
        As in `partition`.
    units : Callable[[NDArray], NDArray]
        (1.0, 2.0, ..., num_agents) -> the sizes, up to a factor. Fractions are cut off and go to the last.

    Examples
    --------
    >>> [len(share) for share in by_size(100, 4, seed=1, units=np.square)]
    [3, 13, 30, 54]
    """
    shares_K = units(np.arange(1.0, num_agents + 1))
    sizes_K = (shares_K / shares_K.sum() * num_samples).astype(np.int64)
    order = np.random.default_rng(seed).permutation(num_samples)
    return np.split(order, np.cumsum(sizes_K)[:-1])


def dirichlet(labels: Indices, num_agents: int, seed: int, alpha: float) -> list[Indices]:
    """Draw how each label is spread over the agents (Yurochkin et al., ICML 2019).

    Some get nothing if no draw of ten gives a sample to each.
    """
    from flwr_datasets.partitioner import DirichletPartitioner

    def drawn(least: int) -> list[Indices]:
        partitioner = DirichletPartitioner(
            num_agents, "label", float(alpha), min_partition_size=least, seed=seed
        )
        return _shares(partitioner, labels, num_agents)

    try:
        return drawn(1)
    except ValueError:
        return drawn(0)


def inner_dirichlet(labels: Indices, num_agents: int, seed: int, alpha: float) -> list[Indices]:
    """Draw each agent's mixture of labels; sizes differ by at most one (Acar et al., arXiv 2111.04263)."""
    from flwr_datasets.partitioner import InnerDirichletPartitioner

    sizes = [len(share) for share in np.array_split(labels, num_agents)]
    partitioner = InnerDirichletPartitioner(sizes, "label", float(alpha), shuffle=False, seed=seed)
    return _shares(partitioner, labels, num_agents)


def shard(labels: Indices, num_agents: int, seed: int, shards_per_agent: int) -> list[Indices]:
    """Sort by label, cut into equal shards, and give each agent some (McMahan et al., arXiv 1602.05629).

    What does not fill a shard is left out.
    """
    from flwr_datasets.partitioner import ShardPartitioner

    most = len(labels) // num_agents
    if shards_per_agent > most:
        rule = f"must be at most {most}: there are {len(labels)} training samples for {num_agents} agents"
        raise InputError("shards-per-agent", shards_per_agent, rule)
    partitioner = ShardPartitioner(
        num_agents, "label", num_shards_per_partition=shards_per_agent, shuffle=False, seed=seed
    )
    return _shares(partitioner, labels, num_agents)


def pathological(labels: Indices, num_agents: int, seed: int, classes_per_agent: int) -> list[Indices]:
    """Give each agent that many labels, the first of them in turn (Li et al., arXiv 2102.02079).

    A label that no agent has is left out.
    """
    from flwr_datasets.partitioner import PathologicalPartitioner

    found = len(np.unique(labels))
    if classes_per_agent > found:
        rule = f"must be at most {found}, the labels among the training samples"
        raise InputError("classes-per-agent", classes_per_agent, rule)
    partitioner = PathologicalPartitioner(
        num_agents, "label", classes_per_agent, "first-deterministic", shuffle=False, seed=seed
    )
    try:
        return _shares(partitioner, labels, num_agents)
    except ValueError as error:
        rule = f"is too many for {num_agents} agents: {str(error).partition('. ')[0]}"
        raise InputError("classes-per-agent", classes_per_agent, rule) from error


def by_natural_id(natural_ids: NDArray[np.int64] | None, num_agents: int) -> list[Indices]:
    """Keep the samples of one id together; each agent gets ids that follow one another, as many as others."""
    if natural_ids is None:
        rule = "needs a data set that says whose each sample is: hf:NAME, with the column as partition-by"
        raise InputError("partition", "natural-id", rule)
    ids = np.unique(natural_ids)
    if num_agents > len(ids):
        rule = f"must be at most {len(ids)}: natural-id gives each agent one or more of so many ids"
        raise InputError("number of agents", num_agents, rule)
    return [np.flatnonzero(np.isin(natural_ids, some)) for some in np.array_split(ids, num_agents)]


def _shares(partitioner: "Partitioner", labels: Indices, num_agents: int) -> list[Indices]:
    from datasets import Dataset

    rows = np.arange(len(labels), dtype=np.int64)
    partitioner.dataset = Dataset.from_dict({"index": rows, "label": labels})
    with warnings.catch_warnings(action="ignore"):  # of samples left out or not drawn: `partition` says so
        return [np.asarray(partitioner.load_partition(k)["index"], np.int64) for k in range(num_agents)]
