"""What a fleet file asks of each host."""

import pytest

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.fleet.fleet_file import load_fleet
from comdml_flwr.planning.types import SERVER
from experiments.testbed.hosts import cores_of, hosts_of
from experiments.testbed.processes import ROOT
from tests.experiments.testbed.fleets import TEXT, hosts


def test_quotas_are_speeds_over_what_stands_for_a_core():
    assert {host.agent: host.cpus for host in hosts()} == {2: 0.25, 4: 0.1, 7: 1.0}
    assert {host.agent: host.cpus for host in hosts(flops_per_cpu=2e9)} == {2: 0.125, 4: 0.05, 7: 0.5}


def test_partitions_follow_the_agents_ids_as_a_run_does():
    """`Setup.ids` is ascending, and a SuperNode is the agent at its partition-id."""
    assert [(host.agent, host.partition) for host in hosts()] == [(2, 0), (4, 1), (7, 2)]
    assert len({host.address for host in hosts()}) == 3


def test_a_node_is_told_its_place_its_address_for_peers_and_what_the_user_adds():
    told = 'partition-id=1 num-partitions=3 p2p-address="10.77.0.11:9400"'
    assert hosts()[1].node_config(3) == told
    assert hosts()[1].node_config(3, 'key="/keys/{agent}.pem"') == f'{told} key="/keys/4.pem"'


def test_the_testbeds_own_fleet_fits_two_cores():
    fleet = load_fleet(ROOT / "experiments" / "fleets" / "testbed.toml")
    found = hosts_of(fleet, flops_per_cpu=1e9, num_cores=2)
    assert [host.cpus for host in found] == [1.0, 0.5, 0.25, 0.1]
    assert {link.bytes_per_s / 125_000 for host in found for link in host.links.values()} == {10, 20, 50, 100}
    with pytest.raises(InputError, match=r"sum of CPU quotas = 1\.85: must be at most 0\.85, 1 cores"):
        hosts_of(fleet, flops_per_cpu=1e9, num_cores=1)


def test_a_host_with_a_whole_core_has_it_for_itself():
    found = hosts_of(
        load_fleet(ROOT / "experiments" / "fleets" / "testbed.toml"), flops_per_cpu=1e9, num_cores=2
    )
    assert cores_of(found, (0, 1)) == {0: (0,), 1: (1,), 2: (1,), 3: (1,), SERVER: (1,)}
    assert cores_of(found, (4, 5, 6)) == {0: (4,), 1: (5,), 2: (5,), 3: (5,), SERVER: (5, 6)}


def test_a_host_that_fits_no_core_has_all_of_them():
    found = hosts(TEXT.replace("1.0e9", "1.5e9"))
    assert cores_of(found, (0, 1)) == {7: (0, 1), 2: (0,), 4: (1,), SERVER: (1,)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT + "[scenario]\nshare = 0.2\nevery = 5\n", "[scenario]': must be left out"),
        (
            TEXT + "[[availability]]\nround = 2\nagent = 4\npresent = false\n",
            "[[availability]]': must be left out",
        ),
        (TEXT.replace("flops_per_s = 2.5e8", "batches_per_s = 3"), "agent 2 = None: must have flops_per_s"),
        (TEXT.replace("1.0e8", "1.0e7"), "quota of agent 4 = 0.01: must be at least 0.02 of a core"),
        ("[[agents]]\nid = 0\nflops_per_s = 1e9\n", "fleet.toml = '1 agents': must be 2 to 200"),
    ],
)
def test_what_no_testbed_can_be_is_refused(text, message):
    with pytest.raises(InputError) as caught:
        hosts(text)
    assert message in str(caught.value)
