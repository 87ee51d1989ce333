"""The folder that a run writes: `config.json`, `rounds.jsonl`, `agents.json`, and at the end `summary.json`.

Beside them lie the models that it leaves (trained_models.py); `summary.json` lists them. No other user of the
machine can look into the folder, unless `share-results` says so.

`agents.json` is written after the first round: each agent's samples by label, its speed, and what it did when
in that round, on the virtual clock.

A run that failed has no `summary.json`; it has `failed.txt` with the reason. With `checkpoint-every` there is
also `checkpoints` (checkpoints.py), and a run that goes on writes into the same folder.
"""

import errno
import os
import re
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.disk_errors import naming_what_cannot_be_written
from comdml_flwr.core.errors import InputError, InterruptedRun
from comdml_flwr.core.files import OPEN_FOLDER, PRIVATE_FOLDER, append_line, write_file
from comdml_flwr.core.strict_json import to_json
from comdml_flwr.core.typed_json import Json
from comdml_flwr.runs.checkpoint_folders import go_back, rounds_in
from comdml_flwr.runs.checkpoints import FOLDER, Checkpoints, hold
from comdml_flwr.runs.model_files import carry_best
from comdml_flwr.runs.records import RoundRecord, RunRecord, as_json
from comdml_flwr.runs.resuming import Resumed
from comdml_flwr.runs.rounds_file import Chain, whole_lines
from comdml_flwr.runs.summary import summarize
from comdml_flwr.runs.terminal import Terminal
from comdml_flwr.runs.tracking.trackers import Trackers, check_trackers

if TYPE_CHECKING:
    from comdml_flwr.runs.trained_models import ModelKeeper  # loads torch, which a dry run does without


class RunFolder:
    """A run's result files.

    Parameters
    ----------
    config : RunConfig
        Its `results_dir` is where the folder is made; a relative one counts from the working directory.
    about : str, optional
        What stands in the folder's name in place of the data set.
    resumed : Resumed, optional
        The run that goes on, in its own folder: which then is as it was at the checkpoint.

    Raises
    ------
    InputError
        The folder cannot be made.
    """

    def __init__(
        self, config: RunConfig, about: str | None = None, *, resumed: Resumed | None = None
    ) -> None:
        self._chain = Chain()
        if resumed:
            self.path = resumed.folder
            self._go_back(resumed)
        else:
            self.path = self._make(config, about)
        self._has_lines = resumed is not None
        try:
            self._write("config.json", config.with_defaults_named())
        except OSError:
            with suppress(OSError):
                self.path.rmdir()  # where it is new
            raise

    def _make(self, config: RunConfig, about: str | None) -> Path:
        about = re.sub(r"[^\w.-]", "-", about or config.dataset)
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{config.method}-{about}-seed{config.seed}"
        try:
            root = Path(config.results_dir).expanduser().absolute()
            return _new_folder(root, name, OPEN_FOLDER if config.share_results else PRIVATE_FOLDER)
        except (OSError, RuntimeError) as error:  # RuntimeError: `~somebody` who is not known here
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                "results-dir", config.results_dir, f"must be a folder to write in ({reason})"
            ) from None

    def _go_back(self, resumed: Resumed) -> None:
        """Drop what was written after the checkpoint."""
        go_back(self.path / FOLDER, resumed.checkpoint.round)
        carry_best(resumed.checkpoint_folder, self.path)
        lines = whole_lines(self.path / "rounds.jsonl")[: resumed.checkpoint.round]
        for line in lines:
            self._chain.check(line)
        write_file(self.path / "rounds.jsonl", "".join(f"{line}\n" for line in lines).encode(), sync=True)
        for name in ("failed.txt", "summary.json"):
            (self.path / name).unlink(missing_ok=True)

    def add_round(self, record: RoundRecord) -> None:
        """Append a line to `rounds.jsonl`; it is on disk when this returns."""
        self.add_line(as_json(record))
        if record.agents:
            self._write("agents.json", {"round": record.round, "agents": list(record.agents)})

    def add_line(self, line: Mapping[str, Json], *, sync: bool = True) -> None:
        """Append a line that is no record of a run; with `sync`, it is on disk when this returns."""
        path = self.path / "rounds.jsonl"
        if self._has_lines and not path.exists():  # or a part of the rounds would look like all of them
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        self._has_lines = True
        append_line(path, self._chain.link(line).encode(), sync=sync)

    def finish(self, summary: Mapping[str, Json]) -> None:
        """Write `summary.json`."""
        self._write("summary.json", summary)

    def fail(self, reason: str) -> None:
        """Write `failed.txt`, if the disk takes it."""
        with suppress(OSError):
            if self.path.is_dir():  # not somebody's who has removed it
                write_file(self.path / "failed.txt", f"{reason}\n".encode())

    def _write(self, name: str, value: Mapping[str, Json]) -> None:
        write_file(self.path / name, (to_json(value, indent=2) + "\n").encode())


