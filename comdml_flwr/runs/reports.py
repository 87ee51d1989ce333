"""What other processes report of a round, checked before it is added up: a report that cannot be is left out.

Whoever reports what cannot be is named in the round's record (`distrusted`), with the reason in the log, and
costs the round its own numbers and no more.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping

from comdml_flwr.core.bounds import LONGEST_S, wrong_number
from comdml_flwr.core.errors import RunError, short_repr
from comdml_flwr.core.majority import majority
from comdml_flwr.core.messages import Report
from comdml_flwr.core.typed_json import read_table
from comdml_flwr.learning.metrics import KnownTests, Metrics, read_sums
from comdml_flwr.runs.record_reading import read_record
from comdml_flwr.runs.records import AGENT_LISTS, as_json, unscored
from comdml_flwr.runs.report_numbers import digests_of, number_in

log = logging.getLogger(__name__)

MOST_BYTES = 1 << 60
_DIGEST = re.compile("[0-9a-f]{64}")
_TIMES = ("end_s", "training_end_s", "evaluation_s")
_OF_SOME = ("elapsed_s", "predicted_s", "lower_bound_s", "no_offload_makespan_s", "no_offload_virtual_time_s")


def usable_reports(
    round_: int,
    reports: Mapping[int, Report],
    metrics: Metrics,
    tests: KnownTests,
    *,
    models_agree: bool = False,
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
    tests : KnownTests
        Those of all agents of the run.
    models_agree : bool
        Whether all must hold the same model: then the digest of more than half counts.
    """
    most = tests.most(reports)
    wrong = {agent: wrong_report(agent, one, metrics, tests, most[agent]) for agent, one in reports.items()}
    found = {agent: report for agent, report in reports.items() if not wrong[agent]}
    for agent, why in _contradictions(found, models_agree=models_agree):
        wrong[agent] = wrong[agent] or why
    for agent in sorted(agent for agent, why in wrong.items() if why):
        found.pop(agent, None)
        log.warning("round %d: the report of agent %d is left out: %s", round_, agent, wrong[agent])
    return found, frozenset(reports.keys() - found.keys())


def _contradictions(reports: Mapping[int, Report], *, models_agree: bool) -> Iterator[tuple[int, str]]:
    """Give who contradicts more than half of the others, and in what."""
    digests = digests_of(reports) if models_agree else {}
    told: dict[str, dict[int, str]] = {"weights_sha256": dict(digests)} if digests else {}
    for agent, report in sorted(reports.items()):
        for name, packed in read_table(report.get("metrics", {})).items():
            told.setdefault(f"the way to combine {name}", {})[agent] = str(read_table(packed)["combine"])
    for what, by_agent in told.items():
        common, odd = majority(by_agent)
        if common is not None:
            yield from ((agent, f"{what} is {short_repr(by_agent[agent])}") for agent in sorted(odd))


def wrong_report(agent: int, report: Report, metrics: Metrics, tests: KnownTests, most: int) -> str:
    """Tell what is wrong with a report of one who can have evaluated so many samples; empty: nothing.

    See `usable_reports`.
    """
    try:
        json.dumps(report, allow_nan=False)  # raises ValueError
        times = (*_TIMES, *(name for name in _OF_SOME if name in report))
        for name, bound in {**dict.fromkeys(times, LONGEST_S), "bytes_sent": MOST_BYTES}.items():
            if wrong := wrong_number(name, number_in(report, name), 0, bound):
                return wrong
        sums = read_sums(report, metrics)
        if wrong := tests.wrong_sums(sums, metrics, most):
            return wrong
        record = unscored(1, {agent: report}, metrics=metrics)
        read_record(as_json(record))
        if named := sorted({one for name in AGENT_LISTS for one in getattr(record, name)} - {*tests.ids}):
            return f"it names agent {short_repr(named[0])}, whom the run does not have"
        digest = report.get("weights_sha256", "")
        if digest and not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
            return f"{short_repr(digest)} is no digest of weights"
    except (RunError, TypeError, ValueError, KeyError) as error:
        return f"lacks {error}" if isinstance(error, KeyError) else str(error)
    return ""
