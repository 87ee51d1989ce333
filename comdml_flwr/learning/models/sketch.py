"""A few numbers of a tensor by which two machines find out whether they hold the same, without showing it.

Whole numbers are compared to the bit, by a digest. Floats are not: the same program gives other last bits on
another kind of processor (an ARM board beside a PC), and that is no other data. So of floats the sketch has
their length and their projection on a fixed direction of +1 and -1 (as in J. Johnson, W. Lindenstrauss,
"Extensions of Lipschitz mappings into a Hilbert space", 1984): for tensors that differ by d, that of the
difference is about |d|, whichever places differ, and rows in another order are other rows. Rounding moves it
by 1e-7 of the length; one sample of 50,000 that is another one, by 1e-3.
"""

import hashlib
from dataclasses import dataclass
from math import isfinite

import numpy as np
import torch
from torch import Tensor

TOLERANCE = 1e-5  # of the length
_PIECE = 32_749  # below what torch shares among threads; a prime, so that samples in a row meet other signs


@dataclass(frozen=True, slots=True)
class Sketch:
    """What is known of a tensor.

    Parameters
    ----------
    form : str
        Its type and shape, and the digest of its bytes where they are whole numbers.
    length : float
        Root of the sum of squares; 0 of whole numbers.
    projection : float
        Onto the fixed direction; 0 of whole numbers.
    """

    form: str
    length: float = 0.0
    projection: float = 0.0

    def is_like(self, other: "Sketch") -> bool:
        """Tell whether it is of the same tensor, but for rounding."""
        if self.form != other.form or not isfinite(self.length + other.length):
            return self == other
        most = TOLERANCE * max(self.length, other.length)
        return abs(self.length - other.length) <= most and abs(self.projection - other.projection) <= most


def sketch(tensor: Tensor) -> Sketch:
    """Return the sketch of a tensor.

    Examples
    --------
    >>> one, other = torch.ones(2, 3), torch.ones(2, 3)
    >>> other[1, 2] += 1e-7
    >>> sketch(one).is_like(sketch(other)), sketch(one).is_like(sketch(1 - one))
    (True, False)
    """
    form = f"{str(tensor.dtype).removeprefix('torch.')} of shape {'x'.join(map(str, tensor.shape))}"
    flat = tensor.detach().contiguous().reshape(-1)
    if not tensor.is_floating_point():
        digest = hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()
        return Sketch(f"{form}, sha256 {digest[:16]}")
    signs = torch.from_numpy(np.random.default_rng(0).choice(np.array([-1.0, 1.0]), _PIECE))
    squares = projection = 0.0
    for start in range(0, len(flat), _PIECE):
        floats = flat[start : start + _PIECE].double()
        squares += float((floats * floats).sum())
        projection = float((floats * signs[: len(floats)]).sum()) - projection
    return Sketch(form, squares**0.5, projection)
