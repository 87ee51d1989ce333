"""The runs of a comparison: which there are, which are done, and how a finished one gets its folder.

A run is done if its folder holds what would be run now: the same configuration, number of agents, fleet and,
of an app of the user's own, code.
So a comparison that was stopped goes on where it was, and a changed one runs again what the change concerns.
A folder appears whole or not at all: it is written beside its place, on disk, and renamed.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import TypeAlias

from comdml_flwr.comparison.records import (
    APP,
    FLEET_FILE,
    SOFTWARE_FILE,
    RunFiles,
    read_json,
    read_run,
    read_text,
    run_folder,
)
from comdml_flwr.comparison.settings import Comparison
from comdml_flwr.comparison.tables import Keys
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.files import write_file

Files: TypeAlias = Mapping[str, bytes]
"""Names and contents of a run's files."""

_PARTIAL, _OLD = ".partial", ".old"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """All that a worker needs to know of a run, wherever it is: plain values and no paths but one.

    Parameters
    ----------
    case, label : str
        What it belongs to.
    seed : int
        Of the run.
    num_agents : int
        How many agents of the fleet take part.
    config : Mapping[str, Scalar]
        What its `config.json` will say.
    fleet_text : str
        The fleet file in full.
    data_dir : str
        Where the data set's files are, on every machine.
    app, app_version : str
        Folder of the user's own app, on every machine, and which app it is; empty where there is none.
    """

    case: str
    label: str
    seed: int
    num_agents: int
    config: Keys
    fleet_text: str
    data_dir: str
    app: str = ""
    app_version: str = ""

    def __str__(self) -> str:
        return f"{self.case}: {self.label}, seed {self.seed}"

    @property
    def num_rounds(self) -> int:
        """Rounds of the run."""
        return int(self.config["num-rounds"])


def plan_runs(comparison: Comparison) -> tuple[PlannedRun, ...]:
    """Return the runs of a comparison: by case, method and seed, in the file's order."""
    app = comparison.app
    version = app.version if app else ""
    return tuple(
        PlannedRun(
            case=case.label,
            label=method.label,
            seed=seed,
            num_agents=case.num_agents,
            config=config.with_defaults_named(),
            fleet_text=case.fleet_text,
            data_dir=str(Path(config.data_dir).absolute()),
            app=str(app.folder.path) if app else "",
            app_version=version,
        )
        for case in comparison.cases
        for method in comparison.methods
        for seed in comparison.seeds
        for config in [comparison.config(case, method, seed)]
    )


def longest_first(runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Return the runs in a good order to begin them, so that no long one is left for the end.

    A round costs what the data set does, whoever has it, and something for every agent and its mail.
    """

    def work(run: PlannedRun) -> float:
        return run.num_rounds * float(run.config["local-epochs"]) * run.num_agents

    return sorted(runs, key=work, reverse=True)


def read_done(folder: Path, run: PlannedRun) -> RunFiles | None:
    """Return the files of a run if it is done as it would be run now; else None."""
    try:
        files = read_run(folder, run.case, run.label, run.seed)
        place = run_folder(folder, run.case, run.label, run.seed)
        fleet_text, app_version = read_text(place / FLEET_FILE), _app_version(place)
    except InputError:
        return None  # somebody took files out of the folder: it is run again
    if files is None or files.config != run.config or fleet_text != run.fleet_text:
        return None
    if app_version != run.app_version:
        return None
    return files if files.summary.get("num_agents") == run.num_agents else None


def _app_version(place: Path) -> str:
    """Return which app of the user's own a run was of; empty where it was of none."""
    path = place / SOFTWARE_FILE
    return str(read_json(path).get(APP, "")) if path.exists() else ""


def save(folder: Path, run: PlannedRun, files: Files) -> None:
    """Write a finished run's folder, in place of an older one.

    Raises
    ------
    RunError
        It cannot be written.
    """
    place = run_folder(folder, run.case, run.label, run.seed)
    partial, old = (place.with_name(f".{place.name}{end}") for end in (_PARTIAL, _OLD))
    try:
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
        for name, content in sorted(files.items()):
            write_file(partial / name, content, sync=True)
        if place.exists():
            place.rename(old)
        partial.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise RunError(f"{place}: the run's files cannot be written: {error.strerror or error}") from None


def sweep(folder: Path) -> None:
    """Remove what a killed comparison left half-written."""
    for end in (_PARTIAL, _OLD):
        for leftover in folder.glob(f"runs/*/*/.seed-*{end}"):
            shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def reserve(folder: Path) -> Iterator[None]:
    """Make a comparison's folder and keep other comparisons out of it.

    Raises
    ------
    InputError
        It cannot be made, or another comparison is at work in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(
            "--output", str(folder), f"must be a folder to write in ({error.strerror})"
        ) from None
    try:
        _lock(handle, folder)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        flock(handle, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        raise InputError("--output", str(folder), "another comparison is writing there now") from None
    except OSError:
        pass  # some network file systems lock no folders
