"""Programs in a namespace and, of a host, in its quota; none of them hears of the terminal's Ctrl-C."""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from comdml_flwr.core.errors import RunError
from experiments.testbed.cgroups import Group

ROOT = Path(__file__).resolve().parent.parent.parent
Process = subprocess.Popen[str]


def run_commands(commands: Iterable[Sequence[str]]) -> None:
    """Run commands one after the other.

    Raises
    ------
    RunError
        One failed: its words and its reason.
    """
    for words in commands:
        output_of(words)


def output_of(words: Sequence[str]) -> str:
    """Run one command and return what it printed; RunError as `run_commands` does."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RunError(f"{words[0]}: {error.strerror}") from error
    if done.returncode:
        raise RunError(f"`{' '.join(words)}` failed: {' '.join(done.stderr.split())}")
    return done.stdout


def program(name: str) -> str:
    """Return the path of a program of this Python's environment."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise RunError(f"{path} is not there: this environment has no Flower")
    return str(path)


def start(
    namespace: str,
    words: Sequence[str],
    *,
    log: Path | None = None,
    group: Group | None = None,
    hidden: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> Process:
    """Start a program in a namespace.

    Parameters
    ----------
    namespace : str
        Name of the network namespace.
    words : Sequence[str]
        Program and arguments.
    log : Path, optional
        Where its output goes; without it, standard input and output are pipes.
    group : Group, optional
        Its control group and cores.
    hidden : Path, optional
        A folder that it sees as an empty one of its own, in memory.
    variables : Mapping[str, str], optional
        Added to the environment.
    """
    hide = ["sh", "-c", 'mount -t tmpfs tmpfs "$0" && exec "$@"', str(hidden)] if hidden else []
    ours = {"PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"}
    ours |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **(variables or {})}
    output = log.open("ab") if log is not None else subprocess.PIPE
    process = subprocess.Popen(
        ["ip", "netns", "exec", namespace, *hide, *words],
        stdin=subprocess.DEVNULL if log is not None else subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT if log is not None else subprocess.PIPE,
        env={**os.environ, **ours},
        cwd="/",
        text=True,
        start_new_session=True,
    )
    if group is not None:
        group.take(process.pid)
    return process


def last_line(log: Path) -> str:
    """Return the last line of a log that says something."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "nothing in its log"


def listens(tcp_table: str, port: int) -> bool:
    """Tell whether somebody listens on a port, from the text of /proc/PID/net/tcp."""
    rows = (line.split() for line in tcp_table.splitlines()[1:])
    return any(row[3] == "0A" and int(row[1].rsplit(":", 1)[1], 16) == port for row in rows)
