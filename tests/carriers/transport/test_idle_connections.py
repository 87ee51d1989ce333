"""Connections that say nothing, many at once, and many handshakes: a port stays there for its members."""

import os
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from comdml_flwr.carriers.transport.certificates import make_certificates
from comdml_flwr.carriers.transport.credentials import agent_host
from comdml_flwr.carriers.transport.members import Member, split_address
from comdml_flwr.cli.doctor.certificates import client_context
from tests.carriers.transport.meetings import SHORT, addresses, free_address, mail, meeting, received

ROOT = Path(__file__).resolve().parents[3]
LISTENER = """
import sys
from pathlib import Path
from comdml_flwr.carriers.transport.members import Member
from tests.carriers.transport.meetings import mail, meeting, received

folder, *where = sys.argv[1:]
members = [Member(agent, address) for agent, address in enumerate(where)]
with meeting(members, folder=Path(folder) if folder else None, who={0}) as (listener,):
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


SECURE = pytest.mark.parametrize("is_secure", [True, False], ids=["TLS", "plain"])
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What every client of HTTP/2 begins with: its preface, and settings that are all defaults."""


def connect(address, folder=None):
    """Return a connection that is ready for streams: with a folder, of member 1 after a handshake."""
    stream = socket.create_connection(split_address(address, "test"), 20)
    if folder is not None:
        context = client_context(folder / "agent-1")
        stream = context.wrap_socket(stream, server_hostname=agent_host(0))
    stream.sendall(PREFACE)
    return stream


def is_closed(stream):
    """Wait until the other side ends a connection, reading what it still says."""
    stream.settimeout(20)
    try:
        while stream.recv(1000):
            pass
    except (ConnectionError, ssl.SSLError):
        pass
    return True


@SECURE
def test_a_connection_that_says_nothing_is_closed_after_a_while(is_secure, folder):
    members, limits = addresses(2), replace(SHORT, keepalive_s=0.5)
    with (
        meeting(members, folder=folder if is_secure else None, limits=limits, who={0}),
        closing(socket.create_connection(split_address(members[0].address, "test"), 20)) as silent,
        closing(socket.create_connection(split_address(members[0].address, "test"), 20)) as slow,
    ):
        slow.sendall((b"\x16\x03\x01" if is_secure else PREFACE)[:3])
        assert is_closed(silent)
        assert is_closed(slow)


@SECURE
def test_a_connection_without_a_stream_is_closed_after_a_while(is_secure, folder):
    members, limits = addresses(2), replace(SHORT, idle_s=0.5)
    own = folder if is_secure else None
    with (
        meeting(members, folder=own, limits=limits, who={0}),
        closing(connect(members[0].address, own)) as idle,
    ):
        assert is_closed(idle)


@SECURE
def test_members_that_have_nothing_to_say_for_longer_keep_their_connection(is_secure, folder):
    limits = replace(SHORT, idle_s=0.3)
    with meeting(addresses(2), folder=folder if is_secure else None, limits=limits) as (one, two):
        mail_each_other(one, two)
        streams = [out._stream for member in (one, two) for out in member._outgoing.values()]
        time.sleep(1.5)
        mail_each_other(one, two)
        assert streams == [out._stream for member in (one, two) for out in member._outgoing.values()]


@contextmanager
def listening(folder):
    """Start member 0 in a process of its own, as it died of a signal; in the end it takes mail."""
    members = [Member(agent, free_address()) for agent in range(2)]
    words = [sys.executable, "-c", LISTENER, str(folder or ""), *(member.address for member in members)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as listener:
        try:
            assert listener.stdout.readline() == "listens\n"
            yield listener, members[0].address
            with meeting(members, folder=folder, who={1}) as (member,):
                member.send(mail(1, 0))
                received(member, 1, timeout_s=30)
            assert listener.wait(30) == 0
        finally:
            listener.kill()


@pytest.mark.slow
@SECURE
def test_five_hundred_idle_connections_do_not_end_a_member(is_secure, folder):
    """Twenty times, as it died in one of six."""
    with listening(folder if is_secure else None) as (listener, address):
        for _ in range(20):
            with idle(address, 500):
                time.sleep(1.5)
            time.sleep(0.5)
            assert listener.poll() is None


@pytest.mark.slow
@SECURE
def test_six_hundred_handshakes_of_a_member_do_not_end_another(is_secure, folder):
    """Ten at a time; some end at once, others all together, as it died in one of three."""
    own = folder if is_secure else None
    with listening(own) as (listener, address), ThreadPoolExecutor(10) as pool, ExitStack() as kept:
        for number, stream in enumerate(pool.map(lambda _: connect(address, own), range(600))):
            if number % 3:
                stream.close()
            else:
                kept.enter_context(closing(stream))
        assert listener.poll() is None
        kept.close()
        time.sleep(1.0)
        assert listener.poll() is None
