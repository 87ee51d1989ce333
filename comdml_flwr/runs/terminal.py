"""What a run prints: a table that grows by a line a round, signs of life while one is long, and a summary.

It looks the same in a terminal and in a log, because `flwr run --stream` shows the log of another process.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from comdml_flwr.core.typed_json import Json
from comdml_flwr.core.units import human_bytes, human_s
from comdml_flwr.runs.records import AGENT_LISTS, RoundRecord

WIDTH = 100
DIVERGED = "in every round the training of every agent gave NaN or infinity"
MOST_NAMED = 5  # of the agents that were left out
QUIET_S = 15.0  # a sign of life after so long without a line


class Terminal:
    """Prints a run as it goes on.

    Parameters
    ----------
    num_rounds : int
        How many rounds the run has.
    console : Console, optional
        Where to print; by default standard output.
    """

    def __init__(self, num_rounds: int, console: Console | None = None) -> None:
        self.console = console or Console(width=WIDTH, highlight=False, soft_wrap=True)
        self._num_rounds = num_rounds
        self._phase, self._num_agents, self._num_replies = "", 0, 0
        self._last_line = time.monotonic()
        self._columns: tuple[str, ...] = ()

    def say(self, line: str) -> None:
        """Print one line as it is, however long."""
        self.console.print(line, markup=False, emoji=False, soft_wrap=True)
        self._last_line = time.monotonic()

    def warn(self, lines: Iterable[str]) -> None:
        """Print what should be known before training; each line once, whoever tells it."""
        for line in dict.fromkeys(lines):
            self.say(f"warning: {line}")

    def exchange_begins(self, round_: int, phase: str, num_agents: int) -> None:
        """Remember what is going on; round 0 is what comes before the first."""
        self._phase = f"round {round_}: {phase}" if round_ else phase
        self._num_agents, self._num_replies = num_agents, 0

    def reply(self) -> None:
        """Count a reply; print a sign of life if there was none for a while."""
        self._num_replies += 1
        self.heartbeat()

    def heartbeat(self) -> None:
        """Print where the run is, unless a line was printed a short while ago."""
        if time.monotonic() - self._last_line > QUIET_S:
            self.say(f"  ... {self._phase}: {self._num_replies} of {self._num_agents} agents")

    def round_ends(self, record: RoundRecord) -> None:
        """Print a round's line; for a method that predicts nothing, without a comparison with no offload."""
        cells = _cells(record, self._num_rounds)
        if not self._columns:
            predicts = record.no_offload_virtual_time_s is not None
            columns = ("round", record.metric, *_WIDTHS)
            self._columns = tuple(name for name in columns if predicts or name not in _OF_OFFLOAD)
            self.say("")
            self.say(_row(self._columns, {name: name for name in self._columns}))
        self.say(_row(self._columns, cells))
        if record.metrics:
            self.say(f"  {', '.join(f'{name} {_value(x)}' for name, x in record.metrics.items())}")
        for name, about in AGENT_LISTS.items():
            if agents := getattr(record, name):
                self.say(f"  {about['line'].format(agents=_ids(agents))}")

    def summary(self, summary: Mapping[str, Json], folder: Path) -> None:
        """Print the outcome of the run."""
        table = Table.grid(padding=(0, 2))
        for name, value in _summary_lines(summary):
            table.add_row(name, value)
        title = (
            f"{summary['method']}: {summary['model']} on {summary['dataset']}, {summary['num_agents']} agents"
        )
        self.console.print(Panel(table, title=Text(title), title_align="left", width=WIDTH))
        for line in _model_lines(summary, folder):
            self.say(line)
        self.say(f"files: {folder}")
        if missing := _numbers(summary, "missing"):
            self.say(f"incomplete: {_ids(missing)} had failed and {_was(missing)} gone at the end")
        if rounds := _numbers(summary, "mostly_gone"):
            how = "incomplete" if summary["status"] == "incomplete" else "note"
            self.say(f"{how}: {mostly_gone_in(rounds)}")
        if summary.get("diverged"):
            self.say(f"incomplete: {DIVERGED}; a smaller learning-rate may help")


_WIDTHS = {
    "loss": 8,
    "virtual": 9,
    "no offload": 10,
    "speed-up": 8,
    "elapsed": 8,
    "pairs": 0,
}
_OF_OFFLOAD = ("no offload", "speed-up", "pairs")


def _cells(record: RoundRecord, num_rounds: int) -> dict[str, str]:
    alone_s = record.no_offload_virtual_time_s
    return {
        "round": f"{record.round}/{num_rounds}",
        record.metric: "-" if record.score is None else f"{record.score:.4f}",
        "loss": "-" if record.loss is None else f"{record.loss:.4f}",
        "virtual": human_s(record.virtual_time_s),
        "no offload": "-" if alone_s is None else human_s(alone_s),
        "speed-up": "-" if alone_s is None else f"{alone_s / record.virtual_time_s:.2f}x",
        "elapsed": human_s(record.elapsed_s),
        "pairs": _pairs(record),
    }


