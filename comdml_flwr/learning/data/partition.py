"""Which training samples each agent has."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data import partitioners
from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.learning.repair import share_out
from comdml_flwr.learning.structure import count_samples

_SKEWED = ("dirichlet", "inner-dirichlet", "shard", "pathological")


def labels_to_spread(dataset: Dataset, scheme: str) -> NDArray[np.int64]:
    """Return the class of each training sample; zeros where there are none, and the scheme needs none.

    Raises
    ------
    InputError
        The scheme spreads samples by their classes, and the task has none.
    """
    labels_N = dataset.any_task.labels(dataset.y_train_N)
    if labels_N is None and scheme in _SKEWED:
        raise InputError("partition", scheme, "must be one that needs no classes, as iid: the task has none")
    return np.zeros(count_samples(dataset.y_train_N), np.int64) if labels_N is None else labels_N.numpy()


def partition(
    labels: NDArray[np.int64],
    num_agents: int,
    *,
    scheme: str,
    alpha: float,
    seed: int,
    classes_per_agent: int = 2,
    shards_per_agent: int = 2,
    natural_ids: NDArray[np.int64] | None = None,
    smallest: int = 1,
    warn: Callable[[str], None] = lambda line: None,
) -> list[NDArray[np.int64]]:
    """Give every sample to exactly one agent; "shard" and "pathological" may leave some out, and say so.

    Parameters
    ----------
    labels : NDArray[np.int64]
        Shape (num_samples,).
    num_agents : int
        At least 1, with `smallest` samples for each.
    scheme : str
        Sizes alike, labels mixed: "iid". Sizes differ, labels mixed: "linear", "square", "exponential" in the
        agent's number. Labels skewed: "dirichlet" (sizes differ too), "inner-dirichlet", "shard",
        "pathological". By whose the samples are: "natural-id".
    alpha : float
        Concentration for "dirichlet" and "inner-dirichlet", > 0; small is skewed. The others ignore it.
    seed : int
        Same seed, same partition. "natural-id" ignores it.
    classes_per_agent : int
        Labels of each agent for "pathological".
    shards_per_agent : int
        Shards of each agent for "shard".
    natural_ids : NDArray[np.int64], optional
        Shape (num_samples,), for "natural-id": samples of one id stay together.
    smallest : int
        How many samples each agent gets at least. Where the scheme left one with fewer, some are moved from
        the largest shares (`repair.share_out`).
    warn : Callable[[str], None]
        Is told of that, and of samples that are left out, in one line each.

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
    if scheme in ("dirichlet", "inner-dirichlet") and not 0 < alpha < float("inf"):
        raise InputError("alpha of the Dirichlet partition", alpha, "must be a finite number > 0")
    ways: dict[str, Callable[[], list[NDArray[np.int64]]]] = {
        "iid": lambda: partitioners.iid(len(labels), num_agents, seed),
        "linear": lambda: partitioners.by_size(len(labels), num_agents, seed, lambda k: k),
        "square": lambda: partitioners.by_size(len(labels), num_agents, seed, np.square),
        "exponential": lambda: partitioners.by_size(
            len(labels), num_agents, seed, lambda k: np.exp(k - k[-1])
        ),
        "dirichlet": lambda: partitioners.dirichlet(labels, num_agents, seed, alpha),
        "inner-dirichlet": lambda: partitioners.inner_dirichlet(labels, num_agents, seed, alpha),
        "shard": lambda: partitioners.shard(labels, num_agents, seed, shards_per_agent),
        "pathological": lambda: partitioners.pathological(labels, num_agents, seed, classes_per_agent),
        "natural-id": lambda: partitioners.by_natural_id(natural_ids, num_agents),
    }
    if scheme not in ways:
        raise InputError("partition", scheme, f"must be one of {', '.join(ways)}")
    drawn = [np.sort(share) for share in ways[scheme]()]
    _tell_what_is_left_out(labels, drawn, scheme, warn)
    parts, num_moved = share_out(drawn, smallest, seed)
    if num_moved:
        num_poor = sum(len(part) < smallest for part in drawn)
        what = f"{num_poor} of {num_agents} agents with {'no sample' if smallest == 1 else 'too few samples'}"
        cause = f"alpha = {alpha:g}" if scheme == "dirichlet" else scheme
        warn(f"partition: {cause} left {what}: they got {num_moved} from the largest shares")
    return parts


def _tell_what_is_left_out(
    labels: NDArray[np.int64], parts: Sequence[NDArray[np.int64]], scheme: str, warn: Callable[[str], None]
) -> None:
    num_left = len(labels) - sum(map(len, parts))
    if num_left:
        trained = np.unique(labels[np.concatenate(parts)])
        lost = np.setdiff1d(labels, trained).tolist()
        of = f", all of the labels {', '.join(map(str, lost))} among them" if lost else ""
        warn(f"partition: {scheme} leaves out {num_left:,} of {len(labels):,} training samples{of}")
