"""A value for each cut of a model, counted as the authors of the method count cuts: from 1."""

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class ByCut(Generic[T]):
    """A value for each cut 1..M of a model: cut 1 offloads least, cut M keeps only the stem.

    Parameters
    ----------
    values : Iterable[T]
        Of cut 1, 2, ..., M.

    Examples
    --------
    >>> floats = ByCut([20, 10])
    >>> floats[1], floats[2], list(floats.items())
    (20, 10, [(1, 20), (2, 10)])
    >>> floats[0]
    Traceback (most recent call last):
    IndexError: there is no cut 0 of 1 to 2
    """

    __slots__ = ("_values",)

    def __init__(self, values: Iterable[T] = ()) -> None:
        self._values = tuple(values)

    def __getitem__(self, cut: int) -> T:
        if not 1 <= cut <= len(self._values):
            raise IndexError(f"there is no cut {cut} of 1 to {len(self._values)}")
        return self._values[cut - 1]

    def __contains__(self, value: object) -> bool:
        return value in self._values

    def __iter__(self) -> Iterator[T]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByCut) and self._values == other._values

    def __hash__(self) -> int:
        return hash(self._values)

    def __repr__(self) -> str:
        return f"ByCut({list(self._values)!r})"

    def items(self) -> Iterator[tuple[int, T]]:
        """Give each cut with its value, from cut 1 on."""
        return enumerate(self._values, start=1)
