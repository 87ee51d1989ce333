"""A node's policy, as the doctor sees it."""

import pytest

from comdml_flwr.cli.doctor.policy import check_policy
from comdml_flwr.core.config import parse_config


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "policy.toml"
    (tmp_path / "revoked").write_text("comdml://agent/2\n")
    path.write_text(
        f'allowed-methods = ["comdml"]\nsealed-only = true\nmin-members = 2\nrevoked = "{tmp_path}/revoked"\n'
    )
    path.chmod(0o644)
    return path


def check(path, has_certificates=True, **keys):
    config = parse_config({name.replace("_", "-"): value for name, value in keys.items()})
    return check_policy(path, config, has_certificates=has_certificates)


def test_a_policy_that_allows_the_run_is_told(path):
    finding = check(path, carrier="direct")
    assert finding.state == "ok"
    assert finding.says == "methods: comdml; data: all; sealed mail only; at least 2 members; 1 revoked"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"method": "fedavg"}, "the run is refused: method = 'fedavg': must be one of comdml"),
        ({"carrier": "direct", "has_certificates": False}, "p2p-certificates = None: must be given"),
    ],
)
def test_a_run_that_a_policy_refuses_is_wrong(keys, says, path):
    finding = check(path, **keys)
    assert (finding.state, says in finding.says) == ("wrong", True)


def test_a_file_that_is_no_policy_or_that_others_may_write_is_wrong(path):
    path.chmod(0o664)
    assert (check(path).state, check(path).mend) == ("warning", f"chmod go-w {path}")
    path.write_text("min-member = 2")
    assert "min-member = 2: is no key of a policy" in check(path).says
    path.unlink()
    assert "must be a file that can be read" in check(path).says
