"""Flower's own engine for tests: a local SuperLink with ports and a home of its own, ended by process id."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class Engine:
    """`flwr` commands with a SuperLink of their own, which the first run starts.

    `python` is that of the environment whose commands they are, `environment` what else they are told;
    `patience_s` is how long a command may take.
    """

    home: Path
    python: Path = Path(sys.executable)
    environment: Mapping[str, str] = field(default_factory=dict)
    http_port: int = field(default_factory=free_port)
    control_port: int = field(default_factory=free_port)
    patience_s: float = 240

    def flwr(self, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a `flwr` command to its end."""
        environment = {
            **os.environ,
            "PATH": f"{self.python.parent}:{os.environ['PATH']}",
            "FLWR_HOME": str(self.home),
            "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(self.http_port),
            "FLWR_LOCAL_CONTROL_API_PORT": str(self.control_port),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            **self.environment,
        }
        program = shutil.which("flwr", path=str(self.python.parent)) or "flwr"
        return subprocess.run(
            [program, *words],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=self.patience_s,
            check=False,
        )

    def run(self, app: Path, run_config: str, *, num_supernodes: int, num_actors: int) -> str:
        """Run an app from its folder and return the log."""
        federation = (
            f"num-supernodes={num_supernodes} client-resources-num-cpus=1 init-args-num-cpus={num_actors}"
        )
        words = ("run", ".", "--stream", "--federation-config", federation, "--run-config", run_config)
        done = self.flwr(*words, cwd=app)
        return done.stderr + done.stdout  # what `flwr` itself says comes before the run's log

    def last_status(self) -> str:
        """Return the status of the newest run, such as "finished:failed"."""
        listed = json.loads(self.flwr("list", "--format", "json", cwd=self.home.parent).stdout)
        return str(max(listed["runs"], key=lambda run: run["pending-at"])["status"])

    def stop(self) -> None:
        """End the SuperLink and what it started."""
        for process in _processes():
            if str(self.http_port) in process.words and "flower-" in process.words:
                os.kill(process.id, signal.SIGTERM)
        time.sleep(0.5)


@dataclass(frozen=True)
class _Process:
    id: int
    words: str


def _processes() -> list[_Process]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        found.append(_Process(int(folder.name), words))
    return found


def copy_of_checkout(folder: Path) -> Path:
    """Copy what makes up the app to another folder, as a second checkout would be."""
    folder.mkdir(parents=True)
    for name in ("comdml_flwr", "clients", "strategies", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder
