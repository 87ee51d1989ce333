"""Which part of a run goes on where a network falls into parts: at most one of them.

Those who count in a round are the agents that are drawn for it and were not gone when the last round was
committed: all of them know the same. A part may end the round if it has more than half of them, or just half
with the lowest id among these:

    two parts have nobody in common, so that not both can have more than half of a set; and of two halves only
    one has its lowest id

A part that does not end a round lacks its model, so it cannot begin the next one. With each round that is
committed, those who are gone count no more. So a round of five outlives three that die one after another, but
not three that die while it runs, which nobody can tell from a network that has left two apart.

Where two or fewer of more agents count, as with a small `participation`, whoever is left ends the round: else
a single death could end the run for all. Of a run of two agents, the one with the lower id does.

`min-agents` says instead how many must be there; then two parts may both go on.
"""

from collections.abc import Collection

from comdml_flwr.core.errors import RunError


class NoQuorumError(RunError):
    """Too few are there for a round to count, or nobody who has the model of the one before."""


def has_quorum(there: Collection[int], count: Collection[int], num_agents: int, min_agents: int = 0) -> bool:
    """Tell whether a part of those who count may end a round.

    Parameters
    ----------
    there : Collection[int]
        The part; all of them count.
    count : Collection[int]
        All who count; at least one.
    num_agents : int
        How many the run has.
    min_agents : int
        How many must be there; 0: see the module.

    Examples
    --------
    >>> has_quorum([3, 4, 5], [1, 2, 3, 4, 5], 9), has_quorum([1, 2], [1, 2, 3, 4, 5], 9)
    (True, False)
    >>> has_quorum([1, 4], [1, 2, 3, 4], 9), has_quorum([2, 3], [1, 2, 3, 4], 9)
    (True, False)
    >>> has_quorum([2], [1, 2], 9), has_quorum([2], [1, 2], 2), has_quorum([2], [1, 2], 2, min_agents=1)
    (True, False, True)
    """
    if min_agents:
        return len(there) >= min(min_agents, len(count))
    if len(count) <= 2 < num_agents:
        return True
    return 2 * len(there) > len(count) or (2 * len(there) == len(count) and min(count) in there)
