"""The program of the guide to one's own task runs as it stands, and its metric gets better."""

import contextlib
import io
import re

from tests.docs.commands import ROOT

GUIDE = ROOT / "docs" / "guides" / "own_task.md"


def test_the_program_runs(tmp_path, monkeypatch):
    (program,) = re.findall(r"<!-- run -->\n```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    found = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(program, str(GUIDE), "exec"), found)
    record = found["record"]
    assert printed.getvalue().splitlines()[-1] == f"mae {record.last.score}"
    assert record.last.score < record.rounds[0].score


def test_the_tasks_are_called_so_and_have_these_metrics():
    import comdml_flwr

    rows = re.findall(r"^\| `(\w+)\((\w+)=\w\)` \|.*?\|.*?\| `(\w+)`", GUIDE.read_text(), flags=re.MULTILINE)
    assert len(rows) == 5
    for name, key, metric in rows:
        assert getattr(comdml_flwr, name)(**{key: 3}).metrics.primary == metric
