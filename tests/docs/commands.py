"""The commands that README, CONTRIBUTING and docs show in blocks of their own."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "guides" / "three_machines.md"  # tests/docs/test_guide.py types it

# Commands that begin like this are not run by tests/docs; the reason says why, and what runs them instead.
NOT_HERE = {
    "pip install": "installs packages: .ci/run does it in a fresh environment, for the tests and the site",
    "flwr run": "starts Flower's engine: tests/flower/test_flwr_run.py and test_own_apps.py",
    "pytest": "is this",
    "ruff": ".ci/run",
    "mypy": ".ci/run",
    "mkdocs": ".ci/run",
    "flower-supernode": "needs a SuperLink: tests/flower/test_deployment.py",
    "comdml doctor --certificates": "needs other machines: tests/docs/test_guide.py",
    "comdml doctor --app my-app --node-config": "needs a node's folder: tests/cli/test_own_app.py",
    "sudo": "needs root: tests/experiments/testbed",
    "comdml run --set num-rounds=200": "takes minutes: tests/runs/test_resuming.py with fewer rounds",
    "comdml run --resume": "needs that run: tests/runs/test_resuming.py",
    "python -m tests.carriers.replay": "tests/carriers/test_histories.py",
    "ssh-keygen": "not ours: tests/docs/test_guide.py",
    "openssl x509": "not ours, and as tests/carriers/transport/test_tls.py reads its lines",
}

# These take more than a second or two.
SLOW = (
    "comdml run --set device=auto",
    "comdml run --set num-rounds=3",
    "comdml run --set num-rounds=1",
    "comdml run --dry-run",
    "comdml compare",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command, and what the page says that it prints.

    Parameters
    ----------
    page : Path
        Where it stands.
    text : str
        What is typed, in one line.
    prints : tuple[str, ...]
        Lines of its output, where a line `...` stands for any number of others; empty: the page does not say.
    """

    page: Path
    text: str
    prints: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """The words as a shell parts them."""
        return shlex.split(self.text, comments=True)

    @property
    def why_not_here(self) -> str | None:
        """Why tests/docs does not run it; None if it does."""
        return next((reason for begin, reason in NOT_HERE.items() if self.text.startswith(begin)), None)

    @property
    def is_slow(self) -> bool:
        """Whether it is run by `pytest -m slow` only."""
        return self.text.startswith(SLOW)


def pages() -> list[Path]:
    """Return README, CONTRIBUTING, CHANGELOG and all pages of docs."""
    named = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [*named, *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the texts of a page's fenced blocks of these languages, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language in languages]


def commands() -> list[Command]:
    """Return all commands, page by page, in the order in which they are typed."""
    return [command for page in pages() if page != GUIDE for command in _commands_of(page)]


def _commands_of(page: Path) -> Iterator[Command]:
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"\s&&\s", line.partition("  #")[0]):
                if part.strip():
                    yield Command(page=page, text=part.strip())
    for session in blocks(page, "console"):
        for entered in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
            typed, *printed = entered.splitlines()
            yield Command(page=page, text=typed, prints=tuple(printed))