def recorded(
    rounds: Iterable[RunRecord],
    config: RunConfig,
    num_agents: int,
    terminal: Terminal,
    checkpoints: Checkpoints | None = None,
    resumed: Resumed | None = None,
    models: "ModelKeeper | None" = None,
) -> Iterator[RunRecord]:
    """Make the run's folder; write, print and track each round that is drawn; at the end, write the summary.

    Parameters
    ----------
    rounds : Iterable[RunRecord]
        The run: all rounds so far, whenever one has ended. The next one begins when it is drawn.
    config : RunConfig
        Of the run.
    num_agents : int
        How many agents it has.
    terminal : Terminal
        Where to print.
    checkpoints : Checkpoints, optional
        Told in which folder they are kept, and saved where they are due.
    resumed : Resumed, optional
        The run that goes on.
    models : ModelKeeper, optional
        Lets the run leave its models; without it, none is left.

    Yields
    ------
    RunRecord
        Of a run that goes on, the rounds that are over; then all rounds so far, when one is written down.

    Raises
    ------
    InputError, RunError
        What is wrong, in one line; for a run that had begun also in its folder.
    InterruptedRun
        By Ctrl-C; it says how the run goes on.
    """
    check_trackers(config)
    root = resumed.folder if resumed else Path(config.results_dir)
    record = resumed.record if resumed else RunRecord()
    with naming_what_cannot_be_written(root), ExitStack() as held:
        # 1. The folder, which no other process may go on with meanwhile.
        if resumed:
            held.enter_context(hold(resumed.folder))
            terminal.say(resumed.line)
        results = RunFolder(config, resumed=resumed)
        if models:
            models.write_into(results.path, config)
        if checkpoints:
            checkpoints.write_into(results.path)
            if not resumed:
                held.enter_context(hold(results.path))
        terminal.say(f"{num_agents} agents are there; results go to {results.path}")
        trackers = Trackers(terminal.say)
        try:
            trackers.start(config, results.path, num_over=len(record.rounds))
            # 2. The rounds. The best model is written first: the agents have it until the next exchange.
            began, earlier_s = time.monotonic(), record.elapsed_s
            if resumed:
                yield record
            for record in rounds:
                if models:
                    models.round_ended(record.rounds)
                results.add_round(record.last)
                terminal.round_ends(record.last)
                trackers.round_ends(record.last)
                if checkpoints and checkpoints.is_due(record):
                    checkpoints.save(record)
                yield record
            elapsed_s = earlier_s + time.monotonic() - began
            left = models.finish(record.rounds) if models else []
        except KeyboardInterrupt:
            results.fail("interrupted")
            trackers.finish(None)
            raise InterruptedRun(_how_it_goes_on(results.path)) from None
        except BaseException as error:
            results.fail(str(error) or repr(error))
            trackers.finish(None)
            raise
        # 3. The summary.
        summary = {
            **summarize(record, config, num_agents, elapsed_s),
            "models": [model.as_json() for model in left],
        }
        results.finish(summary)
        trackers.finish(summary)
        terminal.summary(summary, results.path)


def _how_it_goes_on(folder: Path) -> str:
    """Say to who has interrupted a run what is left of it."""
    kept = rounds_in(folder / FOLDER)
    if not kept:
        return f"interrupted; {folder} has no checkpoint to go on from (checkpoint-every keeps them)"
    return f"interrupted; to go on after round {kept[-1]}: comdml run --resume {shlex.quote(str(folder))}"


def _new_folder(root: Path, name: str, mode: int) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        path = root / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(mode)
        except FileExistsError:
            continue
        return path
    raise InputError("results-dir", str(root), f"has a thousand folders {name} already")
