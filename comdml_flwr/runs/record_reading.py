"""A round's record, read from a line of `rounds.jsonl`: every field is checked where it is read."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from math import nan
from typing import Any, get_args

from comdml_flwr.core.errors import LONGEST_VALUE
from comdml_flwr.core.typed_json import (
    Json,
    as_table,
    read_float,
    read_int,
    read_ints,
    read_list,
    read_text,
)
from comdml_flwr.learning.metrics import Better
from comdml_flwr.runs.own_tests import SUMS
from comdml_flwr.runs.records import AGENT_LISTS, RoundRecord, score_names

_MOST = 1 << 63  # of what is counted; sums stay numbers that can be printed


def read_record(line: Mapping[str, Json]) -> RoundRecord:
    """Return the record of a line of `rounds.jsonl`. Raises TypeError where it is none."""
    scores = {name: _number_or_none(line[name]) for name in score_names(line)}
    values: dict[str, Any] = {}
    for one in fields(RoundRecord):
        if one.name in line and one.name in _READERS:
            values[one.name] = _READERS[one.name](line[one.name])
    record = RoundRecord(scores=scores, **values)
    if not {record.metric, "loss"} <= scores.keys():
        raise TypeError(f"lacks {record.metric} or loss")
    return record


def _count(value: Json) -> int:
    number = read_int(value)
    if not 0 <= number < _MOST:
        raise TypeError(f"{str(number)[:40]} is no count")
    return number


def _number(value: Json) -> float:
    return nan if value is None else read_float(value)  # one that was not finite was written as null


def _number_or_none(value: Json) -> float | None:
    return None if value is None else read_float(value)


def _better(value: Json) -> Json:
    if value not in get_args(Better):
        raise TypeError(f"{repr(value)[:LONGEST_VALUE]} is neither higher nor lower")
    return value


def _plan(value: Json) -> Mapping[str, Json]:
    plan = as_table(value)
    for pair in map(as_table, read_list(plan.get("pairs"))):
        for side in ("slow", "fast"):
            read_int(pair.get(side))
    read_ints(plan.get("solo"))
    return plan


def _metrics(value: Json) -> Mapping[str, float | None]:
    return {name: _number_or_none(number) for name, number in as_table(value).items()}


def _own_tests(value: Json) -> Mapping[str, Mapping[str, Json]]:
    found = {}
    for agent, told in as_table(value).items():
        if not (agent.isascii() and agent.isdigit()):
            raise TypeError(f"{agent[:LONGEST_VALUE]!r} is no agent")
        found[agent] = as_table(told)
        for name, score in found[agent].items():
            for number in as_table(score).values() if name == SUMS else [score]:
                _number_or_none(number)
    return found


def _agents(value: Json) -> list[int]:
    return list(read_ints(value))


_READERS: Mapping[str, Callable[[Json], object]] = {
    "round": _count,
    "num_evaluated": lambda value: None if value is None else _count(value),
    "metric": read_text,
    "better": _better,
    "virtual_time_s": _number,
    "makespan_s": _number,
    "predicted_s": _number,
    "no_offload_virtual_time_s": _number_or_none,
    "no_offload_makespan_s": _number_or_none,
    "elapsed_s": _number,
    "evaluation_s": _number,
    "bytes_sent": _count,
    "num_agents": _count,
    "plan": _plan,
    "metrics": _metrics,
    "own_tests": _own_tests,
    **dict.fromkeys(AGENT_LISTS, _agents),
}
