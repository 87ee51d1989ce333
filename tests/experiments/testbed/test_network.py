"""The command lines that make the network; nothing is run here."""

import pytest

from experiments.testbed.hosts import NETWORK, SUPERLINK_ADDRESS
from experiments.testbed.network import network_commands
from tests.experiments.testbed.fleets import MBPS, hosts

HEADERS = 1514 / 1448
HOSTS = hosts()
COMMANDS = list(network_commands(HOSTS))
NAMESPACES = {NETWORK, *(host.namespace for host in HOSTS)}


def after(command, word):
    return command[command.index(word) + 1]


def payload_mbps(command):
    return int(after(command, "rate").removesuffix("bit")) / 1e6 / HEADERS


def bound(namespace, address):
    """Return the bandwidth of the class to which packets for an address go, in Mbps of payload."""
    ours = [command for command in COMMANDS if command[:3] == ("tc", "-n", namespace)]
    (filter_,) = (c for c in ours if "filter" in c and after(c, "dst") == f"{address}/32")
    flow = after(filter_, "flowid")
    (class_,) = (c for c in ours if "class" in c and after(c, "classid") == flow)
    return payload_mbps(class_)


def test_every_command_is_for_a_namespace_of_the_testbed():
    """So the machine's own interfaces, addresses and routes stay as they are."""
    for command in COMMANDS:
        if command[:3] == ("ip", "netns", "add"):
            assert command[3] in NAMESPACES
        else:
            assert command[:2] in (("ip", "-n"), ("tc", "-n"))
            assert command[2] in NAMESPACES


def test_each_pair_has_its_bandwidth_in_both_directions():
    for one in HOSTS:
        for other in HOSTS:
            mbps = MBPS.get((min(one.agent, other.agent), max(one.agent, other.agent)))
            if mbps:
                assert bound(one.namespace, other.address) == pytest.approx(mbps)


def test_a_pair_without_a_link_has_no_route():
    refused = {(c[2], after(c, "unreachable")) for c in COMMANDS if "unreachable" in c}
    by_id = {host.agent: host for host in HOSTS}
    assert refused == {
        (by_id[4].namespace, f"{by_id[7].address}/32"),
        (by_id[7].namespace, f"{by_id[4].address}/32"),
    }


def test_the_superlink_is_at_the_servers_link_or_the_slower_card():
    for host in HOSTS:
        mbps = 30 if host.agent == 2 else 100
        assert bound(host.namespace, SUPERLINK_ADDRESS) == pytest.approx(mbps)
        assert bound(NETWORK, host.address) == pytest.approx(mbps)


def test_a_card_bounds_what_it_sends_and_what_it_receives():
    card = HOSTS[0]
    (whole,) = (
        c for c in COMMANDS if c[2] == card.namespace and "classid" in c and after(c, "classid") == "1:1"
    )
    assert payload_mbps(whole) == pytest.approx(30)
    (receiving,) = (c for c in COMMANDS if "tbf" in c)
    assert (receiving[2], after(receiving, "dev")) == (NETWORK, "h0")
    assert payload_mbps(receiving) == pytest.approx(30)


def test_class_numbers_are_hexadecimal_and_below_the_card():
    flows = [after(c, "classid") for c in COMMANDS if c[2] == HOSTS[0].namespace and "classid" in c]
    assert flows == ["1:1", "1:2", "1:3", "1:11", "1:12"]
