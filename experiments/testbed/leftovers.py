"""What a testbed leaves on the machine, by names with a fixed prefix; finding it and removing it.

Every process of a testbed runs in one of its network namespaces, so `ip netns pids` names them all, children
of children too, and a testbed that was killed can be cleaned up as well as one that ends.
"""

import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from comdml_flwr.core.errors import RunError
from experiments.testbed.cgroups import Hierarchy, members, remove_groups
from experiments.testbed.hosts import PREFIX
from experiments.testbed.processes import output_of

FOLDER_PREFIX = "comdml-testbed-"
_PATIENCE_S = 5.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """Namespaces, processes, control groups and temporary folders of a testbed."""

    namespaces: tuple[str, ...]
    processes: tuple[int, ...]
    groups: tuple[Path, ...]
    folders: tuple[Path, ...]

    def __bool__(self) -> bool:
        """Tell whether anything is left."""
        return bool(self.namespaces or self.processes or self.groups or self.folders)

    def __str__(self) -> str:
        """Return it in one line."""
        named = (
            (f"{len(self.processes)} processes", self.processes),
            (f"namespaces {', '.join(self.namespaces)}", self.namespaces),
            (f"control groups {', '.join(map(str, self.groups))}", self.groups),
            (f"folders {', '.join(map(str, self.folders))}", self.folders),
        )
        return "; ".join(text for text, there in named if there) or "nothing"


def our_namespaces(listed: str) -> tuple[str, ...]:
    r"""Return the testbed's namespaces from what `ip netns list` prints.

    Examples
    --------
    >>> our_namespaces("comdml-tb-net (id: 0)\nvpn\n")
    ('comdml-tb-net',)
    """
    names = (line.split()[0] for line in listed.splitlines() if line.strip())
    return tuple(name for name in names if name.startswith(PREFIX))


def find_leftovers(hierarchy: Hierarchy) -> Leftovers:
    """Look for what is there."""
    namespaces = our_namespaces(output_of(["ip", "netns", "list"]))
    groups = [path for path in (hierarchy.group, *hierarchy.group.glob("*")) if path.is_dir()]
    return Leftovers(
        namespaces=namespaces,
        processes=_processes(namespaces, hierarchy),
        groups=tuple(groups),
        folders=tuple(sorted(Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"))),
    )


def remove_leftovers(hierarchy: Hierarchy) -> Leftovers:
    """End the processes, by their ids, and remove all that is there; return what was found.

    Raises
    ------
    RunError
        Something stays.
    """
    found = find_leftovers(hierarchy)
    for signal_, patience_s in ((signal.SIGTERM, _PATIENCE_S), (signal.SIGKILL, _PATIENCE_S)):
        give_up = time.monotonic() + patience_s
        signalled: set[int] = set()
        while (ids := _processes(found.namespaces, hierarchy)) and time.monotonic() < give_up:
            _signal(set(ids) - signalled, signal_)
            signalled |= set(ids)
            time.sleep(_POLL_S)
    for name in found.namespaces:
        output_of(["ip", "netns", "delete", name])
    with suppress(OSError):
        remove_groups(hierarchy)
    for folder in found.folders:
        shutil.rmtree(folder, ignore_errors=True)
    if still := find_leftovers(hierarchy):
        raise RunError(f"could not remove everything; there is still {still}")
    return found


def _processes(namespaces: Iterable[str], hierarchy: Hierarchy) -> tuple[int, ...]:
    ids = members(hierarchy.group)
    for name in namespaces:
        ids |= set(map(int, output_of(["ip", "netns", "pids", name]).split()))
    return tuple(sorted(ids - {os.getpid()}))


def _signal(ids: Iterable[int], signal_: signal.Signals) -> None:
    for process in ids:
        with suppress(ProcessLookupError):
            os.kill(process, signal_)


def only_one(name: str = "comdml-testbed") -> socket.socket:
    """Hold the machine's one place for a testbed until the socket is closed, or this process ends.

    Parameters
    ----------
    name : str
        Of an abstract socket, which leaves nothing on disk.

    Raises
    ------
    RunError
        Another testbed runs.
    """
    place = socket.socket(socket.AF_UNIX)
    try:
        place.bind(f"\0{name}")
    except OSError:
        place.close()
        raise RunError("another testbed runs on this machine; one at a time") from None
    return place
