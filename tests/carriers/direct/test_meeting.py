"""Peers that meet know who reaches whom, and both ends of a link know the same of it; over real sockets."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from comdml_flwr.carriers.direct import meeting
from comdml_flwr.carriers.direct.links import measure_link
from comdml_flwr.carriers.direct.meeting import meet_peers, opponents
from comdml_flwr.carriers.transport.certificates import make_certificates
from comdml_flwr.carriers.transport.credentials import load_credentials
from comdml_flwr.carriers.transport.grpc import Transport
from comdml_flwr.carriers.transport.members import Limits, Member
from tests.carriers.transport.meetings import addresses, free_address
from tests.cli.doctor.places import slow_link

PATIENCE_S = 4.0


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Small letters and short waits: what is looked at does not depend on their length."""
    monkeypatch.setattr(meeting, "REACH_S", 1.0)
    monkeypatch.setattr("comdml_flwr.carriers.direct.links.MOST_BYTES", 1 << 20)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("federation")
    make_certificates(folder, range(5), {}, days=2)
    return folder


def meet(members, *, seen_by=None, linked=None, folder=None, late=None, patience_s=PATIENCE_S):
    """Let members meet side by side; `seen_by` gives what an agent believes of the others' addresses."""
    ids = [member.agent for member in members]

    def one(member):
        time.sleep((late or {}).get(member.agent, 0))
        believed = [Member(m.agent, (seen_by or {}).get((member.agent, m.agent), m.address)) for m in members]
        credentials = load_credentials(folder / f"agent-{member.agent}", member.agent) if folder else None
        limits = Limits(patience_s=2 * patience_s)
        with Transport(member.agent, member.address, believed, credentials, "run-1", limits=limits) as mine:
            return meet_peers(mine, ids, linked or ids, patience_s)

    with ThreadPoolExecutor(len(members)) as pool:
        return dict(zip(ids, pool.map(one, members), strict=True))


@pytest.mark.parametrize("num_agents", [2, 3, 4, 5])
def test_both_ends_of_every_link_know_the_same(num_agents, certificates):
    met = meet(addresses(num_agents), folder=certificates)
    for one in met:
        assert not met[one].missing
        assert sorted(met[one].links) == [other for other in sorted(met) if other != one]
        for other, link in met[one].links.items():
            assert link == met[other].links[one]
            assert link.bytes_per_s > 0
            assert link.latency_s > 0


def test_pairs_that_are_not_linked_are_not_measured(monkeypatch):
    ring = {0: [1, 3], 1: [0, 2], 2: [1, 3], 3: [0, 2]}
    real, measured = meeting.measure_link, []

    def watched(transport, peer):
        measured.append((transport.own, peer))
        return real(transport, peer)

    monkeypatch.setattr(meeting, "measure_link", watched)
    members = addresses(4)

    def one(member):
        with Transport(member.agent, member.address, members, None, "run-1") as mine:
            return meet_peers(mine, range(4), ring[member.agent], PATIENCE_S)

    with ThreadPoolExecutor(4) as pool:
        met = list(pool.map(one, members))
    assert [sorted(found.links) for found in met] == [ring[agent] for agent in range(4)]
    assert sorted(measured) == sorted((one, other) for one in ring for other in ring[one])


def test_nobody_is_in_two_pairs_at_once(monkeypatch):
    real, busy, clashes = meeting.measure_link, set(), []

    def watched(transport, peer):
        clashes.extend({transport.own, peer} & busy)
        busy.update((transport.own, peer))
        link = real(transport, peer)
        busy.difference_update((transport.own, peer))
        return link

    monkeypatch.setattr(meeting, "measure_link", watched)
    meet(addresses(5))
    assert clashes == []


def test_a_slow_direction_is_what_both_ends_know():
    members = addresses(3)
    with slow_link(members[1].address, 0.25e6) as slow:
        met = meet(members, seen_by={(0, 1): slow})
    assert met[0].links[1] == met[1].links[0]
    assert 0.1e6 < met[0].links[1].bytes_per_s < 0.3e6
    assert met[0].links[2].bytes_per_s > 2 * met[0].links[1].bytes_per_s
    assert met[1].links[2].bytes_per_s > 2 * met[0].links[1].bytes_per_s


def test_two_slow_links_are_told_apart():
    members = addresses(2)
    speeds = {}
    for bytes_per_s in (0.5e6, 2e6):
        with (
            slow_link(members[1].address, bytes_per_s) as slow,
            Transport(1, members[1].address, members, None, "run-1") as one,
            ExitStack() as stack,
        ):
            believed = [members[0], Member(1, slow)]
            zero = stack.enter_context(Transport(0, free_address(), believed, None, "run-1"))
            with ThreadPoolExecutor(1) as pool:
                done = pool.submit(measure_link, zero, 1)
                while not done.done():
                    one.receive(0.05)
            speeds[bytes_per_s] = done.result().bytes_per_s
    for bytes_per_s, measured in speeds.items():
        assert 0.4 < measured / bytes_per_s < 1.3


def test_one_that_begins_late_is_waited_for(monkeypatch):
    monkeypatch.setattr(meeting, "REACH_S", 10.0)  # the others look again after 2 s at the latest
    met = meet(addresses(3), late={2: 2.5}, patience_s=20.0)
    assert all(len(found.links) == 2 for found in met.values())


def test_whoever_has_a_wrong_address_is_named_by_all_who_miss_it():
    members = addresses(3)
    nowhere = free_address()
    met = meet(members, seen_by={(0, 2): nowhere, (1, 2): nowhere})
    for agent in (0, 1):
        assert list(met[agent].missing) == [2]
        assert "refused" in met[agent].missing[2]
    assert not met[2].missing
    assert all(not found.links for found in met.values())


def test_two_that_cannot_reach_each_other_find_out_when_patience_ends():
    members = addresses(3)
    nowhere = free_address()
    began = time.monotonic()
    met = meet(members, seen_by={(0, 1): nowhere, (1, 0): nowhere}, patience_s=2.0)
    assert [list(met[agent].missing) for agent in range(3)] == [[1], [0], []]
    assert time.monotonic() - began < 15


def test_somebody_else_at_the_address_is_not_the_peer(certificates):
    members = addresses(3)
    met = meet(members, seen_by={(0, 1): members[2].address}, folder=certificates)
    assert list(met[0].missing) == [1]
    assert not met[1].links


def test_a_host_that_never_answers_is_missed(certificates):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        met = meet(addresses(2), seen_by={(0, 1): address})
    assert list(met[0].missing) == [1]


@pytest.mark.parametrize("num_agents", range(1, 9))
def test_in_a_tournament_everybody_meets_everybody_once_and_pairs_are_disjoint(num_agents):
    ids = [3 * agent for agent in range(num_agents)]
    order = {agent: list(opponents(ids, agent)) for agent in ids}
    for agent in ids:
        assert sorted(order[agent]) == [other for other in ids if other != agent]
    met, todo = 0, {agent: list(others) for agent, others in order.items()}
    while any(todo.values()):  # whoever is first on each other's list meets; nobody waits for ever
        ready = [(a, o[0]) for a, o in todo.items() if o and a < o[0] and todo[o[0]][0] == a]
        assert ready
        for one, other in ready:
            todo[one].pop(0)
            todo[other].pop(0)
        met += len(ready)
    assert met == num_agents * (num_agents - 1) // 2
