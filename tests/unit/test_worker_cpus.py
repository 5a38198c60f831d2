"""How many slots a host has if nobody says."""

import os

import pytest

from farm_workers.cpus import default_slots


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def make(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(tmp_path)

    return make


def test_without_cgroups_the_affinity_counts(machine):
    assert default_slots(machine({})) == 8


@pytest.mark.parametrize(
    ("quota", "slots"),
    [("max 100000", 8), ("200000 100000", 2), ("250000 100000", 3), ("10000 100000", 1),
     ("9900000 100000", 8), ("", 8), ("nonsense", 8)],
)  # fmt: skip
def test_the_quota_of_a_cgroup_counts(machine, quota, slots):
    root = machine({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": quota})
    assert default_slots(root) == slots


def test_the_quota_of_a_cgroup_above_counts_too(machine):
    root = machine(
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000",
            "sys/fs/cgroup/a/cpu.max": "400000 100000",
        }
    )
    assert default_slots(root) == 4


def test_in_a_container_only_the_top_is_there(machine):
    root = machine({"proc/self/cgroup": "0::/docker/x\n", "sys/fs/cgroup/cpu.max": "300000 100000"})
    assert default_slots(root) == 3


@pytest.mark.parametrize(("quota", "slots"), [("-1", 8), ("150000", 2)])
def test_the_older_cgroups_count_as_well(machine, quota, slots):
    root = machine(
        {
            "proc/self/cgroup": "4:memory:/m\n3:cpu,cpuacct:/a\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": quota,
            "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000",
        }
    )
    assert default_slots(root) == slots


def test_a_system_without_affinity_has_all_its_cpus(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert default_slots(str(tmp_path)) == 3
