"""Which hierarchy has the CPU controller, and what is written into it."""

import pytest

from comdml_flwr.core.errors import RunError
from experiments.testbed.cgroups import find_hierarchy, members, num_throttled, quota_files, weight_files

V1 = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n"
CPUSET = "cgroup /sys/fs/cgroup/cpuset cgroup rw,relatime,cpuset 0 0\n"


@pytest.fixture
def v2(tmp_path):
    def mounted(controllers):
        (tmp_path / "cgroup.controllers").write_text(controllers)
        return f"cgroup2 {tmp_path} cgroup2 rw,relatime 0 0\n"

    return mounted


def test_version_1_is_found_by_its_option():
    found = find_hierarchy("proc /proc proc rw 0 0\n" + CPUSET + V1)
    assert (found.version, str(found.root)) == (1, "/sys/fs/cgroup/cpu,cpuacct")
    assert str(found) == "cgroup v1 (cpu.cfs_quota_us)"


def test_version_2_is_found_by_its_controllers(v2, tmp_path):
    found = find_hierarchy(CPUSET + v2("cpuset cpu io memory\n"))
    assert (found.version, found.root) == (2, tmp_path)
    assert str(found) == "cgroup v2 (cpu.max)"


def test_a_controller_of_version_1_is_not_looked_for_in_version_2(v2):
    assert find_hierarchy(v2("cpu\n") + V1).version == 1


@pytest.mark.parametrize("controllers", ["cpuset io\n", ""])
def test_without_a_controller_there_is_no_testbed(v2, controllers):
    with pytest.raises(RunError, match="no cgroup hierarchy with the cpu controller"):
        find_hierarchy(CPUSET + v2(controllers))


def test_a_quota_is_a_share_of_a_period():
    assert dict(quota_files(1, 0.25)) == {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "25000"}
    assert dict(quota_files(2, 0.25)) == {"cpu.max": "25000 100000"}
    assert list(quota_files(1, 2.0)) == ["cpu.cfs_period_us", "cpu.cfs_quota_us"]


def test_the_testbed_goes_before_other_programs():
    assert weight_files(1) == {"cpu.shares": "262144"}
    assert weight_files(2) == {"cpu.weight": "10000"}
    assert weight_files(1, 0.1) == {"cpu.shares": "26214"}
    assert weight_files(2, 0.1) == {"cpu.weight": "1000"}


def test_members_are_those_of_all_groups_below(tmp_path):
    (tmp_path / "host-0").mkdir()
    (tmp_path / "cgroup.procs").write_text("")
    (tmp_path / "host-0" / "cgroup.procs").write_text("12\n7\n")
    assert members(tmp_path) == {7, 12}
    assert members(tmp_path / "nowhere") == set()


def test_how_often_a_group_was_held_back_is_read_in_both_versions(tmp_path):
    assert num_throttled(tmp_path) == 0
    (tmp_path / "cpu.stat").write_text("nr_periods 40\nnr_throttled 7\nthrottled_time 3\n")
    assert num_throttled(tmp_path) == 7
    (tmp_path / "cpu.stat").write_text("usage_usec 9\nnr_periods 40\nnr_throttled 8\nthrottled_usec 3\n")
    assert num_throttled(tmp_path) == 8
