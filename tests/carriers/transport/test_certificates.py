"""`comdml certificates` as a user meets it."""

import datetime
import stat

import pytest
from cryptography import x509

from comdml_flwr.carriers.transport.credentials import load_credentials
from comdml_flwr.core.errors import InputError


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_makes_what_the_transport_reads_and_says_what_to_put_where(comdml, here):
    status, printed, _ = comdml("certificates", "fed", "--agents", "0,2-3", "--hosts", "0=gpu.lab,10.0.0.1")
    assert status == 0
    for agent in (0, 2, 3):
        load_credentials(here / "fed" / f"agent-{agent}", agent)
        assert f"fed/agent-{agent}: copy it to the machine of agent {agent}" in printed
    assert "fed/ca.key: keep it to yourself" in printed
    assert sorted(path.name for path in (here / "fed").iterdir()) == [
        "agent-0", "agent-2", "agent-3", "ca.crt", "ca.key",
    ]  # fmt: skip


def test_keys_are_for_their_owner_only_and_the_authoritys_stays(comdml, here):
    comdml("certificates", "fed", "--agents", "0")
    for key in (here / "fed" / "ca.key", here / "fed" / "agent-0" / "agent.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.chmod(0o640)
    with pytest.raises(InputError, match=r"others may read .*agent.key \(mode 0640\), .*: chmod 600 "):
        load_credentials(key.parent, 0)
    assert not (here / "fed" / "agent-0" / "ca.key").exists()


def test_a_certificate_names_its_agent_and_hosts_for_as_long_as_asked(comdml, here):
    comdml("certificates", "fed", "--agents", "7", "--hosts", "7=gpu.lab,10.0.0.1", "--days", "30")
    found = x509.load_pem_x509_certificate((here / "fed" / "agent-7" / "agent.crt").read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == [
        "comdml://agent/7", "agent-7.comdml.internal", "gpu.lab", "10.0.0.1",
    ]  # fmt: skip
    left = found.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=29) < left <= datetime.timedelta(days=30)


def test_nothing_is_overwritten_and_newcomers_get_the_same_authority(comdml, here):
    comdml("certificates", "fed", "--agents", "0,1")
    before = snapshot(here / "fed")
    status, _, line = comdml("certificates", "fed", "--agents", "2,1")
    assert (status, line) == (2, "comdml: --agents = 'agent-1': is in fed already; nothing is overwritten\n")
    assert snapshot(here / "fed") == before
    assert comdml("certificates", "fed", "--agents", "2")[0] == 0
    after = snapshot(here / "fed")
    assert before.items() <= after.items()
    assert after[here / "fed" / "agent-2" / "ca.crt"] == after[here / "fed" / "ca.crt"]


@pytest.mark.parametrize("left", ["ca.crt", "ca.key"])
def test_half_an_authority_is_not_replaced(comdml, here, left):
    comdml("certificates", "fed", "--agents", "0")
    (here / "fed" / ({"ca.crt", "ca.key"} - {left}).pop()).unlink()
    before = snapshot(here / "fed")
    status, _, line = comdml("certificates", "fed", "--agents", "1")
    assert status == 2
    assert "must hold ca.crt and ca.key, or neither" in line
    assert snapshot(here / "fed") == before


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--agents", ""], "--agents = '': must be ids"),
        (["--agents", "0,x"], "--agents = '0,x': must be ids"),
        (["--agents", "-1"], "--agents = '-1': must be ids"),
        (["--agents", "1,1"], "--agents = '1,1': must name each agent once"),
        (["--agents", "3-1"], "--agents = '3-1': must name each agent once"),
        (["--agents", "0-9999999"], "--agents = '0-9999999': must be ids"),
        (["--agents", "0", "--hosts", "gpu.lab"], "--hosts = 'gpu.lab': must be KEY=VALUE"),
        (["--agents", "0", "--hosts", "1=gpu.lab"], "--hosts = '1=gpu.lab': must begin with one of"),
        (["--agents", "0,1", "--hosts", "1=ä"], "--hosts = 'ä': must be a host name"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(comdml, here, words, line):
    status, _, printed = comdml("certificates", "fed", *words)
    assert status == 2
    assert printed.startswith(f"comdml: {line}")
    assert len(printed.splitlines()) == 1
    assert not (here / "fed").exists()


def test_a_folder_that_cannot_be_made_is_one_line(comdml, here):
    (here / "fed").write_text("")
    status, _, printed = comdml("certificates", "fed", "--agents", "0")
    assert status == 2
    assert printed.startswith("comdml: folder = 'fed': cannot be written")


def test_help_teaches():
    from typer.testing import CliRunner

    from comdml_flwr.cli.main import app

    text = CliRunner().invoke(app, ["certificates", "--help"]).output
    for word in ("ca.key", "Copy", "comdml://agent/3", "Example: comdml certificates"):
        assert word in text
