"""Which model counts where the members of a round end it with different ones."""

from collections import Counter
from collections.abc import Mapping


def majority(told: Mapping[int, str | None]) -> tuple[str | None, frozenset[int]]:
    """Return the digest that more than half of the members told, None if there is none, and who differs.

    Examples
    --------
    >>> majority({0: "a", 1: "a", 2: "b"})
    ('a', frozenset({2}))
    >>> majority({0: "a", 1: "b"}) == (None, {0, 1})
    True
    """
    digest, count = Counter(told.values()).most_common(1)[0]
    common = digest if 2 * count > len(told) else None
    return common, frozenset(agent for agent, own in told.items() if common is None or own != common)
