"""Seeds: every random draw of a run comes from (run seed, round, agent, purpose), never from global state."""

import hashlib

SHARED = -1
"""Stands for the agent or the round where a draw belongs to all of them, as the initial weights do."""


def derive_seed(run_seed: int, round_: int, agent: int, purpose: str) -> int:
    """Return a seed in [0, 2**63) that is as good as independent of every other purpose's.

    Parameters
    ----------
    run_seed, round_, agent : int
        Who draws and when; `SHARED` where it belongs to all.
    purpose : str
        What for, such as "shuffle".

    Examples
    --------
    >>> derive_seed(1, 2, 3, "shuffle") == derive_seed(1, 2, 3, "shuffle")
    True
    """
    text = f"{run_seed}/{round_}/{agent}/{purpose}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
