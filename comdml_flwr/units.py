"""Quantities for people."""

from dataclasses import dataclass
from math import inf


def human_s(seconds: float) -> str:
    """Return a time for people.

    Examples
    --------
    >>> [human_s(t) for t in (0.0042, 4.71, 700.0, 9000.0)]
    ['4.2 ms', '4.7 s', '11.7 min', '2.5 h']
    """
    if seconds == inf:
        return "never"
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


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit that a column of a table or an axis shares, and its size in seconds or bytes."""

    name: str
    size: float

    def show(self, value: float) -> str:
        """Return a value in this unit, for people."""
        number = value / self.size
        return f"{number:,.{2 if number < 10 else 1 if number < 1000 else 0}f} {self.name}"


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
    for size, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if most_bytes >= size:
            return Unit(name, size)
    return Unit("B", 1.0)
