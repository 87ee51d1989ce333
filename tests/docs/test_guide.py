"""The guide for three machines: its commands parse, name what exists, and work, typed as they stand.

Before each block of the guide stands a comment that says on which machines it is typed, and whether it stays
in its terminal. Here the machines are three home folders and three addresses of the loopback interface.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.flower.engine import ROOT, free_port
from tests.programs import known_options, options_of, words_of

GUIDE = ROOT / "docs" / "guides" / "three_machines.md"
_BLOCK = re.compile(r"<!-- on ([\d ]+)(, stays)? -->\n```bash\n(.*?)```", re.DOTALL)
_SCP = (
    '#!/bin/sh\n# scp [-r] FILE 10.0.0.N:PATH\nfor last; do :; done\nto=${last%%:*}\n[ "$1" = -r ] && shift\n'
)
_COMDML = '#!/bin/sh\nexec "{python}" -c "from comdml_flwr.cli.main import main; main()" "$@"\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Commands of the guide: what is typed, on which machines, and whether it stays in its terminal."""

    machines: tuple[int, ...]
    stays: bool
    text: str


def blocks() -> list[Block]:
    return [
        Block(machines=tuple(map(int, machines.split())), stays=bool(stays), text=text)
        for machines, stays, text in _BLOCK.findall(GUIDE.read_text())
    ]


def test_every_block_says_where_it_is_typed():
    assert len(blocks()) == GUIDE.read_text().count("```bash\n") > 10


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.text.split("\n")[0][:40])
def test_the_commands_parse(block):
    done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_options_exist():
    commands = [words for block in blocks() for words in words_of(block.text) if known_options(words)]
    assert len(commands) > 10
    for words in commands:
        assert not options_of(words) - known_options(words), words


def test_the_links_lead_to_files():
    links = re.findall(r"\]\(([^)#]+)", GUIDE.read_text())
    assert links
    for link in links:
        assert (GUIDE.parent / link).exists(), link


@dataclass(slots=True)
class Machines:
    """Three home folders, and what runs in their terminals."""

    folder: Path
    changes: Mapping[str, str]
    running: list[subprocess.Popen[bytes]]

    def home(self, machine: int) -> Path:
        return self.folder / f"10.0.0.{machine}"

    def type(self, block: Block, machine: int) -> None:
        """Type a block, and wait for its end unless it stays."""
        text = block.text
        for what, instead in self.changes.items():
            text = text.replace(what, instead)
        if "flower-supernode" in text:  # as if each machine had a loopback interface of its own
            text = text.replace("flower-supernode", f"flower-supernode --port {free_port()}")
        log = self.folder / f"{machine}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["bash", "-e", "-c", text],
                cwd=self.home(machine) / "federation",
                env=self._environment(machine),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if block.stays:
            self.running.append(process)
            self._wait_until_it_listens(text, process, log)
        else:
            assert process.wait(400) == 0, f"{text}\n{log.read_text()[-4000:]}"

    def end(self, how_many: int) -> None:
        """End the last that were started and stay, as Ctrl-C does."""
        for _ in range(how_many):
            process = self.running.pop()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
                process.wait(30)

    def _wait_until_it_listens(self, text: str, process: subprocess.Popen[bytes], log: Path) -> None:
        if "flower-supernode" in text:
            return
        own = re.search(r"--agent (\d)", text)
        host, port = ("127.0.0.1", self.changes["8000"])
        if own:
            host, port = f"127.0.0.{int(own[1]) + 1}", self.changes["9500"]
        give_up = time.monotonic() + 60
        while True:
            assert process.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < give_up, log.read_text()[-4000:]
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    return
            time.sleep(0.2)

    def _environment(self, machine: int) -> dict[str, str]:
        programs = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        ours = {"HOME": str(self.home(machine)), "PATH": programs, "PYTHONPATH": str(ROOT)}
        quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
        return {**{k: v for k, v in os.environ.items() if k != "FLWR_HOME"}, **ours, **quiet}


@contextmanager
def three_machines(folder: Path) -> Iterator[Machines]:
    """Make home folders, `comdml` of this checkout, and an `scp` that copies from one home to another."""
    programs = folder / "bin"
    programs.mkdir()
    scp = f'{_SCP}cp -R "$1" "{folder}/$to/${{last#*:}}"\n'
    for name, text in (("scp", scp), ("comdml", _COMDML.format(python=sys.executable))):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    changes = {f"10.0.0.{machine}": f"127.0.0.{machine}" for machine in (1, 2, 3)}
    machines = Machines(folder, {**changes, "8000": str(free_port()), "9500": str(free_port())}, [])
    for machine in (1, 2, 3):
        home = machines.home(machine)
        (home / "federation").mkdir(parents=True, mode=0o700)
        (home / "comdml-flwr").symlink_to(ROOT)
        (folder / f"127.0.0.{machine}").symlink_to(home)
    try:
        yield machines
    finally:
        machines.end(len(machines.running))


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or not all(map(shutil.which, ("openssl", "ssh-keygen"))),
    reason="needs 127.0.0.2, openssl and ssh-keygen",
)
def test_the_guide_leads_to_a_run_with_the_weights_of_a_local_one(tmp_path):
    with three_machines(tmp_path) as machines:
        after_install = blocks()[1:]  # the first would make a virtual environment
        for block in after_install:
            for machine in block.machines:
                machines.type(block, machine)
            if "comdml doctor" in block.text and not block.stays:
                machines.end(2)  # the two that listened
        federation = machines.home(1) / "federation"
        (summary,) = federation.glob("results/*/summary.json")
        local = "comdml run --num-agents 3 --set fleet=fleet.toml --set num-rounds=3 --set results-dir=local"
        machines.type(Block(machines=(1,), stays=False, text=local), 1)
        (expected,) = federation.glob("local/*/summary.json")
    found, wanted = (json.loads(path.read_text()) for path in (summary, expected))
    assert (found["carrier"], found["num_agents"], found["num_rounds"]) == ("direct", 3, 3)
    assert found["weights_sha256"] == wanted["weights_sha256"]
