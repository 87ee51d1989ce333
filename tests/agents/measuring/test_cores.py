"""One core allowed means one worker: what a process is bound to, and what its control groups grant."""

import os

import pytest

from comdml_flwr.agents.measuring.cores import available_cores, quota, workers_here


@pytest.fixture
def bound_to_one_core():
    """Bind this process to one core, as `taskset` does."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("bound_to_one_core")
def test_a_process_that_is_bound_to_one_core_begins_one_worker():
    assert available_cores() <= 1
    assert workers_here() == 1


GROUPS = {
    "none": ({}, "0::/", None),
    "version 2": ({"cpu.max": "150000 100000"}, "0::/", 1.5),
    "version 2, all": ({"cpu.max": "max 100000"}, "0::/", None),
    "nested, the outer is less": (
        {"cpu.max": "max 100000", "a/cpu.max": "50000 100000", "a/b/cpu.max": "200000 100000"},
        "0::/a/b",
        0.5,
    ),
    "another group's": ({"a/cpu.max": "max 100000", "c/cpu.max": "50000 100000"}, "0::/a", None),
    "version 1": (
        {"cpu/a/cpu.cfs_quota_us": "300000", "cpu/a/cpu.cfs_period_us": "100000"},
        "3:memory:/x\n2:cpu,cpuacct:/a\n0::/",
        3.0,
    ),
    "version 1, all": ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "2:cpu:/", None),
    "version 1, in a container": (
        {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"},
        "2:cpu:/docker/0123",
        1.0,
    ),
}


@pytest.mark.parametrize("name", GROUPS)
def test_the_smallest_quota_of_the_groups_counts(name, tmp_path):
    files, groups, cores = GROUPS[name]
    for path, text in files.items():
        (tmp_path / "cgroup" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / path).write_text(f"{text}\n")
    (tmp_path / "self").write_text(f"{groups}\n")
    assert quota(tmp_path / "cgroup", tmp_path / "self") == cores


def test_a_quota_of_less_than_a_core_is_one_worker(monkeypatch):
    monkeypatch.setattr("comdml_flwr.agents.measuring.cores.quota", lambda: 0.4)
    assert (available_cores(), workers_here()) == (0.4, 1)
