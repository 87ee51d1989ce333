"""Where an agent's data come from: a function that is asked with the agent's place.

An agent trains on what the function gives for its place and asks for nobody else's. The data sets in memory
are one such function (`partitioned`): every node loads the whole set and takes the part that the run's seed
gives to its agent.

Shape suffixes: N samples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.learning.structure import Nested, count_samples, take


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which agent asks, in Flower's words.

    Parameters
    ----------
    partition_id : int
        0..num_partitions - 1.
    num_partitions : int
        How many agents a run has.
    """

    partition_id: int
    num_partitions: int


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
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

    def batch(self, places_N: Tensor) -> tuple[Nested, Nested]:
        """Return the samples at these places, 0..len - 1, and their targets."""
        rows_N = places_N if self.rows_N is None else self.rows_N[places_N]
        return take(self.x, rows_N), take(self.targets, rows_N)

    def part(self, start: int, stop: int) -> tuple[Nested, Nested]:
        """Return the samples [start, stop) and their targets; where these are all of them, without a copy."""
        rows = slice(start, stop) if self.rows_N is None else self.rows_N[start:stop]
        return take(self.x, rows), take(self.targets, rows)

    def all_targets(self) -> Nested:
        """Return the targets of all these samples."""
        return self.targets if self.rows_N is None else take(self.targets, self.rows_N)

    def none(self) -> "Samples":
        """Return none of these samples."""
        return Samples(self.x, self.targets, torch.empty(0, dtype=torch.int64))


DataSource: TypeAlias = Callable[[Place], tuple[Samples, Samples]]
"""(place) -> (training samples of the agent, test samples of all, of which it evaluates a share)."""


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
    test = Samples(dataset.x_test_NCHW, dataset.y_test_N)

    def load(place: Place) -> tuple[Samples, Samples]:
        return Samples(dataset.x_train_NCHW, dataset.y_train_N, rows[place.partition_id]), test

    return load
