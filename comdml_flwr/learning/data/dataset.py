"""A data set in memory: training and test samples with their labels."""

from dataclasses import dataclass

from torch import Tensor

from comdml_flwr.learning.task import Classification


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Images and labels in memory; nobody writes into them.

    Parameters
    ----------
    name : str
        As in the run configuration.
    x_train_NCHW, x_test_NCHW : Tensor
        Standardised images, float32.
    y_train_N, y_test_N : Tensor
        Labels 0..num_classes - 1, int64.
    num_classes : int
        K.
    augment : bool
        Whether training batches go through `augment`.
    natural_ids_N : Tensor, optional
        Whose each training sample is, int64: `partition = "natural-id"` keeps those of one id together.
    """

    name: str
    x_train_NCHW: Tensor
    y_train_N: Tensor
    x_test_NCHW: Tensor
    y_test_N: Tensor
    num_classes: int
    augment: bool
    natural_ids_N: Tensor | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of one sample."""
        return tuple(self.x_train_NCHW.shape[1:])

    @property
    def task(self) -> Classification:
        """What is learned from it."""
        task = Classification(num_classes=self.num_classes, augmented=self.augment)
        return task.for_samples(self.x_train_NCHW)
