"""A fleet with every kind of link."""

from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from experiments.testbed.hosts import hosts_of

TEXT = """
[links]
bandwidth_mbps = 50
relay_bandwidth_mbps = 5
[server]
flops_per_s = 4e9
bandwidth_mbps = 100
[[agents]]
id = 7
flops_per_s = 1.0e9
[[agents]]
id = 2
flops_per_s = 2.5e8
bandwidth_mbps = 30
[[agents]]
id = 4
flops_per_s = 1.0e8
[[link]]
between = [4, 7]
bandwidth_mbps = 0
"""
MBPS = {(2, 4): 30, (2, 7): 30, (4, 7): 0}


def fleet_of(text=TEXT):
    return parse_fleet(text, "fleet.toml")


def hosts(text=TEXT, *, flops_per_cpu=1e9, num_cores=2):
    return hosts_of(fleet_of(text), flops_per_cpu=flops_per_cpu, num_cores=num_cores)
