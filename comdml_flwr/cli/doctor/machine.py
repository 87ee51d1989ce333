"""What this machine has: cores and disk. In a container, what the container may use."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from comdml_flwr.agents.measuring.cores import available_cores
from comdml_flwr.cli.doctor.findings import Finding, State
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.units import human_bytes

CORES = "cores"
FEW_BYTES, TOO_FEW_BYTES = 2e9, 1e8  # of a disk: a run's states and mail take some tens of MB an agent


def check_cores(config: RunConfig, cores: float | None = None) -> Finding:
    """Compare the threads of an agent with the cores that it may use.

    Parameters
    ----------
    config : RunConfig
        Has `threads-per-agent`.
    cores : float, optional
        By default those of this machine.
    """
    cores = available_cores() if cores is None else cores
    says = f"{cores:g} for threads-per-agent = {config.threads_per_agent}"
    facts = {"cores": cores, "threads_per_agent": config.threads_per_agent}
    if config.threads_per_agent > max(1, cores):
        mend = f"threads-per-agent = {max(1, int(cores))}, on all machines: another number, other bits"
        return Finding(CORES, "warning", f"{says}: more threads than cores wait for each other", mend, facts)
    return Finding(CORES, "ok", says, facts=facts)


def check_disks(config: RunConfig) -> Iterator[Finding]:
    """Look whether results and what a node keeps of a run have a place."""
    for name, folder, mend in (
        ("results-dir", config.results_dir, "--set results-dir=FOLDER"),
        ("temp folder", tempfile.gettempdir(), "TMPDIR=FOLDER in the environment of the SuperNode"),
    ):
        path = _first_there(Path(folder).expanduser().absolute())
        num_bytes = shutil.disk_usage(path).free
        facts, says = {"free_bytes": num_bytes}, f"{human_bytes(num_bytes)} free in {path}"
        if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
            yield Finding(name, "wrong", f"{path} is no folder that one may write in", mend, facts)
        elif num_bytes < FEW_BYTES:
            state: State = "wrong" if num_bytes < TOO_FEW_BYTES else "warning"
            yield Finding(name, state, says, f"make room, or {mend}", facts)
        else:
            yield Finding(name, "ok", says, facts=facts)


def _first_there(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
