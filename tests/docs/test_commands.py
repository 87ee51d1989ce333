"""Every command of the documents is run, here or where its reason says."""

import json
import re
import shlex
import subprocess
import sys
from itertools import groupby

import pytest

from tests.docs.commands import NOT_HERE, ROOT, SLOW, blocks, commands, pages
from tests.programs import known_options, options_of

ALL = commands()
HERE = [command for command in ALL if not command.why_not_here]
QUICK = {
    page: [*of_page]
    for page, of_page in groupby((c for c in HERE if not c.is_slow), key=lambda command: command.page)
}


@pytest.fixture
def here(tmp_path, monkeypatch, forget_apps):
    """A folder in which the commands of a page are typed; it sees the repository's files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    return tmp_path


def matches(prints, output):
    """Tell whether the output has these lines, one after another, where `...` stands for any others."""
    lines = (r"(?:.*\n)*?" if line == "..." else rf"{re.escape(line)}[ ]*\n" for line in prints)
    return re.match("".join(lines), output) is not None


@pytest.mark.parametrize("page", QUICK, ids=lambda page: page.stem)
def test_the_quick_commands_of_a_page_run_and_print_what_it_says(page, comdml, monkeypatch):
    for command in QUICK[page]:
        program, *words = command.words
        if program == "cd":
            monkeypatch.chdir(*words)
            continue
        assert program == "comdml", f"{command.text}: tests/docs/commands.py has no reason not to run it"
        status, output, errors = comdml(*words)
        assert (status, errors) == (0, ""), command.text
        assert matches(command.prints, output), f"{command.text}\n{output}"


@pytest.mark.slow
@pytest.mark.parametrize("text", [command.text for command in HERE if command.is_slow])
def test_the_slow_commands_run(text, here):
    if "fleet=fleet.toml" in text:
        _run("comdml fleet new comdml-100 --output fleet.toml", here)
    _run(text, here)


def _run(text, folder):
    program, *words = shlex.split(text)
    assert program == "comdml"
    code = "from comdml_flwr.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_all_options_exist():
    """Also of the commands that are run elsewhere."""
    for command in ALL:
        if command.words[0] == "comdml":
            assert not options_of(command.words) - known_options(command.words), command.text


@pytest.mark.parametrize("begin", [*NOT_HERE, *SLOW])
def test_the_lists_name_only_commands_that_the_documents_have(begin):
    assert any(command.text.startswith(begin) for command in ALL)


@pytest.mark.parametrize("reason", NOT_HERE.values())
def test_what_runs_them_instead_is_there(reason):
    for name in re.findall(r"[\w.]+/[\w/.]*\w|test_\w+\.py", reason):
        found = [*ROOT.glob(name), *ROOT.glob(f"tests/**/{name}")]
        assert found, f"{reason}: no {name}"


def test_the_readmes_own_model_trains_as_is_said(here, capsys):
    """And the reference has every key of the files that it leaves."""
    (program,) = blocks(ROOT / "README.md", "python")
    assert len([line for line in program.splitlines() if line]) <= 15
    exec(compile(program, "README.md", "exec"), {})
    printed, readme = capsys.readouterr().out, (ROOT / "README.md").read_text()
    (accuracy,) = re.findall(r"test accuracy of ([\d.]+)", readme)
    assert re.search(rf"test accuracy +{accuracy}\d* after 5 rounds", printed)
    assert all("1.88 times as fast" in text for text in (printed, readme))
    (run,) = (here / "results").iterdir()
    written = {path.name for path in run.iterdir()}
    for text in ((run / "summary.json").read_text(), (run / "rounds.jsonl").read_text().splitlines()[0]):
        written |= json.loads(text).keys()
    assert written - keys_in_tables(ROOT / "docs" / "reference" / "results_files.md") == set()


def keys_in_tables(page):
    """Return what stands as code in the first column of a page's tables."""
    cells = re.findall(r"^\| (`[^|]*) \|", page.read_text(), flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([\w.-]+)`", cell)}


def test_the_program_of_simulation_testing_prints_what_is_said(capsys):
    (program,) = blocks(ROOT / "docs" / "development" / "simulation_testing.md", "python")
    exec(compile(program, "simulation_testing.md", "exec"), {})
    assert capsys.readouterr().out == "[]\n"


def test_the_python_of_the_documents_is_python():
    for page in pages():
        for program in blocks(page, "python"):
            compile(program, str(page), "exec")
