"""What this machine has: memory, cores, disk. In a container, what the container may use."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from comdml_flwr.config import RunConfig
from comdml_flwr.doctor.findings import Finding, State
from comdml_flwr.units import human_bytes

CORES = "cores"
FEW_BYTES, TOO_FEW_BYTES = 2e9, 1e8  # of a disk: a run's states and letters take some tens of MB an agent
_CGROUP = Path("/sys/fs/cgroup")


def available_memory_bytes() -> int | None:
    """Return how much memory programs can still take here; None where the system does not tell.

    The least of what the kernel holds to be available (`MemAvailable`) and what a container's control group,
    of version 2 or 1, has left; file pages that have not been used for a while count as left.
    """
    found = [
        _mem_available(),
        _left_in_group(_CGROUP, "memory.max", "memory.current", "inactive_file"),
        _left_in_group(
            _CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        ),
    ]
    return min((num_bytes for num_bytes in found if num_bytes is not None), default=None)


def available_cores() -> float:
    """Return how many cores this process may use: those it is bound to, or its quota if that is less."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(float(bound), _quota() or float(bound))


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


def _mem_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _left_in_group(folder: Path, limit: str, usage: str, file_pages: str) -> int | None:
    most, used = _number(folder / limit), _number(folder / usage)
    if most is None or used is None:
        return None
    try:
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        stat = {}
    return max(0, most - used + int(stat.get(file_pages, 0)))


def _quota() -> float | None:
    """Return the cores that the control group grants; None where it grants all."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    quota_us, period_us = (_number(_CGROUP / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return quota_us / period_us if quota_us and period_us and quota_us > 0 else None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max": no limit
        return None
