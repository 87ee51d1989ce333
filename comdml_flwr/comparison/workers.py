"""Where the runs of a comparison are trained: in this process, on this machine's cores, or on a Ray cluster.

A run is one task: it trains in a folder of its own, with one thread, and its result is the bytes of its
files. So a worker needs no shared storage, and whoever trained a run, the bytes are the same but for the
stopwatch. An app of the user's own must lie in the same folder everywhere; that it is the same is checked.

Ray starts its workers in the driver's working directory and looks for packages there first. So that they
train with the very code that the driver runs, this package travels with the job, tasks and arguments are
values of no class of ours, and a task puts the package's copy first on its path before it imports it.
"""

import json
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, redirect_stdout
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol, TypeAlias

from rich.console import Console

from comdml_flwr.comparison.records import APP, FLEET_FILE, SOFTWARE_FILE
from comdml_flwr.comparison.reproduction import software
from comdml_flwr.comparison.schedule import Files, PlannedRun
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.files import write_file
from comdml_flwr.core.strict_json import to_json
from comdml_flwr.core.temporary import temporary_folder
from comdml_flwr.core.user_code import describe_error, show_traceback
from comdml_flwr.core.version import PACKAGE
from comdml_flwr.runs.catalogue import Catalogue
from comdml_flwr.runs.local_run import local_rounds
from comdml_flwr.runs.own_app import load_app
from comdml_flwr.runs.terminal import DIVERGED, Terminal

Outcome: TypeAlias = Files | str
"""A run's files, or in one line why there are none."""

_CONNECT_S = 10.0
LOOK_S = 0.5  # how often the driver asks how far the runs are
_STORE_BYTES = 128 * 2**20  # of Ray's object store: results are small, its default is a third of the memory


class Watcher(Protocol):
    """Hears how the runs go on, in the driver."""

    def run_begins(self, run: PlannedRun) -> None:
        """Hear that a run was given to a worker."""

    def round_ends(self, run: PlannedRun, round_: int) -> None:
        """Hear that a run has finished a round."""

    def run_ends(self, run: PlannedRun, outcome: Outcome) -> None:
        """Hear the outcome of a run."""


def perform_all(
    runs: Sequence[PlannedRun], watcher: Watcher, *, num_workers: int, ray_address: str | None = None
) -> None:
    """Train all runs; one that fails does not stop the others.

    Parameters
    ----------
    runs : Sequence[PlannedRun]
        In the order in which they begin.
    watcher : Watcher
        Hears how they go on, in the thread of the caller.
    num_workers : int
        How many at a time; 1 without an address: in this process, without Ray. 0 with an address: as many as
        the cluster has cores.
    ray_address : str, optional
        A running Ray cluster; by default one is started on this machine and ended.

    Raises
    ------
    InputError
        No Ray cluster answers at the address.
    """
    if ray_address is None:
        num_workers = min(num_workers, len(runs))
    if ray_address is not None or num_workers > 1:
        with redirect_stdout(sys.stderr):  # Ray prints there that a worker died, whatever it was told
            _perform_with_ray(runs, watcher, num_workers, ray_address)
        return
    for run in runs:
        watcher.run_begins(run)
        watcher.run_ends(run, attempt(run, partial(watcher.round_ends, run)))


