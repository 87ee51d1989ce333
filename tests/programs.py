"""What the programs that our documents and containers name can be told: the options that they know."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import click
from typer.main import get_command

from comdml_flwr.cli.main import app

_OPTION = re.compile(r"(?<![\w-])--[a-z0-9][a-z0-9-]*")
_SUBCOMMANDS = {"flwr": 1, "flwr supernode": 2, "flower-superlink": 0, "flower-supernode": 0}


def words_of(shell: str) -> list[list[str]]:
    """Return the commands of a shell text that are a line each, without here-documents."""
    without_documents = re.sub(r"<<'?END'?\n.*?\nEND\n", "\n", shell, flags=re.DOTALL)
    return [shlex.split(line, comments=True) for line in without_documents.splitlines() if line.strip()]


def options_of(words: Sequence[str]) -> set[str]:
    """Return the options among a command's words, without their values."""
    return {word.split("=")[0] for word in words if word.startswith("--") and len(word) > 2}


def known_options(words: Sequence[str]) -> frozenset[str]:
    """Return the options that a command's program knows; none where it is not ours or Flower's."""
    program = words[0]
    if program == "comdml":
        return _options_of_comdml(words[1:])
    if program not in _SUBCOMMANDS:
        return frozenset()
    depth = _SUBCOMMANDS.get(" ".join(words[:2]), _SUBCOMMANDS[program])
    return _options_in_help(program, tuple(words[1 : 1 + depth]))


@lru_cache
def _options_in_help(program: str, subcommand: tuple[str, ...]) -> frozenset[str]:
    path = shutil.which(program, path=str(Path(sys.executable).parent)) or program
    done = subprocess.run(
        [path, *subcommand, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    return frozenset(_OPTION.findall(done.stdout))


def _options_of_comdml(words: Sequence[str]) -> frozenset[str]:
    command: click.Command = get_command(app)
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    return frozenset(option for parameter in command.params for option in parameter.opts) | {"--help"}
