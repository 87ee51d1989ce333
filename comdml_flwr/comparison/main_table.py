"""The main table of a case, for people and as CSV; and CSV files in general."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from comdml_flwr.comparison.bars import say, unit_of_times
from comdml_flwr.comparison.chart import Cell
from comdml_flwr.comparison.contents import Case, Method, Values
from comdml_flwr.core.units import Unit, unit_of_bytes, unit_of_s
from comdml_flwr.learning.metrics import rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A cell for people: its text, what stands smaller beside it, and whether it is its column's best."""

    text: str
    beside: str = ""
    is_best: bool = False
    is_missing: bool = False


def main_columns(metric: str, targets: Sequence[float]) -> list[str]:
    """Return the headings of the main table."""
    times = [f"Time to {target:g}" for target in targets]
    return ["Method", f"Final test {metric}", *times, "Time of the run", "Mean round", "Sent by all"]


def main_rows(case: Case, targets: Sequence[float]) -> list[list[Shown]]:
    """Return the main table of a case for people; the first cell of a row is the method's label.

    Among one seed, or one method, nothing is called the best.
    """
    columns = [
        [Shown(text=method.label) for method in case.methods],
        _scores(case),
        *(_times_to(case, target) for target in targets),
        _values(case, "virtual_time_s"),
        _values(case, "round_virtual_time_s"),
        _values(case, "bytes_sent"),
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def main_csv(case: Case, targets: Sequence[float]) -> bytes:
    """Return the main table of a case in SI units; what was not reached is empty."""
    metric = case.methods[0].numbers.metric
    columns = ["method", f"{metric}_mean", f"{metric}_spread"]
    for target in targets:
        columns += [
            f"time_to_{target:g}_mean_s",
            f"time_to_{target:g}_spread_s",
            f"time_to_{target:g}_num_reached",
            f"time_to_{target:g}_ratio",
        ]
    for name in ("virtual_time", "round_virtual_time"):
        columns += [f"{name}_mean_s", f"{name}_spread_s"]
    columns += ["bytes_sent_mean", "bytes_sent_spread"]
    return csv_file(columns, [_csv_row(method, targets) for method in case.methods])


def csv_file(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> bytes:
    """Return a CSV file: UTF-8, lines end as on Unix, None is empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return file.getvalue().encode()


def _csv_row(method: Method, targets: Sequence[float]) -> list[Cell]:
    numbers = method.numbers
    row: list[Cell] = [method.label, numbers.score.mean, numbers.score.spread]
    for target in targets:
        reached = numbers.time_to[target]
        row += [reached.mean, reached.spread, reached.num_reached, reached.ratio_to_reference]
    for values in (numbers.virtual_time_s, numbers.round_virtual_time_s, numbers.bytes_sent):
        row += [values.mean, values.spread]
    return row


def _scores(case: Case) -> list[Shown]:
    found = [method.numbers.score for method in case.methods]
    means = [values.mean for values in found if values.mean is not None]
    best = max(means, key=lambda mean: rank(mean, case.better), default=None)
    return [
        Shown(
            text="" if values.mean is None else f"{values.mean:.3f}",
            beside="" if values.spread is None else f"± {values.spread:.3f}",
            is_best=can_be_best(case) and values.mean == best,
        )
        for values in found
    ]


def _times_to(case: Case, target: float) -> list[Shown]:
    found = [method.numbers.time_to[target] for method in case.methods]
    best, unit = min((r.mean for r in found if r.mean is not None), default=None), unit_of_times(case)
    said = [say(method.numbers, target, unit) for method in case.methods]
    return [
        Shown(
            text=time,
            beside=" · ".join(part for part in (spread, beside) if part),
            is_best=can_be_best(case) and reached.mean is not None and reached.mean == best,
            is_missing=reached.mean is None,
        )
        for reached, (time, spread, beside) in zip(found, said, strict=True)
    ]


def _values(case: Case, name: str) -> list[Shown]:
    found: list[Values] = [getattr(method.numbers, name) for method in case.methods]
    means = [values.mean for values in found if values.mean is not None]
    most, least = max(means, default=0.0), min(means, default=0.0)
    unit: Unit = unit_of_bytes(most) if name == "bytes_sent" else unit_of_s(most)
    return [
        Shown(
            text="" if values.mean is None else unit.show(values.mean),
            beside=""
            if values.mean is None or values.spread is None
            else unit.show_spread(values.mean, values.spread),
            is_best=can_be_best(case) and values.mean == least,
        )
        for values in found
    ]


def can_be_best(case: Case) -> bool:
    """Tell whether a best value says anything: there are several methods, and several seeds of each."""
    return len(case.methods) > 1 and all(len(method.runs) > 1 for method in case.methods)