def _row(columns: tuple[str, ...], cells: Mapping[str, str]) -> str:
    first = dict(zip(columns[:2], (7, max(8, len(columns[1]))), strict=True))
    return "  ".join(f"{cells[name]:>{(first | _WIDTHS)[name]}}" for name in columns)


def _ids(agents: list[int]) -> str:
    return f"agent {agents[0]}" if len(agents) == 1 else f"agents {', '.join(map(str, agents))}"


def _value(metric: float | None) -> str:
    return "not finite" if metric is None else f"{metric:.6g}"


def _was(agents: list[int]) -> str:
    return "was" if len(agents) == 1 else "were"


def mostly_gone_in(rounds: Sequence[int]) -> str:
    """Return the line that says in which rounds more agents were gone than had taken part."""
    which = f"round {rounds[0]}" if len(rounds) == 1 else f"rounds {', '.join(map(str, rounds))}"
    return f"in {which} more agents were gone than took part"


def _numbers(summary: Mapping[str, Json], name: str) -> list[int]:
    numbers = summary.get(name)
    return [number for number in numbers if isinstance(number, int)] if isinstance(numbers, list) else []


def _pairs(record: RoundRecord) -> str:
    pairs = record.plan["pairs"]
    named = [
        f"{pair['slow']}->{pair['fast']}@{pair['cut']}"
        for pair in (pairs if isinstance(pairs, list | tuple) else [])
        if isinstance(pair, Mapping)
    ]
    return " ".join(named) or "none"


def _model_lines(summary: Mapping[str, Json], folder: Path) -> list[str]:
    """Return where the models lie: each file, or a folder of files in one line."""
    listed = summary.get("models", ())
    models = [entry for entry in listed if isinstance(entry, Mapping)] if isinstance(listed, list) else []
    lines: dict[str, str] = {}
    for entry in models:
        place = Path(str(entry["file"]))
        if "node" in entry:
            where = f"on the node of agent {entry['node']}: {place}"
        else:
            where = str(folder / (place.parent if len(place.parts) > 1 else place))
        lines.setdefault(where, f"{entry['kind']} model, round {entry['round']}, {where}")
    return list(lines.values())


def _summary_lines(summary: Mapping[str, Json]) -> list[tuple[str, str]]:
    number = {name: value for name, value in summary.items() if isinstance(value, int | float)}
    metric = str(summary["metric"])
    score = f"{number[metric]:.4f}" if metric in number else "not finite"
    num_rounds = f"{number['num_rounds']} round{'' if number['num_rounds'] == 1 else 's'}"
    tested = f"{score} after {num_rounds}"
    if summary["metric_round"] is None:
        tested = f"not known after {num_rounds}: nobody who took part has test data"
    elif number["metric_round"] < number["num_rounds"]:
        tested = f"{score} in round {number['metric_round']} of {num_rounds}, the last with test data"
    virtual_s, training_s = number["virtual_time_s"], number["virtual_training_s"]
    time, training = human_s(virtual_s), human_s(training_s)
    if "no_offload_virtual_time_s" in number:
        alone_s = number["no_offload_virtual_time_s"]
        time += f"; {human_s(alone_s)} without offload: {alone_s / virtual_s:.2f} times as fast"
    if "no_offload_virtual_training_s" in number:
        training += f"; {human_s(number['no_offload_virtual_training_s'])} without offload"
    return [
        (f"test {metric}", tested),
        *_own_test_lines(summary),
        ("time, modelled", time),
        ("  of it training", training),
        ("time, measured", f"{human_s(number['elapsed_s'])} on this machine"),
        ("traffic", f"{human_bytes(number['bytes_sent'])} between all agents"),
        *([("ended", str(summary["stopped"]))] if summary.get("stopped") else []),
        *_left_out_lines(summary),
        ("weights", f"sha256 {str(summary['weights_sha256'])[:16]}..."),
    ]


def _own_test_lines(summary: Mapping[str, Json]) -> list[tuple[str, str]]:
    """Return a line on how far the metric of agents with test data of their own spreads; none without any."""
    spread = summary.get("own_tests")
    if not isinstance(spread, Mapping):
        return []
    best, median, worst = (f"{float(str(spread[name])):.4f}" for name in ("best", "median", "worst"))
    count = spread["num_agents"]
    return [("  on own test data", f"best agent {best}, median {median}, worst {worst}, of {count}")]


def _left_out_lines(summary: Mapping[str, Json]) -> list[tuple[str, str]]:
    """Return a line that names those who were left out in most rounds; none where nobody ever was."""
    left_out = summary.get("left_out")
    if not isinstance(left_out, Mapping) or not left_out:
        return []
    most = sorted(left_out.items(), key=lambda item: (-int(str(item[1])), int(item[0])))
    named = [f"agent {agent} in {count}" for agent, count in most[:MOST_NAMED]]
    more = f" and {len(most) - MOST_NAMED} more agents" if len(most) > MOST_NAMED else ""
    return [("left out", f"{', '.join(named)}{more}, of {summary['num_rounds']} rounds")]
