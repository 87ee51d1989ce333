"""A data set in memory: training and test samples with their targets."""

from dataclasses import dataclass, fields

from torch import Tensor

from comdml_flwr.learning.structure import Nested, flatten
from comdml_flwr.learning.task import Classification, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Samples and targets in memory; nobody writes into them.

    Parameters
    ----------
    name : str
        As in the run configuration.
    x_train_NCHW, x_test_NCHW : Tensor
        Standardised images, float32; or whatever the model takes, as a tuple or dict of tensors.
    y_train_N, y_test_N : Tensor
        Labels 0..num_classes - 1, int64; or the targets of the task, as a tuple or dict of tensors.
    num_classes : int
        K, of classes; left out where a task is given.
    augment : bool
        Whether training batches go through `augment`; of classes.
    natural_ids_N : Tensor, optional
        Whose each training sample is, int64: `partition = "natural-id"` keeps those of one id together.
    task : Task, optional
        What is learned, if it is not the class of a sample: `Regression()`, or a task of one's own.
    """

    name: str
    x_train_NCHW: Nested
    y_train_N: Nested
    x_test_NCHW: Nested
    y_test_N: Nested
    num_classes: int = 0
    augment: bool = False
    natural_ids_N: Tensor | None = None
    task: Task | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of one sample; () where it is several tensors."""
        return tuple(self.x_train_NCHW.shape[1:]) if isinstance(self.x_train_NCHW, Tensor) else ()

    @property
    def any_task(self) -> Task:
        """What is learned: the task that was given, or the class of a sample."""
        return self.task or Classification(num_classes=self.num_classes, augmented=self.augment)

    def to_learn(self) -> Task:
        """Return what is learned from it, for samples like these."""
        return self.any_task.for_samples(self.x_train_NCHW, self.y_train_N)

    def same_everywhere(self) -> dict[str, object]:
        """Return what all nodes must have loaded alike, by name; of a task that was given, its facts."""
        same: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "task":
                same |= {} if self.task is None else {"task": dict(self.to_learn().facts)}
            elif isinstance(value, tuple | dict):
                same |= {f"{field.name}.{place}": x for place, x in flatten(value).items()}
            else:
                same[field.name] = value
        return same
