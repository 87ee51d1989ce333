"""What dead runs have left in nodes' own folders, keys among it: removed when the next run begins.

A node handles each message in a new process, so no lock tells whether a run goes on. It is over

* if the ServerApp of the new run says so: it has found the folder of a ServerApp that was killed;
* if the process that has the node's messages handled, Flower's SuperExec, is not there any more, as both die
  with the SuperNode;
* after a week without a message.
"""

import os
import shutil
import socket
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from comdml_flwr.core.files import write_file
from comdml_flwr.flower.mail import TOKEN, node_place

OWNER, UNKNOWN = "owner", "-"
LONGEST_PAUSE_S = 7 * 86_400.0


def note_message(folder: Path) -> None:
    """Note in a node's own folder that a message is handled, and who has it handled."""
    owner = f"{_machine()} {os.getppid()} {_began(os.getppid())}"
    with suppress(OSError):  # there is no folder before the run begins, and after it is over
        os.utime(folder)
        if _read(folder / OWNER) != owner:
            write_file(folder / OWNER, owner.encode())


def remove_leftovers(tokens_of_dead: Collection[str]) -> None:
    """Remove the own folders of runs that are over."""
    for folder in node_place().glob("*-*"):
        with suppress(OSError):
            is_old = time.time() - folder.stat().st_mtime > LONGEST_PAUSE_S
            if is_old or _read(folder / TOKEN) in tokens_of_dead or _is_orphan(_read(folder / OWNER)):
                shutil.rmtree(folder, ignore_errors=True)


def _is_orphan(owner: str) -> bool:
    """Tell whether the process that had the messages handled has ended, as far as that is seen from here."""
    if not owner.startswith(f"{socket.gethostname()} "):  # shared storage, and another machine's
        return False
    _, boot, namespace, process, began = owner.split(" ")
    _, own_boot, own_namespace = _machine().split(" ")
    if boot == own_boot and namespace == own_namespace:
        return _began(int(process)) != began
    return boot != own_boot and UNKNOWN not in (boot, own_boot)


def _machine() -> str:
    """Return what processes must have in common to know each other by their numbers."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    try:
        return f"{socket.gethostname()} {boot.read_text().strip()} {namespace.readlink()}"
    except OSError:
        return f"{socket.gethostname()} {UNKNOWN} {UNKNOWN}"


def _began(process: int) -> str:
    """Return when a process began, which tells it from a later one of its number."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return UNKNOWN


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
