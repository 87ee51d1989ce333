"""The outcome of a comparison's runs: `comparison.json`, a pure function of the runs' files.

All of it is modelled or learnt, nothing is measured, so the same runs give the same bytes. A method has
reached a target at the end of the first round whose metric is as good as the target; what it took is the
sum over the rounds until then. Not to reach a target is a result, too: a mean is null unless all seeds got
there, and a ratio unless both methods did.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from statistics import fmean, stdev

from comdml_flwr.comparison.records import RunFiles
from comdml_flwr.comparison.settings import Case, Comparison, Method
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.typed_json import Json
from comdml_flwr.learning.metrics import Better, reaches
from comdml_flwr.runs.evaluated import known_after

Values = dict[int, float | None]
"""A number by seed; None: not reached."""


def compare_runs(comparison: Comparison, runs: Sequence[RunFiles]) -> dict[str, Json]:
    """Return what goes into `comparison.json`.

    Parameters
    ----------
    comparison : Comparison
        What was compared.
    runs : Sequence[RunFiles]
        One for each case, method and seed, in any order.
    """
    found = {(run.case, run.label, run.seed): run for run in runs}

    def by_seed(case: Case, label: str) -> dict[int, RunFiles]:
        return {seed: found[case.label, label, seed] for seed in comparison.seeds}

    return {
        "name": comparison.name,
        "about": comparison.about,
        "targets": list(comparison.targets),
        "reference": comparison.reference,
        "seeds": list(comparison.seeds),
        "cases": [
            {
                "label": case.label,
                "fleet": case.fleet.rpartition("/")[2],
                "num_agents": case.num_agents,
                "settings": {**comparison.keys, **case.keys},
                "methods": [
                    _method(
                        comparison,
                        case,
                        method,
                        by_seed(case, method.label),
                        by_seed(case, comparison.reference),
                    )
                    for method in comparison.methods
                ],
            }
            for case in comparison.cases
        ],
    }


def elapsed(runs: Sequence[RunFiles]) -> dict[str, dict[str, dict[str, Json]]]:
    """Return what goes into `elapsed.json`: stopwatch seconds by case, label and seed (measured)."""
    seconds: dict[str, dict[str, dict[str, Json]]] = {}
    for run in runs:
        seconds.setdefault(run.case, {}).setdefault(run.label, {})[str(run.seed)] = run.summary.get(
            "elapsed_s"
        )
    return seconds


def _method(
    comparison: Comparison,
    case: Case,
    method: Method,
    runs: Mapping[int, RunFiles],
    reference: Mapping[int, RunFiles],
) -> dict[str, Json]:
    def over(value: Callable[[RunFiles], float | None]) -> dict[str, Json]:
        return _spread({seed: value(run) for seed, run in runs.items()})

    def until(name: str) -> dict[str, Json]:
        return {
            str(target): _compare(
                {seed: _until(run, target, name) for seed, run in runs.items()},
                {seed: _until(run, target, name) for seed, run in reference.items()},
            )
            for target in comparison.targets
        }

    any_run = next(iter(runs.values()))
    config, (metric, better) = any_run.config, _metric(any_run)
    return {
        "label": method.label,
        "settings": {"method": config["method"], **{key: config[key] for key in method.keys}},
        "metric": metric,
        "better": better,
        metric: over(lambda run: _scores(run)[-1]),
        "virtual_time_s": over(lambda run: _total(run, "virtual_time_s")),
        "bytes_sent": over(lambda run: _total(run, "bytes_sent")),
        "round_virtual_time_s": over(lambda run: fmean(_column(run, "virtual_time_s"))),
        "time_to": until("virtual_time_s"),
        "bytes_to": until("bytes_sent"),
        "left_out": {
            str(seed): run.summary["left_out"] for seed, run in runs.items() if run.summary.get("left_out")
        },
    }


def _metric(run: RunFiles) -> tuple[str, Better]:
    """Return the name of the metric that counts in a run, and which value is the better one."""
    first = run.rounds[0] if run.rounds else {}
    better: Better = "lower" if first.get("better") == "lower" else "higher"
    return str(first.get("metric", "accuracy")), better


def _scores(run: RunFiles) -> list[float | None]:
    """Return the metric that counts, as it is known after each round; None: nobody has had test data yet."""
    metric, _ = _metric(run)
    evaluated = tuple(line for line in run.rounds if line.get("num_evaluated") != 0)
    found = iter(_column(replace(run, rounds=evaluated), metric) if evaluated else ())
    is_evaluated = [line.get("num_evaluated") != 0 for line in run.rounds]
    return known_after((one, next(found) if one else None) for one in is_evaluated)


def _column(run: RunFiles, name: str) -> list[float]:
    """Return a number of each round."""
    values = [line.get(name) for line in run.rounds]
    numbers = [value for value in values if isinstance(value, int | float)]
    if not numbers or len(numbers) < len(values):
        raise InputError("rounds.jsonl", name, f"must be a number in each round of {run.case}, {run.label}")
    return numbers


def _total(run: RunFiles, name: str) -> float:
    *_, total = accumulate(_column(run, name))  # as `_until` adds up, to the last bit
    return total


def _until(run: RunFiles, target: float, name: str) -> float | None:
    """Return the sum of a column over the rounds until the target was reached; None: it was not."""
    totals = accumulate(_column(run, name))
    _, better = _metric(run)
    ended = zip(totals, _scores(run), strict=True)
    return next((total for total, score in ended if reaches(score, target, better)), None)


def _spread(values: Values) -> dict[str, Json]:
    """Return mean, sample standard deviation (null for one seed) and the values themselves."""
    reached = [value for value in values.values() if value is not None]
    whole = len(reached) == len(values)
    return {
        "mean": fmean(reached) if whole else None,
        "spread": stdev(reached) if whole and len(reached) > 1 else None,
        "by_seed": {str(seed): value for seed, value in values.items()},
    }


def _compare(values: Values, reference: Values) -> dict[str, Json]:
    ratios = [
        value / other
        for value, other in zip(values.values(), reference.values(), strict=True)
        if value is not None and other  # a reference that sends nothing has no ratio
    ]
    return {
        **_spread(values),
        "num_reached": sum(value is not None for value in values.values()),
        "ratio_to_reference": fmean(ratios) if len(ratios) == len(values) else None,
    }
