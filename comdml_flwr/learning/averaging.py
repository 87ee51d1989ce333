"""The one sum that all methods average with, and the shards that it is done in.

Sums run in ascending agent id, in float32, as `acc = x0 * f0; acc += xk * fk` with f = samples / total as a
Python float. This is what Flower's own FedAvg does when its replies are sorted, so the methods agree with it
to the bit; and as every number is summed by itself, cutting the vector into shards changes nothing.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.core.errors import InputError


def weighted_mean(vectors: Sequence[NDArray[np.float32]], num_samples: Sequence[int]) -> NDArray[np.float32]:
    """Return the mean of vectors, each weighed by its number of samples.

    Parameters
    ----------
    vectors : Sequence[ndarray]
        float32, equal shapes, in ascending agent id: the order decides the bits.
    num_samples : Sequence[int]
        How many samples stand behind each, >= 0, not all 0.

    Returns
    -------
    ndarray
        float32, the shape of one vector.

    Raises
    ------
    InputError
        Nothing to average, no samples, a negative number of them, or vectors of unequal shapes.

    Examples
    --------
    >>> weighted_mean([np.float32([0, 4]), np.float32([4, 0])], [1, 3])
    array([3., 1.], dtype=float32)
    """
    total = sum(num_samples)
    if not vectors or len(vectors) != len(num_samples) or total <= 0 or min(num_samples) < 0:
        raise InputError("num_samples", list(num_samples), "must be one number >= 0 a vector, with a sum > 0")
    shapes = {vector.shape for vector in vectors}
    if len(shapes) > 1:
        raise InputError("vectors", sorted(shapes), "must have one shape")
    return weighted_sum(vectors, [count / total for count in num_samples])


def is_finite(values: NDArray[np.float32]) -> bool:
    """Tell whether a float32 array holds no NaN and no infinity.

    Both survive a sum, which needs no array of its own; in float64, so many float32 numbers cannot overflow.

    Examples
    --------
    >>> [is_finite(np.float32(x)) for x in ([3e38, 3e38], [1, np.nan], [np.inf, -np.inf])]
    [True, False, False]
    """
    with np.errstate(invalid="ignore"):  # infinity minus infinity is what is looked for
        return bool(np.isfinite(values.sum(dtype=np.float64)))


def weighted_sum(vectors: Sequence[NDArray[np.float32]], factors: Sequence[float]) -> NDArray[np.float32]:
    """Return the sum of vectors, each times its factor: a mean where the factors sum to 1.

    Parameters
    ----------
    vectors : Sequence[ndarray]
        float32, one shape, at least one; their order decides the bits.
    factors : Sequence[float]
        One a vector.

    Returns
    -------
    ndarray
        float32, the shape of one vector.

    Examples
    --------
    >>> weighted_sum([np.float32([0, 4]), np.float32([4, 0])], [0.25, 0.75])
    array([3., 1.], dtype=float32)
    """
    total = vectors[0] * np.float32(factors[0])
    for vector, factor in zip(vectors[1:], factors[1:], strict=True):
        total += vector * np.float32(factor)
    return total
