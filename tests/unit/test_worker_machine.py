"""What a machine has, if nobody says: its memory, or what its cgroups allow, and its GPUs."""

import os

import pytest

from farm_workers import machine


@pytest.fixture
def files(tmp_path):
    def make(found):
        for name, text in found.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(tmp_path)

    return make


WHOLE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_without_cgroups_it_is_all_of_it(files):
    assert machine.memory_bytes(files({})) == WHOLE


@pytest.mark.parametrize(("limit", "size"), [("1000000", 1_000_000), ("max", WHOLE), ("", WHOLE)])
def test_the_limit_of_a_cgroup_or_of_one_above_counts(files, limit, size):
    found = {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": limit}
    assert machine.memory_bytes(files(found)) == size


def test_so_does_that_of_a_cgroup_of_version_1(files):
    found = {
        "proc/self/cgroup": "4:memory:/a\n0::/\n",
        "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "2000000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    assert machine.memory_bytes(files(found)) == 2_000_000


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """The vendor's tool, as a script."""

    def make(script, name="nvidia-smi"):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return make


def test_without_the_tool_there_are_no_gpus(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert machine.find({"memory": 5.0}) == ({"memory": 5.0, "gpu": 0.0}, ())


def test_the_tool_says_which_there_are(tool):
    tool("echo 0; echo 1")
    assert machine.find({"memory": 5.0}) == ({"memory": 5.0, "gpu": 2.0}, ("0", "1"))


@pytest.mark.parametrize("script", ["exit 9", "echo broken", "exec sleep 60"])
def test_a_tool_that_fails_or_hangs_is_no_gpu(tool, monkeypatch, script):
    monkeypatch.setattr(machine, "ASK_SECONDS", 0.2)
    tool(script)
    assert machine.find_gpus() == ()


def test_those_that_were_chosen_for_this_process_are_kept_to(tool, monkeypatch):
    tool("echo 0; echo 1; echo 2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    assert machine.find_gpus() == ("2", "0")


def test_what_is_said_is_not_looked_for(tool):
    tool("echo 0; echo 1")
    has = machine.find({"memory": 5.0, "gpu": 3.0, "licence": 1.0})
    assert has == ({"memory": 5.0, "gpu": 3.0, "licence": 1.0}, ("0", "1", "2"))


def test_gpus_of_the_other_vendor_are_found_by_its_tool(tool):
    tool("""echo '{"card0": {"GPU ID": "0x1"}, "card1": {"GPU ID": "0x1"}}'""", "rocm-smi")
    assert machine.find({"memory": 5.0}) == ({"memory": 5.0, "gpu": 2.0}, ("0", "1"))


def test_where_the_first_finds_none_the_other_is_asked(tool):
    tool("exit 9")
    tool("""echo '{"card0": {}}'""", "rocm-smi")
    assert machine.find_gpus() == ("0",)
