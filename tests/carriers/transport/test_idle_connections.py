"""Connections that say nothing, many at once: a port with certificates stays there for its members."""

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import grpc
import pytest

from comdml_flwr.carriers.transport.certificates import make_certificates
from comdml_flwr.carriers.transport.members import Member, split_address
from tests.carriers.transport.meetings import addresses, free_address, mail, meeting, received

ROOT = Path(__file__).resolve().parents[3]
LISTENER = """
import sys
from pathlib import Path
from comdml_flwr.carriers.transport.members import Member
from tests.carriers.transport.meetings import mail, meeting, received

folder, *where = sys.argv[1:]
members = [Member(agent, address) for agent, address in enumerate(where)]
with meeting(members, folder=Path(folder), who={0}) as (listener,):
    print("listens", flush=True)
    received(listener, 1, timeout_s=300)
    listener.send(mail(0, 1))
    listener.flush(20)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("federation")
    make_certificates(folder, range(2), {}, days=1)
    return folder


@contextmanager
def idle(address, count):
    """Hold connections on which nothing is said, and end all at once."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(closing(socket.create_connection(split_address(address, "test"), 20)))
        yield


def mail_each_other(one, two):
    for sender, receiver in ((one, two), (two, one)):
        sender.send(mail(sender.own, receiver.own))
        sender.flush(20)
        received(receiver, 1)


def test_no_handshake_is_given_another_certificate(folder, monkeypatch):
    """GRPC would replace what the handshakes beside it use."""
    given, real = [], grpc.dynamic_ssl_server_credentials

    def watched(initial, fetcher, **keys):
        def asked():
            given.append(fetcher())
            return given[-1]

        return real(initial, asked, **keys)

    monkeypatch.setattr(grpc, "dynamic_ssl_server_credentials", watched)
    with meeting(addresses(2), folder=folder) as (one, two):
        mail_each_other(one, two)
    assert given
    assert {*given} == {None}


def test_members_connect_after_connections_that_said_nothing(folder):
    members = addresses(2)
    with meeting(members, folder=folder) as (one, two):
        for _ in range(2):
            with idle(members[0].address, 60):
                time.sleep(0.2)
        mail_each_other(one, two)


@pytest.mark.slow
def test_five_hundred_idle_connections_do_not_end_a_member(folder):
    """In a process of its own, as it died of a signal; eight times, as it died in one of six."""
    members = [Member(agent, free_address()) for agent in range(2)]
    words = [sys.executable, "-c", LISTENER, str(folder), *(member.address for member in members)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout.readline() == "listens\n"
        for _ in range(8):
            with idle(members[0].address, 500):
                time.sleep(1.5)
            time.sleep(1.0)
            assert listener.poll() is None
        with meeting(members, folder=folder, who={1}) as (member,):
            member.send(mail(1, 0))
            received(member, 1, timeout_s=30)
        assert listener.wait(30) == 0
