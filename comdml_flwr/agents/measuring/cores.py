"""How many cores this process may use: those that it is bound to, or its control group's quota.

`taskset` and `cpuset` bind a process to cores. A container, a batch system or systemd's CPUQuota gives its
control group a quota of time, in `cpu.max` of version 2 and `cpu.cfs_quota_us` of version 1; of nested groups
the smallest quota counts.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from comdml_flwr.agents.measuring.memory import CGROUP, read_number

OF_THIS_PROCESS = Path("/proc/self/cgroup")


def available_cores() -> float:
    """Return how many cores this process may use; a quota may be less than one."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(float(bound), quota() or float(bound))


def workers_here() -> int:
    """Return how many workers of one thread this process should begin: one for each core, at least one."""
    return max(1, int(available_cores()))


def quota(root: Path = CGROUP, groups: Path = OF_THIS_PROCESS) -> float | None:
    """Return the cores that control groups grant; None where they grant all.

    Parameters
    ----------
    root : Path
        Where control groups are mounted.
    groups : Path
        Which ones a process is in.
    """
    found = [granted for folder in _folders(root, groups) if (granted := _granted(folder)) is not None]
    return min(found, default=None)


def _folders(root: Path, groups: Path) -> Iterator[Path]:
    """Give the folders of the groups and of all that they are nested in."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        lines = []
    tops = {root: "", root / "cpu": ""}  # in a container a group's own folder is often the root
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            tops[root] = path
        elif "cpu" in controllers.split(","):
            tops[root / "cpu"] = path
    for top, path in tops.items():
        folder = top / path.strip("/")
        yield from (folder, *(parent for parent in folder.parents if parent.is_relative_to(top)))


def _granted(folder: Path) -> float | None:
    try:
        granted, period = (folder / "cpu.max").read_text().split()
        return None if granted == "max" else int(granted) / int(period)
    except (OSError, ValueError):
        pass
    quota_us, period_us = (read_number(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return quota_us / period_us if quota_us and period_us and quota_us > 0 else None