def check_address(address: str) -> None:
    """Raise InputError if nothing listens at a Ray cluster's address; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # `auto`, or what Ray will say more about
    try:
        socket.create_connection((host, int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise InputError("--ray-address", address, f"no Ray cluster answers there: {error}") from None


def attempt(run: PlannedRun, on_round: Callable[[int], object]) -> Outcome:
    """Train a run in this process; return its files, or in one line why it failed."""
    try:
        return _perform(run, on_round)
    except Exception as error:  # the other runs go on
        show_traceback(error)
        return describe_error(error)


def _perform(run: PlannedRun, on_round: Callable[[int], object]) -> Files:
    with temporary_folder("comdml-run-") as (temporary, _):
        results, fleet = temporary / "results", temporary / FLEET_FILE
        write_file(fleet, run.fleet_text.encode())
        here = {"fleet": str(fleet), "results-dir": str(results), "data-dir": run.data_dir}
        quiet = Terminal(run.num_rounds, Console(quiet=True))
        rounds = local_rounds(
            {**run.config, **here},
            num_agents=run.num_agents,
            catalogue=_catalogue(run),
            terminal=quiet,
            leaves_models=False,
        )
        with closing(rounds):
            for record in rounds:
                on_round(len(record.rounds))
        if record.missing:
            missing = ", ".join(map(str, record.missing))
            raise RunError(f"agents that had failed were gone at the end: {missing}")
        if record.diverged:
            raise RunError(DIVERGED)
        (folder,) = results.iterdir()
        files = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
    config = json.loads(files["config.json"])
    config |= {key: run.config[key] for key in here}
    made_by = {**software(), **({APP: run.app_version} if run.app else {})}
    return {
        **files,
        "config.json": (to_json(config, indent=2) + "\n").encode(),
        FLEET_FILE: run.fleet_text.encode(),
        SOFTWARE_FILE: (to_json(made_by, indent=2) + "\n").encode(),
    }


def _catalogue(run: PlannedRun) -> Catalogue:
    """Return the models and data of a run. Raises RunError where its app is another one here."""
    if not run.app:
        return Catalogue()
    app = load_app(run.app)
    if app.version != run.app_version:
        raise RunError(f"{run.app} is {app.version} here, and should be {run.app_version}")
    return app.catalogue


def _perform_with_ray(
    runs: Sequence[PlannedRun], watcher: Watcher, num_workers: int, address: str | None
) -> None:
    ray = _start_ray(num_workers, address)
    waiting, running = deque(enumerate(runs)), dict[Any, PlannedRun]()
    try:
        task, counter = _remote(ray)
        ticks = counter.remote()
        while waiting or running:
            num_slots = num_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
            while waiting and len(running) < num_slots:
                number, run = waiting.popleft()
                running[task.remote(asdict(run), ticks, number)] = run
                watcher.run_begins(run)
            done, _ = ray.wait(list(running), timeout=LOOK_S)
            for number, round_ in sorted(ray.get(ticks.take.remote()).items()):
                watcher.round_ends(runs[number], round_)
            for reference in done:
                watcher.run_ends(running.pop(reference), _outcome(ray, reference))
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        ray.shutdown()


def _outcome(ray: Any, reference: Any) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:  # the worker died, or its machine did, more than once
        return str(error).strip().partition("\n")[0] or type(error).__name__
    return outcome


def _start_ray(num_workers: int, address: str | None) -> Any:
    """Start Ray on this machine, or connect to a cluster; return the module."""
    # The second is how Ray will soon treat machines with a GPU; said here, it prints no warning.
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
        os.environ.setdefault(name, "0")
    import ray

    package = str(PACKAGE)
    ours = {"num_cpus": num_workers, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
    try:
        ray.init(
            **({"address": "local", **ours} if address is None else {"address": address}),
            runtime_env={"py_modules": [package], "env_vars": {"OMP_NUM_THREADS": "1"}},
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        if address is None:
            raise
        reason = str(error).strip().partition("\n")[0]
        raise InputError("--ray-address", address, f"no Ray cluster to work with: {reason}") from None
    return ray


def _remote(ray: Any) -> tuple[Any, Any]:
    """Return the task that trains a run, and the actor that counts its rounds; both travel as values."""

    def task(run: Mapping[str, Any], ticks: Any, number: int) -> Mapping[str, bytes] | str:
        import os
        import sys

        sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)  # Ray's copy of this package comes first
        from comdml_flwr.comparison.schedule import PlannedRun
        from comdml_flwr.comparison.workers import attempt

        return attempt(PlannedRun(**run), lambda round_: ticks.tell.remote(number, round_))

    class Counter:
        def __init__(self) -> None:
            self._rounds: dict[int, int] = {}

        def tell(self, number: int, round_: int) -> None:
            self._rounds[number] = round_

        def take(self) -> dict[int, int]:
            rounds, self._rounds = self._rounds, {}
            return rounds

    return ray.remote(num_cpus=1)(task), ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Counter)
