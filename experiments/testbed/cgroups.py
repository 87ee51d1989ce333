"""CPU quotas by control groups: version 1 (`cpu.cfs_quota_us`) or 2 (`cpu.max`), which has the controller.

A period is the kernel's own, 100 ms. In a shorter one a small quota is few of the kernel's slices of 5 ms, of
which a part is lost when a program changes its core: 50 ms gave a tenth of a core 12 % too little.

A quota is an upper bound, so the testbed's group also has the largest weight: it goes before other programs
on the machine, and they take what it leaves. Within it, groups weigh as much as they may have. And a quota of
a whole core needs a core of its own: where it shares two, the kernel leaves it 85 %. So a group may be bound
to cores, by its processes' affinity, which needs no further controller.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from comdml_flwr.core.errors import RunError

GROUP = "comdml-testbed"
PERIOD_US = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """Where CPU quotas are set on this machine: version 1 or 2, and the folder of the root group."""

    version: int
    root: Path

    @property
    def group(self) -> Path:
        """The testbed's own group; one below it for each host."""
        return self.root / GROUP

    def __str__(self) -> str:
        """Return the name for people."""
        return f"cgroup v{self.version} ({'cpu.cfs_quota_us' if self.version == 1 else 'cpu.max'})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A control group, and the cores that its processes run on."""

    folder: Path
    cores: frozenset[int]

    def take(self, process: int) -> None:
        """Put a process, and all that it will start, into the group and on its cores."""
        (self.folder / "cgroup.procs").write_text(str(process))
        os.sched_setaffinity(process, self.cores)


def find_hierarchy(mounts: str) -> Hierarchy:
    """Find the CPU controller.

    Parameters
    ----------
    mounts : str
        Text of /proc/self/mounts. A controller that version 1 has is not in version 2.

    Raises
    ------
    RunError
        There is none.
    """
    fields = [line.split() for line in mounts.splitlines()]
    for _, folder, kind, options, *_ in fields:
        if kind == "cgroup" and "cpu" in options.split(","):
            return Hierarchy(version=1, root=Path(folder))
    for _, folder, kind, *_ in fields:
        if kind == "cgroup2" and "cpu" in _words(Path(folder) / "cgroup.controllers"):
            return Hierarchy(version=2, root=Path(folder))
    raise RunError("no cgroup hierarchy with the cpu controller is mounted: no CPU quotas on this machine")


def quota_files(version: int, cpus: float) -> Mapping[str, str]:
    """Return what is written into which file of a group, in order, to give it a number of cores."""
    quota_us = round(cpus * PERIOD_US)
    if version == 1:
        return {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(quota_us)}
    return {"cpu.max": f"{quota_us} {PERIOD_US}"}


def weight_files(version: int, weight: float = 1.0) -> Mapping[str, str]:
    """Return what gives a group a share of the largest weight that there is."""
    if version == 1:
        return {"cpu.shares": str(max(2, round(weight * 262_144)))}
    return {"cpu.weight": str(max(1, round(weight * 10_000)))}


def make_group(
    hierarchy: Hierarchy, name: str, *, cpus: float, cores: Iterable[int], is_bound: bool = True
) -> Group:
    """Make a group below the testbed's own.

    Parameters
    ----------
    hierarchy : Hierarchy
        Of this machine.
    name : str
        The group's.
    cpus : float
        Its quota in cores, and its weight.
    cores : Iterable[int]
        Those that it runs on.
    is_bound : bool
        Whether the quota is a bound; otherwise it is a weight only.

    Raises
    ------
    RunError
        The kernel refuses.
    """
    folder = hierarchy.group / name
    try:
        if hierarchy.version == 2:
            for parent in (hierarchy.root, hierarchy.group):
                parent.mkdir(exist_ok=True)
                (parent / "cgroup.subtree_control").write_text("+cpu")
        folder.mkdir(parents=True)
        _write(hierarchy.group, weight_files(hierarchy.version))
        _write(folder, weight_files(hierarchy.version, min(1.0, cpus)))
        _write(folder, quota_files(hierarchy.version, cpus) if is_bound else {})
    except OSError as error:
        raise RunError(f"{folder}: the kernel refuses a CPU quota: {error.strerror}") from error
    return Group(folder=folder, cores=frozenset(cores))


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for file, text in files.items():
        (folder / file).write_text(text)


def members(folder: Path) -> set[int]:
    """Return the ids of the processes in a group and below it."""
    return {int(word) for file in folder.rglob("cgroup.procs") for word in _words(file)}


def num_throttled(folder: Path) -> int:
    """Return in how many periods a group has used up its quota and had to wait, since it was made."""
    words = _words(folder / "cpu.stat")
    return int(words[words.index("nr_throttled") + 1]) if "nr_throttled" in words else 0


def remove_groups(hierarchy: Hierarchy) -> None:
    """Remove the testbed's groups; nobody may be in them any more."""
    if not hierarchy.group.is_dir():
        return
    for folder in (*(path for path in hierarchy.group.iterdir() if path.is_dir()), hierarchy.group):
        folder.rmdir()


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
