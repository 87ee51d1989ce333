"""The text of fleet files, of which the tests need many."""

from collections.abc import Sequence


def agent_tables(ids: int | Sequence[int], **values: float | Sequence[float]) -> str:
    """Return [[agents]] tables.

    Parameters
    ----------
    ids : int | Sequence[int]
        A number of agents, whose ids count from 0, or the ids.
    **values : float | Sequence[float]
        By key, a value of all agents, or values that the agents have in turn.
    """
    tables = []
    for place, agent in enumerate(range(ids) if isinstance(ids, int) else ids):
        lines = ["[[agents]]", f"id = {agent}"]
        for key, value in values.items():
            lines.append(f"{key} = {value[place % len(value)] if isinstance(value, Sequence) else value}")
        tables += [*lines, ""]
    return "\n".join(tables)
