"""The table of `comdml report RUN`: the metric on each agent's own test data, best agent first."""

from collections.abc import Mapping
from pathlib import Path

from comdml_flwr.cli.commands.show import make_console, make_table
from comdml_flwr.comparison.contents import metric_words
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.typed_json import Json
from comdml_flwr.runs.evaluated import last_evaluated
from comdml_flwr.runs.own_tests import SUMS, spread_of
from comdml_flwr.runs.record_reading import read_record
from comdml_flwr.runs.records import RoundRecord
from comdml_flwr.runs.rounds_file import read_lines


def print_own_tests(folder: Path) -> None:
    """Print how well the model does for each agent, as of the last round in which one had test data.

    Raises
    ------
    InputError
        `rounds.jsonl` is damaged or empty, or the agents have no test data of their own.
    """
    record = _last_round(folder / "rounds.jsonl")
    spread = spread_of(record.own_tests, record.metric, record.better)
    if spread is None:
        rule = "has no agent with test data of its own: all judge a share of one test set"
        raise InputError("run", str(folder), rule)
    name, console = metric_words(record.metric), make_console()
    table = make_table("agent", f"test {name}", "test samples")
    for agent, score in spread.by_agent:
        table.add_row(str(agent), f"{score:.4f}", _num_samples(record.own_tests[str(agent)]))
    console.print(f"round {record.round}, each agent on its own test data")
    console.print(table)
    of_all = "not finite" if record.score is None else f"{record.score:.4f}"
    console.print(
        f"best {spread.best:.4f}, median {spread.median:.4f}, worst {spread.worst:.4f}; all together {of_all}"
    )


def _last_round(path: Path) -> RoundRecord:
    try:
        return last_evaluated([read_record(line) for line in read_lines(path)])
    except IndexError:
        raise InputError("file", str(path), "has no round yet") from None
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError("file", str(path), f"is damaged: {reason}") from None


def _num_samples(told: Mapping[str, Json]) -> str:
    sums = told.get(SUMS)
    return str(sums.get("num_evaluated", "")) if isinstance(sums, Mapping) else ""
