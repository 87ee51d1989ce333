"""Quantities for people."""

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
