"""How much memory programs can still take on this machine; in a container, in the container."""

from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_memory_bytes() -> int | None:
    """Return how much memory programs can still take here; None where the system does not tell.

    The least of what the kernel holds to be available (`MemAvailable`) and what a container's control group,
    of version 2 or 1, has left; file pages that have not been used for a while count as left.
    """
    found = [
        _mem_available(),
        _left_in_group(CGROUP, "memory.max", "memory.current", "inactive_file"),
        _left_in_group(
            CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        ),
    ]
    return min((num_bytes for num_bytes in found if num_bytes is not None), default=None)


def _mem_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _left_in_group(folder: Path, limit: str, usage: str, file_pages: str) -> int | None:
    most, used = read_number(folder / limit), read_number(folder / usage)
    if most is None or used is None:
        return None
    try:
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        stat = {}
    return max(0, most - used + int(stat.get(file_pages, 0)))


def read_number(path: Path) -> int | None:
    """Return the number in a file of the kernel's; None where there is none, as where nothing is limited."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
