"""The port, and what answers where a SuperLink should."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from comdml_flwr.cli.doctor.network import check_port, check_superlink
from tests.carriers.transport.meetings import free_address, until
from tests.cli.doctor.places import grpc_server, http_server, taken_port


def port_of(address):
    return address.rpartition(":")[2]


def test_a_free_port_is_free_and_is_so_afterwards():
    address = free_address()
    assert check_port(f"10.1.2.3:{port_of(address)}", address).state == "ok"
    assert check_port(address).state == "warning", "no other machine reaches it"


def test_a_taken_port_is_wrong_and_one_learns_how_to_find_who_has_it():
    with taken_port() as address:
        finding = check_port(address)
    assert finding.state == "wrong"
    assert f"{address} cannot be listened on: Address already in use" in finding.says
    assert f"ss -ltnp 'sport = :{port_of(address)}'" in finding.mend


@pytest.mark.parametrize("address", ["192.0.2.1:9500", "a..b:9500"])  # RFC 5737: nobody's
def test_an_address_of_another_machine_needs_p2p_listen(address):
    finding = check_port(address)
    assert finding.state == "wrong"
    assert 'p2p-listen="0.0.0.0:9500"' in finding.mend


def test_port_zero_is_none():
    assert check_port("127.0.0.1:0").state == "wrong"


def test_a_superlink_with_tls_is_reached_with_its_authority(made):
    with http_server(made / "agent-0") as address:
        finding = check_superlink(address, made / "ca.crt")
    assert (finding.state, "Flower 1.42.0 over TLS" in finding.says) == ("ok", True)
    assert 0 < finding.facts["round_trip_s"] < 1


def test_a_superlink_with_another_authority_or_another_name_is_wrong(made, foreign):
    with http_server(made / "agent-0") as address:
        for root in (None, foreign / "ca.crt"):
            finding = check_superlink(address, root)
            assert finding.state == "wrong"
            assert "unable to get local issuer certificate" in finding.says
            assert finding.mend.startswith("--root-certificates FILE")
    with http_server(made / "agent-1") as address:
        finding = check_superlink(address, made / "ca.crt")
    assert finding.state == "wrong"
    assert "IP address mismatch" in finding.says


def test_a_superlink_without_tls_is_a_warning_and_wrong_where_tls_is_wanted(made):
    with http_server() as address:
        finding, with_root = check_superlink(address), check_superlink(address, made / "ca.crt")
    assert (finding.state, "--insecure" in finding.says) == ("warning", True)
    assert (with_root.state, "--ssl-certfile" in with_root.mend) == ("wrong", True)


@pytest.mark.parametrize("answer", [b"hello", b'{"info": {"title": "Shop"}}', b"[]", b'{"info": 1}', b"\xff"])
def test_what_answers_but_is_no_superlink_is_wrong(made, answer):
    for own in (None, made / "agent-0"):
        with http_server(own, answer) as address:
            finding = check_superlink(address, own and made / "ca.crt")
        assert (finding.state, "it is no SuperLink" in finding.says) == ("wrong", True)


def test_nobody_there_and_a_grpc_server_are_wrong():
    nobody = check_superlink(free_address())
    assert (nobody.state, "Connection refused" in nobody.says) == ("wrong", True)
    with grpc_server() as address:
        finding = check_superlink(address)
    assert (finding.state, "it is no SuperLink" in finding.says) == ("wrong", True)
    assert check_superlink("a..b:1").state == "wrong"


def test_a_file_without_certificates_is_wrong(tmp_path):
    (tmp_path / "ca.crt").write_text("x")
    finding = check_superlink("127.0.0.1:1", tmp_path / "ca.crt")
    assert (finding.state, "is no file of certificates" in finding.says) == ("wrong", True)


@pytest.mark.slow
def test_flowers_own_superlink_with_tls_is_one(made, tmp_path):
    """Without TLS: tests/flower/test_flwr_run.py."""
    address, own = free_address(), made / "agent-0"
    words = ["--host", "127.0.0.1", "--port", port_of(address), "--ssl-ca-certfile", own / "ca.crt"]
    words += ["--ssl-certfile", own / "agent.crt", "--ssl-keyfile", own / "agent.key"]
    program = Path(sys.executable).parent / "flower-superlink"
    home = {"FLWR_HOME": str(tmp_path), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    with subprocess.Popen(
        [program, *words], env={**os.environ, **home}, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until(lambda: check_superlink(address, own / "ca.crt").state == "ok", timeout_s=60)
            assert f"Flower {version('flwr')} over TLS" in check_superlink(address, own / "ca.crt").says
            assert check_superlink(address).state == "wrong"
        finally:
            process.terminate()
