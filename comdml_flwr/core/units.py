"""Quantities for people."""

from dataclasses import dataclass
from math import inf


def human_s(seconds: float) -> str:
    """Return a time for people.

    Examples
    --------
    >>> [human_s(t) for t in (4.2e-5, 0.0042, 4.71, 700.0, 9000.0)]
    ['42.0 µs', '4.2 ms', '4.7 s', '11.7 min', '2.5 h']
    """
    if seconds == inf:
        return "never"
    if seconds and seconds < 0.9995e-4:
        return f"{seconds * 1e6:.1f} µs"
    if seconds and seconds < 0.0995:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 600:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def human_bytes(num_bytes: float) -> str:
    """Return a size for people; prefixes are powers of 1,000.

    Examples
    --------
    >>> [human_bytes(n) for n in (12, 2.4e6, 3.05e9)]
    ['12 B', '2.4 MB', '3.0 GB']
    """
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {prefix}B"
    return f"{num_bytes:.0f} B"


def human_bandwidth(bytes_per_s: float) -> str:
    """Return a bandwidth for people.

    Examples
    --------
    >>> human_bandwidth(2.5e6)
    '20 Mbps'
    """
    mbps = bytes_per_s / 125_000
    return f"{mbps / 1000:.3g} Gbps" if mbps >= 1000 else f"{mbps:.3g} Mbps"


_LEAST = 0.005  # with two decimals, what is below reads 0


def _decimals(number: float) -> int:
    return 2 if number < 10 else 1 if number < 1000 else 0


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit that a column of a table or an axis shares, and its size in seconds or bytes."""

    name: str
    size: float

    def show(self, value: float, spread: float | None = None) -> str:
        """Return a value in this unit, for people, and with it how far it spreads where that is known.

        A value that would read 0 and is not is shown in the next smaller unit.

        Examples
        --------
        >>> Unit("s", 1.0).show(45.31, 0.42), Unit("s", 1.0).show(0.0042)
        ('45.3 ± 0.4 s', '4.20 ms')
        """
        number = value / self.size
        if 0 < number < _LEAST and (smaller := self._smaller()) is not None:
            return smaller.show(value, spread)
        beside = "" if spread is None else f" {self.show_spread(value, spread)}"
        return f"{number:,.{_decimals(number)}f}{beside} {self.name}"

    def show_spread(self, value: float, spread: float) -> str:
        """Return how far a value spreads, in the unit and with the decimals in which the value is shown.

        Examples
        --------
        >>> Unit("s", 1.0).show_spread(45.31, 0.42), Unit("s", 1.0).show_spread(45.31, 0.01)
        ('± 0.4', '± <0.1')
        """
        number = value / self.size
        if 0 < number < _LEAST and (smaller := self._smaller()) is not None:
            return smaller.show_spread(value, spread)
        decimals = _decimals(number)
        if 0 < spread / self.size < 0.5 * 10.0**-decimals:
            return f"± <{10.0**-decimals:g}"
        return f"± {spread / self.size:,.{decimals}f}"

    def _smaller(self) -> "Unit | None":
        for units in (_TIMES, _SIZES):
            if self in units[:-1]:
                return units[units.index(self) + 1]
        return None


_TIMES = (Unit("h", 3600.0), Unit("min", 60.0), Unit("s", 1.0), Unit("ms", 1e-3), Unit("µs", 1e-6))
_SIZES = tuple(
    Unit(name, size) for name, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))
)


def unit_of_s(longest_s: float) -> Unit:
    """Return the unit in which times up to this one read best.

    Examples
    --------
    >>> unit_of_s(1493.3).show(1234.5), unit_of_s(9000).show(600)
    ('1,234 s', '10.0 min')
    """
    if longest_s < 0.1:
        return Unit("ms", 1e-3)
    if longest_s < 3000:
        return Unit("s", 1.0)
    return Unit("min", 60.0) if longest_s < 50 * 3600 else Unit("h", 3600.0)


def unit_of_bytes(most_bytes: float) -> Unit:
    """Return the unit in which sizes up to this one read best; prefixes are powers of 1,000."""
    return next((unit for unit in _SIZES if most_bytes >= unit.size), _SIZES[-1])
