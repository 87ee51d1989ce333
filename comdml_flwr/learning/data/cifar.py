"""Data sets as tensors, their partition among agents, and the order and augmentation of batches.

Real data only: scikit-learn's handwritten digits (E. Alpaydin, C. Kaynak, UCI, doi 10.24432/C50P49),
which need no download, and CIFAR-10 and CIFAR-100 (A. Krizhevsky, "Learning Multiple Layers of Features
from Tiny Images", 2009) in their published files; cinic.py adds CINIC-10. Partitions are those of
flwr_datasets, which Flower users know. Everything random takes a generator or a seed; the global state is
neither read nor advanced.

Shape suffixes: N samples, C channels, H height, W width.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data.published_files import cifar_lack
from comdml_flwr.learning.repair import share_out

if TYPE_CHECKING:
    from flwr_datasets.partitioner import Partitioner

DIGITS_TEST_SHARE = 0.2
CROP_PADDING = 4  # pixels, as He et al., "Deep Residual Learning", section 4.2
# Per channel, of the training images scaled to 0..1.
CIFAR_MEANS = {10: (0.4914, 0.4822, 0.4465), 100: (0.5071, 0.4865, 0.4409)}
CIFAR_STDS = {10: (0.2470, 0.2435, 0.2616), 100: (0.2673, 0.2564, 0.2762)}


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
    """

    name: str
    x_train_NCHW: Tensor
    y_train_N: Tensor
    x_test_NCHW: Tensor
    y_test_N: Tensor
    num_classes: int
    augment: bool

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of one sample."""
        return tuple(self.x_train_NCHW.shape[1:])


@lru_cache(maxsize=1)
def load_digits() -> Dataset:
    """Load scikit-learn's 1797 handwritten digits: 8 x 8 pixels, one channel, ten classes.

    A fifth, stratified by label, is held out for testing; it is the same fifth in every run. Both parts are
    standardised with the mean and standard deviation of the training part.

    Returns
    -------
    Dataset
        "digits", not augmented: a digit in a mirror is no digit.
    """
    from sklearn.datasets import load_digits as load_bunch
    from sklearn.model_selection import train_test_split

    pixels_ND, labels_N = load_bunch(return_X_y=True)
    train, test = train_test_split(
        np.arange(len(labels_N)), test_size=DIGITS_TEST_SHARE, stratify=labels_N, random_state=0
    )
    x_NCHW = torch.tensor(pixels_ND, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y_N = torch.tensor(labels_N, dtype=torch.int64)
    x_NCHW = (x_NCHW - x_NCHW[train].mean()) / x_NCHW[train].std()
    return Dataset(
        name="digits",
        x_train_NCHW=x_NCHW[train],
        y_train_N=y_N[train],
        x_test_NCHW=x_NCHW[test],
        y_test_N=y_N[test],
        num_classes=10,
        augment=False,
    )


def load_cifar(folder: Path, num_classes: int, download: bool = False) -> Dataset:
    """Load CIFAR-10 or CIFAR-100 from its published Python files.

    Parameters
    ----------
    folder : Path
        The folder that holds `cifar-10-batches-py` or `cifar-100-python`.
    num_classes : int
        10 or 100 (the fine labels).
    download : bool
        Fetch the files into the folder if they are not there.

    Returns
    -------
    Dataset
        "cifar-10" or "cifar-100", augmented; the 50,000 training images take 614 MB as float32.

    Raises
    ------
    InputError
        If the files are not there, are not the published ones, or cannot be fetched.
    """
    if num_classes not in CIFAR_MEANS:
        raise InputError("number of classes of CIFAR", num_classes, "must be 10 or 100")
    x_train_NCHW, y_train_N = _read_cifar(folder, num_classes, True, download)
    x_test_NCHW, y_test_N = _read_cifar(folder, num_classes, False, download)
    return Dataset(
        name=f"cifar-{num_classes}",
        x_train_NCHW=x_train_NCHW,
        y_train_N=y_train_N,
        x_test_NCHW=x_test_NCHW,
        y_test_N=y_test_N,
        num_classes=num_classes,
        augment=True,
    )


def standardise(pixels_NHWC: NDArray[np.uint8], means: Sequence[float], stds: Sequence[float]) -> Tensor:
    """Return images as networks want them: float32, scaled to 0..1, minus the mean, over the deviation.

    Parameters
    ----------
    pixels_NHWC : NDArray[np.uint8]
        Shape (num_samples, height, width, channels).
    means, stds : Sequence[float]
        Per channel, of pixels scaled to 0..1.

    Returns
    -------
    Tensor
        Shape (num_samples, channels, height, width), contiguous: four bytes a pixel, once.
    """
    x_NCHW = torch.from_numpy(pixels_NHWC).permute(0, 3, 1, 2)
    x_NCHW = x_NCHW.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    means_C11, stds_C11 = torch.tensor(means)[:, None, None], torch.tensor(stds)[:, None, None]
    return x_NCHW.sub_(means_C11).div_(stds_C11)


def epoch_sizes(num_samples: int, batch_size: int, smallest: int = 1) -> list[int]:
    """Return the sizes of an epoch's batches; a last one with fewer than `smallest` joins the one before.

    Examples
    --------
    >>> epoch_sizes(9, 4), epoch_sizes(9, 4, smallest=2)
    ([4, 4, 1], [4, 5])
    """
    num_full, rest = divmod(num_samples, batch_size)
    sizes = [batch_size] * num_full
    if num_full and 0 < rest < smallest:
        sizes[-1] += rest
        return sizes
    return [*sizes, rest] if rest else sizes


def batches(
    num_samples: int, batch_size: int, num_epochs: int, generator: torch.Generator, *, smallest: int = 1
) -> list[Tensor]:
    """Say which samples form which batch: a fresh shuffle per local epoch, the last batch may be smaller.

    Parameters
    ----------
    num_samples, batch_size, num_epochs : int
        Each at least 1.
    generator : torch.Generator
        Advanced by one permutation per epoch.
    smallest : int
        A last batch with fewer samples joins the one before.

    Returns
    -------
    list[Tensor]
        Indices 0..num_samples - 1, int64, one tensor per batch, epoch after epoch.
    """
    values = (("number of samples", num_samples), ("batch size", batch_size), ("local epochs", num_epochs))
    for what, value in values:
        if value < 1:
            raise InputError(what, value, "must be at least 1")
    orders = [torch.randperm(num_samples, generator=generator) for _ in range(num_epochs)]
    sizes = epoch_sizes(num_samples, batch_size, smallest)
    return [batch_N for order_N in orders for batch_N in torch.split(order_N, sizes)]


def augment(x_NCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Shift and mirror each image at random: a crop after padding by `CROP_PADDING`, a flip of about half.

    Parameters
    ----------
    x_NCHW : Tensor
        A batch of images; standardised, so that the padding (zeros) is the mean colour.
    generator : torch.Generator
        The only source of randomness.

    Returns
    -------
    Tensor
        A new batch of the same shape.
    """
    num, _, height, width = x_NCHW.shape
    top_N11, left_N11 = torch.randint(2 * CROP_PADDING + 1, (2, num, 1, 1), generator=generator)
    is_flipped_N11 = torch.randint(2, (num, 1, 1), generator=generator).bool()
    samples_N11, rows_H1 = torch.arange(num)[:, None, None], torch.arange(height)[:, None]
    columns_W = torch.arange(width)
    columns_N1W = left_N11 + torch.where(is_flipped_N11, columns_W.flip(0), columns_W)
    padded_NHWC = nn.functional.pad(x_NCHW, (CROP_PADDING,) * 4).permute(0, 2, 3, 1)
    return padded_NHWC[samples_N11, top_N11 + rows_H1, columns_N1W].permute(0, 3, 1, 2)


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
    import datasets  # seconds; so not on top

    indices = np.arange(len(labels), dtype=np.int64)
    if scheme == "iid":
        np.random.default_rng(seed).shuffle(indices)  # the partitioner cuts contiguous shards
    table = datasets.Dataset.from_dict({"index": indices, "label": labels[indices]})

    def shards(drawn_least: int) -> list[NDArray[np.int64]]:
        partitioner = _partitioner(scheme, num_agents, alpha, seed, drawn_least)
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


