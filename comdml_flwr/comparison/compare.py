"""A comparison from its settings to `comparison.json`; stopped and started again, it goes on where it was."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from comdml_flwr.comparison.reproduction import input_files
from comdml_flwr.comparison.schedule import (
    PlannedRun,
    longest_first,
    plan_runs,
    read_done,
    reserve,
    save,
    sweep,
)
from comdml_flwr.comparison.settings import Comparison
from comdml_flwr.comparison.statistics import compare_runs, elapsed
from comdml_flwr.comparison.workers import Outcome, Watcher, check_address, perform_all
from comdml_flwr.core.config import RunConfig, parse_config
from comdml_flwr.core.errors import InputError, RunError, StoppedError
from comdml_flwr.core.files import write_files
from comdml_flwr.core.settings.data import DataSettings
from comdml_flwr.core.strict_json import to_json
from comdml_flwr.core.typed_json import Json
from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.runs.assemble import assemble
from comdml_flwr.runs.catalogue import DATASETS, Catalogue

OUTDATED = ("comparison.json", "elapsed.json", "report.html")  # while a run is missing
SPREADING = frozenset({"partition", "alpha", "classes_per_agent", "shards_per_agent"})
"""Keys that say who has which samples, and not what is loaded (but natural-id reads a column for that)."""
GO_ON = "start the same command again to go on from there"


class ComparisonWatcher(Watcher, Protocol):
    """Hears how a comparison goes on."""

    def comparison_begins(self, num_done: int, missing: Sequence[PlannedRun]) -> None:
        """Hear how many runs are done already, and which are not."""


def compare(
    comparison: Comparison,
    folder: Path,
    watcher: ComparisonWatcher,
    *,
    num_workers: int = 1,
    ray_address: str | None = None,
) -> Mapping[str, Json]:
    """Train what is not done yet, and write the outcome of all runs.

    Parameters
    ----------
    comparison : Comparison
        What is compared.
    folder : Path
        Where everything is written; see records.py.
    watcher : ComparisonWatcher
        Hears how it goes on.
    num_workers, ray_address : int, str
        Where the runs are trained; see `perform_all`.

    Returns
    -------
    Mapping[str, Json]
        What `comparison.json` holds.

    Raises
    ------
    InputError
        What is wrong, before anything is trained.
    RunError
        Runs failed; all others are done.
    StoppedError
        By Ctrl-C; nothing is half-written.
    """
    with reserve(folder):
        sweep(folder)
        runs = plan_runs(comparison)
        missing = longest_first(run for run in runs if read_done(folder, run) is None)
        watcher.comparison_begins(len(runs) - len(missing), missing)
        if missing:
            keeper = _Keeper(folder, watcher)
            try:
                if ray_address is not None:
                    check_address(ray_address)
                _rehearse(missing, comparison.catalogue)
                _remove_outdated(folder)
                perform_all(missing, keeper, num_workers=num_workers, ray_address=ray_address)
            except KeyboardInterrupt:
                raise StoppedError(f"interrupted: {_how_many(folder, runs)} are done; {GO_ON}") from None
        return _finish(comparison, folder, runs)


class _Keeper:
    """Writes down every finished run, and passes on what it hears."""

    def __init__(self, folder: Path, watcher: Watcher) -> None:
        self._folder, self._watcher = folder, watcher
        self.run_begins, self.round_ends = watcher.run_begins, watcher.round_ends

    def run_ends(self, run: PlannedRun, outcome: Outcome) -> None:
        if not isinstance(outcome, str):
            save(self._folder, run, outcome)
        self._watcher.run_ends(run, outcome)


def _rehearse(missing: Sequence[PlannedRun], known: Catalogue) -> None:
    """Put each case and method together once: what no table shows, as a missing data set, is found now."""
    catalogue = replace(known, datasets={**dict.fromkeys(DATASETS, _load), **known.datasets})
    for run in {(run.case, run.label): run for run in missing}.values():
        config = parse_config({**run.config, "data-dir": run.data_dir})
        try:
            assemble(config, parse_fleet(run.fleet_text, config.fleet), run.num_agents, catalogue)
        except InputError as error:
            raise InputError(f"{run.case}: {run.label}: {error.what}", error.value, error.rule) from None
    _load_once.cache_clear()


def _load(config: RunConfig) -> Dataset:
    spreads = SPREADING - ({"partition"} if config.partition == "natural-id" else set())
    return _load_once(RunConfig(**config.model_dump(include=set(DataSettings.model_fields) - spreads)))


@lru_cache(maxsize=1)
def _load_once(config: RunConfig) -> Dataset:
    return Catalogue().loader(config.dataset)(config)


def _remove_outdated(folder: Path) -> None:
    for name in OUTDATED:
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"{folder / name}: cannot be removed: {error.strerror}") from None


def _how_many(folder: Path, runs: Sequence[PlannedRun]) -> str:
    num_done = sum(read_done(folder, run) is not None for run in runs)
    return f"{num_done} of {len(runs)} runs"


def _finish(comparison: Comparison, folder: Path, runs: Sequence[PlannedRun]) -> Mapping[str, Json]:
    """Write the outcome of all runs, if all are there."""
    done = [files for run in runs if (files := read_done(folder, run)) is not None]
    if len(done) < len(runs):
        raise RunError(f"{_how_many(folder, runs)} are done, comparison.json needs all; {GO_ON}")
    result = compare_runs(comparison, done)
    made, numbers = input_files(comparison), {"elapsed.json": elapsed(done), "comparison.json": result}
    for name, value in numbers.items():
        made[name] = (to_json(value, indent=2, ensure_ascii=False) + "\n").encode()
    try:
        write_files({folder / name: content for name, content in made.items()})
    except OSError as error:
        raise RunError(f"{folder}: comparison.json cannot be written: {error.strerror}; {GO_ON}") from None
    return result
