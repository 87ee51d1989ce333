"""What a round's numbers are called in a tracker: measured, modelled and counted ones are kept apart.

The method's own are in a group of their own, `method`, under the names that it gives them.
"""

from collections.abc import Mapping

from comdml_flwr.runs.records import AGENT_LISTS, score_names

GROUPS: Mapping[str, tuple[str, ...]] = {
    "measured": ("elapsed_s", "evaluation_s"),
    "modelled": (
        "virtual_time_s",
        "makespan_s",
        "predicted_s",
        "no_offload_virtual_time_s",
        "no_offload_makespan_s",
    ),
    "counted": ("bytes_sent", "num_agents", "num_evaluated"),
}
"""Group -> numbers of a line of `rounds.jsonl`; the task's metrics are measured; the round is the step."""

LISTS = tuple(AGENT_LISTS)
"""Lists of agents in such a line: their lengths are counted."""


def numbers(line: Mapping[str, object]) -> dict[str, float]:
    """Return the numbers of a line of `rounds.jsonl`.

    Examples
    --------
    >>> numbers({"round": 1, "elapsed_s": 2.5, "makespan_s": 4.0, "plan": {"pairs": []}, "refused": []})
    {'measured/elapsed_s': 2.5, 'modelled/makespan_s': 4.0, 'counted/num_pairs': 0, 'counted/num_refused': 0}
    """
    found = {f"measured/{name}": line[name] for name in score_names(line)}
    found |= {f"{group}/{name}": line.get(name) for group, names in GROUPS.items() for name in names}
    plan = line.get("plan")
    found["counted/num_pairs"] = _length(plan.get("pairs") if isinstance(plan, Mapping) else None)
    found |= {f"counted/num_{name}": _length(line[name]) for name in LISTS if name in line}
    own = line.get("metrics")
    found |= {f"method/{name}": value for name, value in (own if isinstance(own, Mapping) else {}).items()}
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def _length(values: object) -> int:
    return len(values) if isinstance(values, list | tuple) else 0
