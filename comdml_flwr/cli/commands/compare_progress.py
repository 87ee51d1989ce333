"""What `comdml compare` shows while it trains, on standard error: bars in a terminal, lines elsewhere."""

import json
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from comdml_flwr.cli.commands.time_left import TimeLeft
from comdml_flwr.comparison.schedule import PlannedRun
from comdml_flwr.comparison.workers import Outcome
from comdml_flwr.core.units import human_s

QUIET_S = 60.0  # without a terminal: a sign of life after so long without a line


class CompareProgress:
    """Shows how a comparison goes on; a context.

    Parameters
    ----------
    console : Console, optional
        Where; by default standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} rounds"),
            TimeElapsedColumn(),
            TextColumn("left: {task.fields[left]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._all = self._bars.add_task("all runs", total=None, visible=False, left="?")
        self._rounds: dict[str, int] = {}
        self._bar_of: dict[str, TaskID] = {}
        self._num_ended, self._num_runs, self._total = 0, 0, 0
        self._last_line = time.monotonic()
        self._time_left = TimeLeft(())

    def __enter__(self) -> "CompareProgress":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def comparison_begins(self, num_done: int, missing: Sequence[PlannedRun]) -> None:
        """Say what there is to do."""
        self._num_runs = num_done + len(missing)
        self._num_ended = num_done
        self._total = sum(run.num_rounds for run in missing)
        self._time_left = TimeLeft(missing)
        if num_done:
            self._say(f"{num_done} of {self._num_runs} runs are done already")
        self._bars.update(self._all, total=self._total, visible=bool(missing))

    def run_begins(self, run: PlannedRun) -> None:
        """Show a bar of the run."""
        self._rounds[str(run)] = 0
        self._bar_of[str(run)] = self._bars.add_task(f"  {run}", total=run.num_rounds, left="?")
        self._time_left.begins(run, time.monotonic())

    def round_ends(self, run: PlannedRun, round_: int) -> None:
        """Move the bars; without a terminal, a sign of life if there was none for a while."""
        self._time_left.round_ends(run, round_, time.monotonic())
        self._move(run, round_)
        if not self._console.is_terminal and time.monotonic() - self._last_line > QUIET_S:
            done = sum(self._rounds.values())
            left = _shown(self._time_left.of_all())
            self._say(f"  ... {done} of {self._total} rounds; about {left} left")

    def run_ends(self, run: PlannedRun, outcome: Outcome) -> None:
        """Print a line on the outcome of the run."""
        self._time_left.ends(run)
        self._move(run, run.num_rounds)
        self._bars.remove_task(self._bar_of.pop(str(run)))
        if isinstance(outcome, str):
            self._say(f"failed: {run}: {outcome}")
            return
        self._num_ended += 1
        summary = json.loads(outcome["summary.json"])
        metric = str(summary.get("metric", "accuracy"))
        score, elapsed_s = summary[metric], summary["elapsed_s"]
        place = f"{self._num_ended}/{self._num_runs}"
        shown = "not known" if score is None else f"{score:.4f}"
        self._say(f"{place}  {run}: {metric} {shown}; {elapsed_s:.1f} s, measured")

    def _move(self, run: PlannedRun, round_: int) -> None:
        self._rounds[str(run)] = round_
        if str(run) in self._bar_of:
            left = _shown(self._time_left.of_run(run))
            self._bars.update(self._bar_of[str(run)], completed=round_, left=left)
        left = _shown(self._time_left.of_all())
        self._bars.update(self._all, completed=sum(self._rounds.values()), left=left)

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, emoji=False, soft_wrap=True)
        self._last_line = time.monotonic()


def _shown(seconds: float | None) -> str:
    return "?" if seconds is None else human_s(seconds)
