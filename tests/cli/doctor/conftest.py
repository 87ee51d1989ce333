"""Where the tests look: an empty working directory, and certificates that a test may spoil."""

import shutil

import pytest

from comdml_flwr.carriers.transport.certificates import make_certificates

DAYS = 30


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("federation")
    make_certificates(folder, range(3), {0: ["127.0.0.1"], 1: ["gpu.lab"]}, days=DAYS)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy of a federation's certificates."""
    copy = tmp_path / "federation"
    shutil.copytree(made, copy)
    return copy


@pytest.fixture(scope="session")
def foreign(tmp_path_factory):
    """The folder of a federation with an authority of its own."""
    folder = tmp_path_factory.mktemp("foreign")
    make_certificates(folder, range(3), {}, days=DAYS)
    return folder