def _partitioner(scheme: str, num_agents: int, alpha: float, seed: int, drawn_least: int) -> "Partitioner":
    from flwr_datasets.partitioner import DirichletPartitioner, IidPartitioner

    if scheme == "iid":
        return IidPartitioner(num_agents)
    if scheme != "dirichlet":
        raise InputError("partition", scheme, "must be iid or dirichlet")
    if not 0 < alpha < float("inf"):
        raise InputError("alpha of the Dirichlet partition", alpha, "must be a finite number > 0")
    return DirichletPartitioner(num_agents, "label", float(alpha), min_partition_size=drawn_least, seed=seed)


def _read_cifar(folder: Path, num_classes: int, train: bool, download: bool) -> tuple[Tensor, Tensor]:
    from torchvision.datasets import CIFAR10, CIFAR100

    reader = CIFAR10 if num_classes == 10 else CIFAR100
    try:
        files = reader(str(folder), train=train, download=download)
    except (OSError, RuntimeError) as error:
        lack = cifar_lack(folder, num_classes)
        reason = lack.says if lack else str(error)
        cure = f" ({error})" if download else "; to fetch it, set `download = true`"
        raise InputError("data-dir", str(folder.absolute()), f"{reason}{cure}") from error
    x_NCHW = standardise(files.data, CIFAR_MEANS[num_classes], CIFAR_STDS[num_classes])
    return x_NCHW, torch.tensor(files.targets, dtype=torch.int64)
