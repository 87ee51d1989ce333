"""Certificates that work, and everything that would make peers refuse them."""

import datetime
import re
import shutil

import pytest

from comdml_flwr.carriers.transport import certificates
from comdml_flwr.carriers.transport.certificates import make_certificates
from comdml_flwr.cli.doctor.certificates import check_certificates
from tests.carriers.transport.test_tls import reissued
from tests.cli.doctor.conftest import DAYS


def test_certificates_in_order(folder):
    (finding,) = check_certificates(folder / "agent-1", 1)
    assert finding.state == "ok"
    assert DAYS - 1 < finding.facts["days_left"] <= DAYS


def test_a_key_that_others_may_read_is_wrong(folder):
    key = folder / "agent-1" / "agent.key"
    key.chmod(0o640)
    wrong, fine = check_certificates(folder / "agent-1", 1)
    assert (wrong.state, wrong.mend, fine.state) == ("wrong", f"chmod 600 {key}", "ok")
    key.chmod(0o600)
    assert [finding.state for finding in check_certificates(folder / "agent-1", 1)] == ["ok"]


def give(source, target, *names):
    for name in names:
        shutil.copy(source / name, target / name)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda own, foreign: give(foreign, own, "ca.crt"),
            "TLS refuses .*agent.crt under ca.crt: unable to get local issuer certificate",
        ),
        (
            lambda own, foreign: (own / "agent.crt").write_bytes(
                reissued(own.parent, expired=True).certificate_pem
            ),
            "must be valid; it was until 20",
        ),
        (lambda own, foreign: (own / "agent.key").unlink(), "cannot be read: No such file"),
        (lambda own, foreign: (own / "ca.crt").write_text("x"), "must hold PEM files"),
        (
            lambda own, foreign: give(own.parent / "agent-2", own, "agent.crt", "agent.key"),
            "must name comdml://agent/0; it names comdml://agent/2",
        ),
    ],
    ids=["foreign authority", "expired", "no key", "no authority", "another agent's"],
)
def test_certificates_that_would_be_refused(folder, foreign, spoil, says):
    spoil(folder / "agent-0", foreign)
    (finding,) = check_certificates(folder / "agent-0", 0)
    assert finding.state == "wrong"
    assert re.search(says, finding.says), finding.says
    assert "comdml certificates FEDERATION --agents 0" in finding.mend


def test_certificates_that_end_soon_are_a_warning(tmp_path):
    make_certificates(tmp_path / "short", [0], {}, days=5)
    (finding,) = check_certificates(tmp_path / "short" / "agent-0", 0)
    assert (finding.state, "(5 days)" in finding.says) == ("warning", True)


def test_certificates_that_are_not_valid_yet_are_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(certificates, "_CLOCK_SKEW", -datetime.timedelta(days=1))
    make_certificates(tmp_path / "early", [0], {}, days=20)
    (finding,) = check_certificates(tmp_path / "early" / "agent-0", 0)
    assert (finding.state, "not yet valid" in finding.says) == ("wrong", True)
