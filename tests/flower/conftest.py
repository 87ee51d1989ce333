"""What tests of mail through Flower share."""

import pytest

from comdml_flwr.flower import mail
from comdml_flwr.flower.clientapp import session


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder for temporary files: what a run leaves there shows."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(mail.tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def apart(monkeypatch, temporary):
    """No node sees the run's folder."""
    monkeypatch.setattr(session, "is_shared", lambda folder, token: False)
