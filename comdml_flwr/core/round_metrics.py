"""A method's own numbers of a round, such as a privacy budget that is spent: told by agents, combined to one.

An agent tells a number and how those of all agents become the round's (`tell` in methods/phases).
All that lies between its report and `rounds.jsonl`, terminal and trackers passes it on by its name.
"""

from collections.abc import Iterable
from math import isfinite
from typing import Literal, TypeAlias, get_args

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.typed_json import Json, read_float, read_table

Combine: TypeAlias = Literal["sum", "mean", "max"]
"""How the numbers that agents tell become the round's."""


def pack_metric(value: float, combine: Combine) -> Json:
    """Return a metric as it stands in a report; one that is not finite is told as None.

    Raises
    ------
    ValueError
        There is no such way to combine.
    """
    if combine not in get_args(Combine):
        raise ValueError(f"combine = {combine!r}: must be one of {', '.join(get_args(Combine))}")
    return {"combine": combine, "value": float(value) if isfinite(value) else None}


def combine_metrics(told: Iterable[Json]) -> dict[str, float | None]:
    """Return the metrics of a round, by name.

    Parameters
    ----------
    told : Iterable[Json]
        What each agent has told, packed metrics by name, in ascending id: floats are summed in this order. An
        agent that tells nothing of a metric does not count in it.

    Returns
    -------
    dict[str, float or None]
        None where somebody's is not finite.

    Raises
    ------
    RunError
        It is no table of packed metrics, or two agents combine a metric in different ways.

    Examples
    --------
    >>> told = [{"epsilon": pack_metric(1.5, "max")}, {"epsilon": pack_metric(1.25, "max")}]
    >>> combine_metrics(told)
    {'epsilon': 1.5}
    """
    values: dict[str, list[float | None]] = {}
    ways: dict[str, Json] = {}
    for metrics in told:
        try:
            for name, packed in read_table(metrics).items():
                metric = read_table(packed)
                value, way = metric["value"], metric["combine"]
                values.setdefault(name, []).append(None if value is None else read_float(value))
                if ways.setdefault(name, way) != way or way not in get_args(Combine):
                    raise RunError(f"reports combine the metric {name} by {ways[name]!r} and by {way!r}")
        except (TypeError, KeyError) as error:
            raise RunError(f"a report holds metrics that are none: {error}") from None
    return {name: _combined(values[name], str(ways[name])) for name in values}


def _combined(values: list[float | None], way: str) -> float | None:
    known = [value for value in values if value is not None and isfinite(value)]
    if len(known) < len(values):
        return None
    if way == "max":
        return max(known)
    return sum(known) / (len(known) if way == "mean" else 1)
