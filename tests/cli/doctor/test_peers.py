"""Peers over mutual TLS: who is reached, how fast, and why not."""

import shutil
import socket
import threading
from contextlib import contextmanager

import pytest

from comdml_flwr.carriers.transport.members import Member
from comdml_flwr.cli.doctor.peers import answer_peers, check_peers
from tests.carriers.transport.meetings import addresses, meeting, until
from tests.cli.doctor.places import grpc_server, slow_link


@contextmanager
def answering(folder, member, peers):
    """What `comdml doctor --listen` does on another machine; gives what it says."""
    said, is_over = [], threading.Event()
    words = (
        folder / f"agent-{member.agent}",
        member.agent,
        member.address,
        peers,
        said.append,
        is_over.is_set,
    )
    thread = threading.Thread(target=answer_peers, args=words)
    thread.start()
    try:
        yield said
    finally:
        is_over.set()
        thread.join(20)
        assert not thread.is_alive()


def diagnosis(folder, peer):
    """Return what agent 0 finds out about this peer."""
    (finding,) = check_peers(folder / "agent-0", 0, [peer])
    return finding


def wait_for(address):
    """Wait until somebody listens there."""

    def is_there():
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port))).close()
        except OSError:
            return False
        return True

    until(is_there)


def test_a_peer_where_a_doctor_listens_is_measured_and_hears_of_us(made):
    zero, one = addresses(2)
    with answering(made, one, [zero]) as said:
        wait_for(one.address)
        finding = diagnosis(made, one)
    assert finding.state == "ok"
    assert 0 < finding.facts["round_trip_s"] < 1
    assert finding.facts["bytes_per_s"] > 1e6
    assert said == ["agent 0 reaches this machine"]


def test_what_is_measured_is_the_speed_of_the_link(made):
    zero, one = addresses(2)
    with answering(made, one, [zero]), slow_link(one.address, 2e6) as address:
        wait_for(one.address)
        finding = diagnosis(made, Member(1, address))
    assert finding.state == "ok"
    assert 1e6 < finding.facts["bytes_per_s"] < 2.2e6


def test_a_peer_in_a_run_is_reached_but_not_measured(made):
    members = addresses(2)
    with meeting(members, folder=made, who={1}):
        finding = diagnosis(made, members[1])
    assert (finding.state, "a run goes on" in finding.says) == ("warning", True)
    assert "round_trip_s" in finding.facts


def test_a_peer_that_does_not_know_us_says_so(made):
    _, one, two = addresses(3)
    with answering(made, one, [two]) as said:
        wait_for(one.address)
        finding = diagnosis(made, one)
    assert (finding.state, "not a member" in finding.says) == ("wrong", True)
    assert "with 0=HOST:PORT" in finding.mend
    assert said == []


def test_nobody_there_is_wrong_and_one_learns_to_listen_there(made):
    finding = diagnosis(made, addresses(2)[1])
    assert (finding.state, "nobody listens" in finding.says) == ("wrong", True)
    assert "on agent 1's machine: comdml doctor --listen" in finding.mend


@pytest.mark.parametrize("which", ["foreign", "another agent's"])
def test_a_peer_with_certificates_that_are_not_its_own_is_not_talked_to(made, foreign, which):
    own = foreign / "agent-1" if which == "foreign" else made / "agent-2"
    with grpc_server(own) as address:
        finding = diagnosis(made, Member(1, address))
    assert (finding.state, "no certificate of agent 1 of this federation" in finding.says) == ("wrong", True)


def test_a_peer_that_refuses_our_certificate_is_wrong(folder, made, foreign):
    """We trust its authority; it does not trust ours."""
    for name in ("agent.crt", "agent.key"):
        shutil.copy(foreign / "agent-0" / name, folder / "agent-0" / name)
    zero, one = addresses(2)
    with answering(made, one, [zero]) as said:
        wait_for(one.address)
        finding = diagnosis(folder, one)
    assert (finding.state, "it refuses our certificate" in finding.says) == ("wrong", True)
    assert said == []


def test_a_peer_without_tls_is_wrong(made):
    with grpc_server() as address:
        finding = diagnosis(made, Member(1, address))
    assert (finding.state, "is no SuperNode" in finding.says) == ("wrong", True)
