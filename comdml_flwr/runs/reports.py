"""What other processes report of a round, checked before it is added up: a report that cannot be is left out.

Whoever reports what cannot be is named in the round's record (`distrusted`), with the reason in the log, and
costs the round its own numbers and no more.
"""

import json
import logging
import re
from collections.abc import Mapping

from comdml_flwr.core.errors import RunError, short_repr
from comdml_flwr.core.messages import Report
from comdml_flwr.learning.metrics import Metrics, read_sums
from comdml_flwr.runs.record_reading import read_record
from comdml_flwr.runs.records import AGENT_LISTS, as_json, unscored
from comdml_flwr.runs.report_numbers import number_in

log = logging.getLogger(__name__)

LONGEST_S = 1e9  # thirty years: no round takes longer
MOST_BYTES = 1 << 60
_DIGEST = re.compile("[0-9a-f]{64}")
_TIMES = ("end_s", "training_end_s", "evaluation_s")
_OF_FORECASTS = ("predicted_s", "lower_bound_s", "no_offload_makespan_s", "no_offload_virtual_time_s")


def usable_reports(
    round_: int, reports: Mapping[int, Report], metrics: Metrics, num_tests: Mapping[int, int]
) -> tuple[dict[int, Report], frozenset[int]]:
    """Return the reports that can be, and whose cannot.

    Parameters
    ----------
    round_ : int
        Of which round.
    reports : Mapping[int, Report]
        By agent.
    metrics : Metrics
        Those of the agents' task.
    num_tests : Mapping[int, int]
        How many test samples each agent of the run has.
    """
    found: dict[int, Report] = {}
    for agent, report in reports.items():
        if wrong := wrong_report(agent, report, metrics, num_tests):
            log.warning("round %d: the report of agent %d is left out: %s", round_, agent, wrong)
        else:
            found[agent] = report
    return found, frozenset(reports.keys() - found.keys())


def wrong_report(agent: int, report: Report, metrics: Metrics, num_tests: Mapping[int, int]) -> str:
    """Tell what is wrong with an agent's report; empty where it can be. See `usable_reports`."""
    try:
        json.dumps(report, allow_nan=False)  # raises ValueError
        for name in (*_TIMES, *(name for name in _OF_FORECASTS if name in report)):
            _check_within(report, name, LONGEST_S)
        _check_within(report, "bytes_sent", MOST_BYTES)
        sums = read_sums(report, metrics)
        if not metrics.is_possible(sums) or (sums.get("num_evaluated") or 0) > num_tests[agent]:
            return f"no evaluation of {num_tests[agent]} test samples gives {short_repr(sums)}"
        record = unscored(1, {agent: report}, metrics=metrics)
        read_record(as_json(record))
        if named := sorted({one for name in AGENT_LISTS for one in getattr(record, name)} - num_tests.keys()):
            return f"it names agent {short_repr(named[0])}, whom the run does not have"
        digest = report.get("weights_sha256", "")
        if digest and not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
            return f"{short_repr(digest)} is no digest of weights"
    except (RunError, TypeError, ValueError, KeyError) as error:
        return f"lacks {error}" if isinstance(error, KeyError) else str(error)
    return ""


def _check_within(report: Report, name: str, most: float) -> None:
    value = number_in(report, name)
    if not 0 <= value <= most:
        raise RunError(f"{name} is {short_repr(value)}, not from 0 to {most:g}")
