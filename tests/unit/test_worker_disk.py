"""When a host's disk counts as full."""

import os
from types import SimpleNamespace

import pytest

from farm_workers import disk
from farm_workers.disk import Disk

MIB = 1 << 20


@pytest.fixture
def space(monkeypatch):
    """A disk of 10 GiB whose state can be set."""
    found = SimpleNamespace(f_bavail=5120, f_blocks=10240, f_frsize=MIB, f_files=1000, f_favail=10)
    monkeypatch.setattr(disk.os, "statvfs", lambda _: found)
    return found


def test_it_is_full_below_a_bound_and_not_again_just_above_it(space):
    here = Disk("/x")
    assert here.look(0.0) == ""
    space.f_bavail = 63
    assert here.look(0.5) == ""  # not so soon
    assert "the disk of /x, for temporary files, is full" in here.look(1.0)
    space.f_bavail = 100
    assert here.look(2.0)
    space.f_bavail = 128
    assert here.look(3.0) == ""
    assert here.next_deadline() == 4.0


def test_a_small_disk_need_not_have_so_much(space):
    space.f_blocks, space.f_bavail = 100, 6
    assert Disk("/x").look(0.0) == ""
    space.f_bavail = 4
    assert "is full" in Disk("/x").look(0.0)


def test_files_run_out_too_where_they_are_counted(space):
    space.f_favail = 0
    assert "another file" in Disk("/x").look(0.0)
    space.f_files = 0
    assert Disk("/x").look(0.0) == ""


def test_a_folder_that_is_not_there_is_trouble(tmp_path):
    assert "cannot be used" in Disk(str(tmp_path / "no")).look(0.0)
    assert Disk(str(tmp_path)).look(0.0) == "" or os.statvfs(tmp_path).f_bavail < 1000


def test_the_folder_is_that_of_the_tasks(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    assert str(tmp_path) in Disk().look(0.0)
