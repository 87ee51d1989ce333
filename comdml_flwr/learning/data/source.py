"""Where an agent's data come from: a function that is asked with the agent's place.

An agent trains on what the function gives for its place and asks for nobody else's. An app brings such a
function (`app_data.py`): the data stay where they are. The data sets in memory are another one
(`partitioned`): every node loads the whole set and takes the part that the run's seed gives to its agent.

Shape suffixes: N samples.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.learning.structure import Nested, count_samples, take

Scalar: TypeAlias = bool | int | float | str | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which agent asks, in Flower's words.

    As `node_config` and `run_config` are those of Flower's `Context`, a function that was written for a
    `Context` takes a `Place` as well.

    Parameters
    ----------
    partition_id : int
        0..num_partitions - 1.
    num_partitions : int
        How many agents a run has.
    node_config : Mapping[str, bool | int | float | str | bytes]
        What this node was started with (`--node-config`), "partition-id" and "num-partitions" included.
    run_config : Mapping[str, bool | int | float | str | bytes]
        The run configuration, by kebab-case key.
    """

    partition_id: int
    num_partitions: int
    node_config: Mapping[str, Scalar] = field(default_factory=dict)
    run_config: Mapping[str, Scalar] = field(default_factory=dict)


class Samples(Protocol):
    """Samples with their targets; nobody writes into what they give."""

    def __len__(self) -> int:
        """Return how many there are."""

    def batch(self, places_N: Tensor, seed: int = 0) -> tuple[Nested, Nested]:
        """Return the samples at these places, 0..len - 1, and their targets.

        What reading them draws at random, it draws from `seed`.
        """

    def part(self, start: int, stop: int) -> tuple[Nested, Nested]:
        """Return the samples [start, stop) and their targets."""

    def all_targets(self) -> "Nested | None":
        """Return the targets of all these samples; None where each sample would have to be read for them."""

    def none(self) -> "Samples":
        """Return none of these samples."""


def in_parts(samples: Samples, start: int, stop: int, size: int = 256) -> Iterator[tuple[Nested, Nested]]:
    """Yield the samples [start, stop) and their targets, at most so many at once."""
    for first in range(start, stop, size):
        yield samples.part(first, min(first + size, stop))


@dataclass(frozen=True, slots=True, eq=False)
class TensorSamples:
    """Samples with their targets in memory, or some of them; nobody writes into them.

    Parameters
    ----------
    x, targets : Nested
        (M, ...), whatever the task takes.
    rows_N : Tensor, optional
        Which of the M these are, int64; without it all of them. Samples of one data set share its memory.
    """

    x: Nested
    targets: Nested
    rows_N: Tensor | None = None

    def __len__(self) -> int:
        return count_samples(self.targets) if self.rows_N is None else len(self.rows_N)

    def batch(self, places_N: Tensor, seed: int = 0) -> tuple[Nested, Nested]:
        """Return the samples at these places, 0..len - 1, and their targets; nothing is drawn."""
        rows_N = places_N if self.rows_N is None else self.rows_N[places_N]
        return take(self.x, rows_N), take(self.targets, rows_N)

    def part(self, start: int, stop: int) -> tuple[Nested, Nested]:
        """Return the samples [start, stop) and their targets; where these are all of them, without a copy."""
        rows = slice(start, stop) if self.rows_N is None else self.rows_N[start:stop]
        return take(self.x, rows), take(self.targets, rows)

    def all_targets(self) -> Nested:
        """Return the targets of all these samples."""
        return self.targets if self.rows_N is None else take(self.targets, self.rows_N)

    def none(self) -> Samples:
        """Return none of these samples."""
        return TensorSamples(self.x, self.targets, torch.empty(0, dtype=torch.int64))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AgentData:
    """What an agent has.

    Parameters
    ----------
    train : Samples
        It trains on them.
    test : Samples
        It evaluates a model on them; there may be none.
    all_have_test : bool
        Whether all agents have the same test samples, so that each evaluates a share of them.
    """

    train: Samples
    test: Samples
    all_have_test: bool


DataSource: TypeAlias = Callable[[Place], AgentData]


def partitioned(dataset: Dataset, parts: Sequence[NDArray[np.int64]]) -> DataSource:
    """Return the source that shares out a data set in memory.

    Parameters
    ----------
    dataset : Dataset
        The same at all nodes.
    parts : Sequence[NDArray[np.int64]]
        By place, the indices of its training samples.
    """
    rows = [torch.from_numpy(part) for part in parts]
    test = TensorSamples(dataset.x_test_NCHW, dataset.y_test_N)

    def load(place: Place) -> AgentData:
        train = TensorSamples(dataset.x_train_NCHW, dataset.y_train_N, rows[place.partition_id])
        return AgentData(train=train, test=test, all_have_test=True)

    return load
