"""A testbed's life: made, used, and removed whatever happens in between."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from comdml_flwr.planning.types import SERVER
from experiments.testbed.cgroups import Group, Hierarchy, make_group
from experiments.testbed.hosts import RESERVED_CPUS, Host, cores_of
from experiments.testbed.leftovers import FOLDER_PREFIX, only_one, remove_leftovers
from experiments.testbed.network import network_commands
from experiments.testbed.processes import run_commands

_Handler = signal.Handlers | Callable[[int, FrameType | None], None]


@contextmanager
def living_hosts(hosts: Sequence[Host], hierarchy: Hierarchy) -> Iterator[tuple[dict[int, Group], Path]]:
    """Make the hosts; remove everything at the end, also after Ctrl-C, SIGTERM, SIGHUP or a failure.

    What a testbed that was killed has left is removed first.

    Yields
    ------
    tuple[dict[int, Group], Path]
        Control group of each host, by agent, and of the SuperLink; and a temporary folder.

    Raises
    ------
    RunError
        Another testbed runs, or the kernel refuses something.
    """
    with only_one(), ExitStack() as stack:
        if found := remove_leftovers(hierarchy):
            print(f"removed what an earlier testbed left: {found}")
        stack.enter_context(_signals(signal.SIGTERM, signal.SIGHUP, handler=_interrupt))
        stack.callback(_remove_undisturbed, hierarchy)
        cores = cores_of(hosts, sorted(os.sched_getaffinity(0)))
        groups = {
            host.agent: make_group(hierarchy, f"host-{host.agent}", cpus=host.cpus, cores=cores[host.agent])
            for host in hosts
        }
        groups[SERVER] = make_group(
            hierarchy, "superlink", cpus=RESERVED_CPUS, cores=cores[SERVER], is_bound=False
        )
        run_commands(network_commands(hosts))
        yield groups, Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _remove_undisturbed(hierarchy: Hierarchy) -> None:
    """Remove everything; a second Ctrl-C does not stop it half-way."""
    with _signals(signal.SIGTERM, signal.SIGHUP, signal.SIGINT, handler=signal.SIG_IGN):
        remove_leftovers(hierarchy)


@contextmanager
def _signals(*numbers: signal.Signals, handler: _Handler) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
