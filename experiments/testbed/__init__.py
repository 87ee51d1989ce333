"""Real SuperNodes on unequal hosts: network namespaces on one Linux machine, made from one fleet file.

    python -m experiments.testbed experiments/fleets/testbed.toml --method comdml --method allreduce

* hosts.py: what the fleet file asks of each host: CPU quota, address, links
* network.py: namespaces, a bridge and `tc`, as command lines; nothing of it is in the machine's own network
* cgroups.py: CPU quotas, by version 1 or 2
* processes.py: programs in a namespace and a quota
* life.py, leftovers.py: makes the hosts, and removes all of them, also after a testbed that was killed
* probe.py, measuring.py: what the hosts and links really give; and the fleet file with measured speeds
* federation.py, tls.py: SuperLink, SuperNodes, `flwr run`
* session.py, records.py: one call from beginning to end; measured next to forecast
"""
