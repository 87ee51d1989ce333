"""scikit-learn's handwritten digits, which need no download."""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    pass
from comdml_flwr.learning.data.dataset import Dataset

DIGITS_TEST_SHARE = 0.2


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
