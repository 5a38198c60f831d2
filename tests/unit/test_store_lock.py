"""The lock file, and telling network file systems from others."""

import errno
import os
from pathlib import Path

import pytest

from farm.errors import StoreError, StoreLocked
from farm.store.lock import FileLock, file_system, refuse_network

MOUNTS = r"""/dev/a / ext4 rw 0 0
server:/home /home nfs rw 0 0
/dev/b /home/local xfs rw 0 0
//server/x /mnt/with\040space cifs rw 0 0
tmpfs /mnt/two tmpfs rw 0 0
host: /mnt/two fuse.sshfs rw 0 0
/dev/c /mnt/ntfs fuseblk rw 0 0
broken
"""


@pytest.fixture
def mounts(tmp_path):
    path = tmp_path / "mounts"
    path.write_text(MOUNTS)
    return path


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/var", "ext4"),
        ("/home/me", "nfs"),
        ("/homes/me", "ext4"),
        ("/home/local/me", "xfs"),
        ("/mnt/with space/x", "cifs"),
        ("/mnt/two/x", "fuse.sshfs"),
    ],
)
def test_the_file_system_of_a_directory(mounts, directory, kind):
    assert file_system(Path(directory), mounts) == kind


@pytest.mark.parametrize("store", ["/home/s", "/mnt/with space/s", "/mnt/two/s"])
def test_network_file_systems_are_refused_by_name(mounts, store):
    with pytest.raises(StoreError, match=store):
        refuse_network(Path(store), mounts)


@pytest.mark.parametrize("store", ["/var/s", "/home/local/s", "/mnt/ntfs/s"])
def test_disks_of_this_machine_are_fine(mounts, store):
    refuse_network(Path(store), mounts)


def test_where_mounts_are_not_listed_nothing_is_refused(tmp_path):
    refuse_network(Path("/home/s"), tmp_path / "none")


def test_one_holder_at_a_time_and_no_file_left(tmp_path):
    path, store = tmp_path / "x.lock", tmp_path / "x"
    first, second = FileLock(path, store), FileLock(path, store)
    first.acquire()
    with pytest.raises(StoreLocked, match=str(store)):
        second.acquire()
    first.release()
    first.release()
    assert not path.exists()
    second.acquire()
    assert path.exists()
    second.release()


def test_a_file_left_by_a_crash_does_not_lock(tmp_path):
    path = tmp_path / "x.lock"
    path.write_text("99999999999\n")
    lock = FileLock(path, tmp_path / "x")
    lock.acquire()
    assert "99999999999" not in path.read_text()
    lock.release()


def test_a_lock_whose_file_vanished_is_not_taken_for_ours(tmp_path, monkeypatch):
    path = tmp_path / "x.lock"
    lock = FileLock(path, tmp_path / "x")
    real, calls = lock._lock, []

    def lock_and_lose(fd):
        real(fd)
        calls.append(fd)
        if len(calls) == 1:
            path.unlink()  # as a holder does that releases between our open and our flock

    monkeypatch.setattr(lock, "_lock", lock_and_lose)
    lock.acquire()
    assert len(calls) == 2
    assert path.exists()
    lock.release()


def test_a_lock_that_a_full_disk_refused_is_free(tmp_path, monkeypatch):
    lock = FileLock(tmp_path / "lock", tmp_path / "store")

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="full"):
            lock.acquire()
    assert not (tmp_path / "lock").exists()
    lock.acquire()
    lock.release()
