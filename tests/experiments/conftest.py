"""Experiments as a user runs them, in this process."""

import sys

import pytest

from experiments import command


@pytest.fixture
def experiment(monkeypatch, capsys):
    """Run an experiment's `main`; returns exit status, standard output and standard error."""

    def run(main, *words):
        monkeypatch.setattr(sys, "argv", ["experiment", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            command.run(main)
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run
