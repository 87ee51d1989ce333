"""Members that meet on the loopback interface, and what they send each other."""

import time
from contextlib import ExitStack, contextmanager

import numpy as np

from comdml_flwr.carriers.transport.credentials import load_credentials
from comdml_flwr.carriers.transport.grpc import Transport
from comdml_flwr.carriers.transport.members import Limits, Member
from comdml_flwr.core.messages import Envelope
from tests.ports import free_address

TOKEN = "run-7"
SHORT = Limits(patience_s=1.0, keepalive_s=1.0, stall_s=0.5)
HOUR_S = 3600.0


def addresses(num_members):
    return [Member(agent, free_address()) for agent in range(num_members)]


@contextmanager
def meeting(members, *, folder=None, token=TOKEN, limits=SHORT, who=None, revoked=(), kinds=()):
    """Start the transports of these members (by default all), with the certificates in `folder`."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                Transport(
                    member.agent,
                    member.address,
                    members,
                    load_credentials(folder / f"agent-{member.agent}", member.agent) if folder else None,
                    token,
                    limits=limits,
                    revoked=revoked,
                    kinds=kinds,
                )
            )
            for member in members
            if who is None or member.agent in who
        ]


def mail(sender, receiver, *, round_=1, num_bytes=8, value=0, **about):
    array = np.full(num_bytes // 4, value, np.float32)
    return Envelope(
        sender=sender, receiver=receiver, round=round_, kind="test", about=about, arrays={"x": array}
    )


def received(transport, num, timeout_s=10.0):
    """Receive so many envelopes."""
    found = [transport.receive(timeout_s) for _ in range(num)]
    assert None not in found
    return found


def until(condition, timeout_s=10.0):
    """Wait for something that must come true."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come true in time"
        time.sleep(0.01)


def by_reason(transport):
    totals = {}
    for (reason, _), count in transport.refused.items():
        totals[reason] = totals.get(reason, 0) + count
    return totals
