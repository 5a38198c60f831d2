"""Where memory cgroups may be made, and what one says, on trees of files like the system's."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from farm_workers import cgroups
from farm_workers.cgroups import MAIN, Group, Place

V1 = "25 20 0:22 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
V2 = "30 20 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
OTHERS = (
    "21 20 0:5 / /proc rw - proc proc rw\n26 20 0:23 / /sys/fs/cgroup/cpu rw - cgroup c rw,cpu\n"
)


@pytest.fixture
def machine(tmp_path):
    """Makes a machine: the text of its files, and folders that are groups."""

    def make(own, mounts, groups=(), **files):
        texts = {"proc/self/cgroup": own, "proc/self/mountinfo": OTHERS + mounts}
        for group in groups:
            texts[f"{group}/cgroup.procs"] = ""
        for path, text in (texts | files).items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return tmp_path

    return make


def find(root, *delegated):
    """The version and folder found below the root; ``delegated`` folders are marked so."""
    found = cgroups.find(str(root), lambda folder: os.path.relpath(folder, root) in delegated)
    return found and (found.version, os.path.relpath(found.folder, root))


# ---------------------------------------------------------------- where


def test_version_1_gives_the_own_group_of_its_memory_hierarchy(machine):
    own = "12:cpu,cpuacct:/c\n4:memory:/user/a\n0::/u\n"
    root = machine(own, V1 + V2, ["sys/fs/cgroup/memory/user/a"])
    assert find(root) == (1, "sys/fs/cgroup/memory/user/a")


def test_a_container_sees_its_own_part_of_the_hierarchy_at_the_mount(machine):
    mount = V1.replace(" / /sys", " /docker/x /sys")
    root = machine("4:memory:/docker/x/inner\n", mount, ["sys/fs/cgroup/memory/inner"])
    assert find(root) == (1, "sys/fs/cgroup/memory/inner")


@pytest.mark.parametrize("path", ["/docker/x", "/../x", ""])
def test_a_group_that_is_not_seen_is_none(machine, path):
    root = machine(
        f"4:memory:{path}\n", V1.replace(" / /sys", " /y /sys"), ["sys/fs/cgroup/memory"]
    )
    assert find(root) is None


def test_no_proc_or_no_cgroups_are_none(machine, tmp_path):
    assert find(tmp_path) is None
    assert find(machine("4:memory:/a\n", "")) is None
    assert find(machine("0::/a\n", "")) is None
    assert find(machine("\n::\nnonsense\n", V1 + V2 + "short - cgroup2\n")) is None


def test_a_group_that_cannot_be_written_is_none(machine, monkeypatch):
    root = machine("4:memory:/\n", V1, ["sys/fs/cgroup/memory"])
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: "memory" not in str(path) and access(path, mode)
    )
    assert find(root) is None


@pytest.mark.parametrize(
    ("own", "delegated", "found"),
    [
        ("/s/u.service", ["s/u.service"], "s/u.service"),
        ("/s/u.service", [], None),  # what systemd has not given away is systemd's
        ("/s/u.service/main", ["s/u.service"], "s/u.service"),  # DelegateSubgroup=main
        ("/s/u.service/main", ["s/u.service", "s/u.service/main"], "s/u.service/main"),
        ("/s/u.service/a/b", ["s/u.service"], None),
        (f"/s/u.service/{MAIN}", [], "s/u.service"),  # another agent has moved it
        ("/", [], "."),  # all there is: a container, or a machine that nobody manages
    ],
)
def test_version_2_gives_what_was_delegated(machine, own, delegated, found):
    top = "sys/fs/cgroup"
    groups = ["", "s", "s/u.service", "s/u.service/main", "s/u.service/a/b", f"s/u.service/{MAIN}"]
    files = {f"{top}/{g}/cgroup.controllers": "cpu memory pids\n" for g in groups}
    root = machine(f"0::{own}\n", V2, [f"{top}/{group}" for group in groups], **files)
    expected = found and (2, os.path.normpath(f"{top}/{found}"))
    assert find(root, *(f"{top}/{group}" for group in delegated)) == expected


def test_version_2_without_the_memory_controller_gives_none(machine):
    files = {"sys/fs/cgroup/cgroup.controllers": "cpu pids\n"}
    assert find(machine("0::/\n", V2, ["sys/fs/cgroup"], **files)) is None


# ---------------------------------------------------------------- making room for groups


def test_processes_move_out_of_the_way_of_version_2(tmp_path, monkeypatch):
    """The kernel refuses limited groups below one with processes, which start others meanwhile."""
    (tmp_path / "cgroup.subtree_control").write_text("pids\n")
    (tmp_path / "cgroup.procs").write_text("11\n12\n")
    moved = []
    come = iter(["13\n", ""])

    def write(path, value):
        if path.name == "cgroup.subtree_control":
            if (tmp_path / "cgroup.procs").read_text():
                raise OSError(errno.EBUSY, "busy")
            path.write_text("pids memory\n")
            return
        assert path == tmp_path / MAIN / "cgroup.procs"
        moved.append(value)
        if value == "11":
            raise ProcessLookupError  # it has ended
        (tmp_path / "cgroup.procs").write_text(next(come))

    monkeypatch.setattr(cgroups, "_write", write)
    cgroups._open_up(tmp_path)
    assert moved == ["11", "12", "13"]
    cgroups._open_up(tmp_path)  # nothing more to do
    assert moved == ["11", "12", "13"]


def test_processes_of_another_container_stay_where_they_are(tmp_path, monkeypatch):
    (tmp_path / "cgroup.subtree_control").write_text("")
    (tmp_path / "cgroup.procs").write_text("11\n0\n")

    def write(path, value):
        assert path.name == "cgroup.subtree_control", (path, value)
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(cgroups, "_write", write)
    with pytest.raises(PermissionError):
        cgroups._open_up(tmp_path)


def test_the_groups_of_the_dead_are_removed_and_those_of_the_living_are_not(tmp_path):
    dead, living, other = (tmp_path / name for name in ("farm-1-ab", "farm-2-cd", "farm-main"))
    for folder in (dead / "0.1", dead / "1.7", living / "0.1", other):
        folder.mkdir(parents=True)
    held = cgroups.lock(str(living))
    assert held >= 0
    assert cgroups.lock(str(living)) == -1
    cgroups.tidy(Place(1, str(tmp_path)))
    assert not dead.exists()
    assert (living / "0.1").exists()
    assert other.exists()
    os.close(held)
    cgroups.tidy(Place(1, str(tmp_path)))
    assert not living.exists()
    cgroups.tidy(Place(1, str(tmp_path / "none")))


def test_what_is_still_in_a_group_that_is_removed_is_ended(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        (tmp_path / "farm-1-ab").mkdir()
        (tmp_path / "farm-1-ab/cgroup.procs").write_text(f"0\n{os.getpid()}\n{child.pid}\n")
        assert not cgroups.remove(str(tmp_path / "farm-1-ab"))  # a folder of files stays
        assert child.wait(20) == -9


# ---------------------------------------------------------------- a group


def group(folder, version, **files):
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return Group(version, str(folder))


STAT = "cache 900\nrss 50\ninactive_file 600\nactive_file 200\n"


@pytest.mark.parametrize(("version", "name"), [(1, "usage_in_bytes"), (2, "current")])
def test_pages_of_files_are_no_part_of_the_floor(tmp_path, version, name):
    made = group(tmp_path, version, memory__stat=STAT, **{f"memory__{name}": "1000\n"})
    assert (made.usage(), made.floor()) == (1000, 200)


def test_the_limit_of_version_2_leaves_nothing_to_swap(tmp_path):
    made = group(tmp_path, 2, memory__max="max\n", memory__swap__max="max\n")
    made.limit(500)
    assert (tmp_path / "memory.max").read_text()[:3] == "500"
    assert (tmp_path / "memory.swap.max").read_text()[:1] == "0"
    (tmp_path / "memory.swap.max").unlink()  # a kernel without swap
    made.limit(700)
    assert (tmp_path / "memory.max").read_text()[:3] == "700"


class OldKernel:
    """Version 1: the limit of memory is never above that of memory and swap together."""

    def __init__(self, monkeypatch):
        self.limits = {"memory.limit_in_bytes": -1, "memory.memsw.limit_in_bytes": -1}
        monkeypatch.setattr(cgroups, "_write", self.write)

    def write(self, path, value):
        name = Path(path).name
        if name not in self.limits:
            raise FileNotFoundError(errno.ENOENT, name)
        after = self.limits | {name: int(value)}
        memory, both = [v if v >= 0 else float("inf") for v in [*after.values(), -1][:2]]
        if len(self.limits) > 1 and memory > both:
            raise OSError(errno.EINVAL, name)
        self.limits = after


@pytest.mark.parametrize("sizes", [[500, 900, 300, -1, 400, -1]])
def test_the_limits_of_version_1_go_up_and_down_together(tmp_path, monkeypatch, sizes):
    kernel = OldKernel(monkeypatch)
    made = Group(1, str(tmp_path))
    for size in sizes:
        made.limit(size)
        assert set(kernel.limits.values()) == {size}
    del kernel.limits["memory.memsw.limit_in_bytes"]  # a kernel that does not count swap
    for size in sizes:
        made.limit(size)
        assert set(kernel.limits.values()) == {size}


@pytest.mark.parametrize(
    ("kills", "most", "both", "found"),
    [
        (0, 500 << 20, 500 << 20, (0, False)),
        (2, 500 << 20, 500 << 20, (2, True)),
        (2, (500 << 20) - 4096, 0, (2, True)),
        (2, 0, 500 << 20, (2, True)),  # what it had swapped out counts
        (2, 300 << 20, 300 << 20, (2, False)),  # the machine ran out of memory
    ],
)
def test_version_1_tells_its_own_limit_from_others(tmp_path, kills, most, both, found):
    made = group(
        tmp_path,
        1,
        memory__oom_control=f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n",
        memory__max_usage_in_bytes=f"{most}\n",
        memory__limit_in_bytes=f"{500 << 20}\n",
        memory__memsw__max_usage_in_bytes=f"{both}\n",
        memory__memsw__limit_in_bytes=f"{500 << 20}\n",
    )
    assert made.ooms() == found


def test_a_kernel_that_does_not_count_what_it_ends_says_nothing(tmp_path):
    made = group(tmp_path, 1, memory__oom_control="oom_kill_disable 0\nunder_oom 0\n")
    assert made.ooms() == (0, False)


@pytest.mark.parametrize(("oom", "kills", "found"), [(1, 2, True), (0, 2, False), (3, 0, False)])
def test_version_2_tells_its_own_limit_from_others(tmp_path, oom, kills, found):
    events = f"low 0\nhigh 0\nmax 9\noom {oom}\noom_kill {kills}\noom_group_kill 0\n"
    assert group(tmp_path, 2, memory__events=events).ooms() == (kills, found)
