"""Two real hosts: what they get, what is left of them, and a run on them. Needs root."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from comdml_flwr.core.errors import RunError
from experiments.testbed.cgroups import find_hierarchy
from experiments.testbed.hosts import hosts_of
from experiments.testbed.leftovers import find_leftovers, only_one, remove_leftovers
from experiments.testbed.life import living_hosts
from experiments.testbed.measuring import measure_links, measure_quotas
from experiments.testbed.processes import ROOT, output_of
from tests.experiments.testbed.fleets import fleet_of

TWO = """
[links]
bandwidth_mbps = 20
[server]
bandwidth_mbps = 50
[[agents]]
id = 0
flops_per_s = 3e8
[[agents]]
id = 1
flops_per_s = 1e8
"""


def reason_to_skip():
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs Linux and root"
    if not (shutil.which("ip") and shutil.which("tc")):
        return "needs iproute2"
    try:
        find_hierarchy(Path("/proc/self/mounts").read_text())
    except RunError as error:
        return str(error)
    return None


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(reason_to_skip() is not None, reason=str(reason_to_skip())),
]


@pytest.fixture
def hierarchy():
    try:
        only_one().close()
    except RunError as error:
        pytest.skip(str(error))
    found = find_hierarchy(Path("/proc/self/mounts").read_text())
    yield found
    remove_leftovers(found)


def own_network():
    return [output_of(["ip", "-o", what]) for what in ("link", "addr", "route", "rule")]


def two_hosts():
    return hosts_of(fleet_of(TWO), flops_per_cpu=1e9, num_cores=2)


def command(*words):
    return [sys.executable, "-m", "experiments.testbed", *map(str, words)]


def test_hosts_get_what_was_asked_and_nothing_is_left(hierarchy):
    before, hosts = own_network(), two_hosts()
    with living_hosts(hosts, hierarchy) as (groups, temporary):
        cpus, links = measure_quotas(hosts, groups), measure_links(hosts)
        assert find_leftovers(hierarchy)
        assert own_network()[1:] == before[1:]
    assert cpus == {0: pytest.approx(0.3, rel=0.15), 1: pytest.approx(0.1, rel=0.15)}
    assert len(links) == 6
    for link in links:
        assert link.measured_bytes_per_s == pytest.approx(link.asked_bytes_per_s, rel=0.15), link
    assert not find_leftovers(hierarchy)
    assert not temporary.exists()
    assert own_network() == before


def test_nothing_is_left_after_a_failure(hierarchy):
    with pytest.raises(RuntimeError, match="on purpose"), living_hosts(two_hosts(), hierarchy):
        raise RuntimeError("on purpose")
    assert not find_leftovers(hierarchy)


@pytest.fixture
def begun(hierarchy, tmp_path):
    """Start a testbed and wait until its SuperNodes are there."""
    (tmp_path / "two.toml").write_text(TWO)
    words = (tmp_path / "two.toml", "--no-check", "--no-calibrate", "--output", tmp_path / "results")
    process = subprocess.Popen(command(*words), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    give_up = time.monotonic() + 120
    while not list((tmp_path / "results").glob("*/supernode-1.log")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < give_up
        time.sleep(0.2)
    return process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_nothing_is_left_after_ctrl_c(hierarchy, begun, number, status):
    begun.send_signal(number)
    assert begun.wait(timeout=60) == status
    assert "Traceback" not in begun.stderr.read()
    assert not find_leftovers(hierarchy)


def test_what_a_killed_testbed_left_is_removed_by_the_next_one(hierarchy, begun):
    begun.kill()
    begun.wait()
    left = find_leftovers(hierarchy)
    assert set(left.namespaces) == {"comdml-tb-0", "comdml-tb-1", "comdml-tb-net"}
    assert left.processes
    assert left.groups
    assert left.folders
    done = subprocess.run(command("--clean"), cwd=ROOT, capture_output=True, text=True, check=True)
    assert "namespaces comdml-tb-" in done.stdout
    assert not find_leftovers(hierarchy)


def test_a_run_over_tls_has_the_weights_of_the_local_carrier(hierarchy, tmp_path):
    (tmp_path / "two.toml").write_text(TWO.replace("3e8", "9e8").replace("1e8", "9e8"))
    words = (tmp_path / "two.toml", "--rounds", 1, "--run-config", "local-epochs=1", "--tls", "--verify")
    quick = ("--no-check", "--no-calibrate", "--output", tmp_path / "results")
    done = subprocess.run(command(*words, *quick), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "comdml: the same weights as by the local carrier" in done.stdout
    (file,) = (tmp_path / "results").glob("*/testbed.json")
    found = json.loads(file.read_text())
    (round_,) = found["runs"]["comdml"]["rounds"]
    assert round_["elapsed_s"] > 0
    assert found["weights_of_local_carrier"]["comdml"] == found["runs"]["comdml"]["weights_sha256"]
    assert not find_leftovers(hierarchy)
