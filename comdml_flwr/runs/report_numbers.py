"""Numbers and lists of a round's reports, each read by its type: RunError where it is of another one."""

from collections.abc import Mapping

from comdml_flwr.core.messages import Report
from comdml_flwr.core.typed_json import Json, read_as, read_float, read_ints


def number_in(report: Mapping[str, Json], name: str) -> float:
    """Return a number of a report; RunError where it is none."""
    return read_as(read_float, report.get(name), f"{name} in a report")


def sum_of(reports: Mapping[int, Report], name: str) -> float:
    """Return the sum of a number over all reports, added up by ascending id."""
    return sum(number_in(report, name) for _, report in sorted(reports.items()))


def most_of(reports: Mapping[int, Report], name: str) -> float:
    """Return the largest value of a number in all reports."""
    return max(number_in(report, name) for report in reports.values())


def named_in(reports: Mapping[int, Report], name: str) -> list[int]:
    """Return whom a list of any report names, ascending."""
    told = (read_as(read_ints, report.get(name, ()), f"{name} in a report") for report in reports.values())
    return sorted({agent for agents in told for agent in agents})


def digests_of(reports: Mapping[int, Report]) -> dict[int, str]:
    """Return the digests of those who hold a whole model, in ascending id."""
    return {a: str(r["weights_sha256"]) for a, r in sorted(reports.items()) if "weights_sha256" in r}
