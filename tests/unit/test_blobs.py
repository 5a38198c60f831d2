"""Blobs: files written, named, read, given up and written again, by peers and the coordinator."""

import gc
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from farm.blobs import Blobs, Held, Sharing, inlined
from farm.blobs import folder as blobs_folder
from farm.blobs import writer as blobs_writer
from farm.blobs.layout import FREE, KEPT, PEERS, TOKEN_NAME, free_class, identity, is_own
from farm.coordinator import blobs as coordinator_blobs
from farm.coordinator.blobs import BlobFolder, temporary_folder
from farm.errors import PayloadError
from farm.model import BLOB_BYTES, Blob, Ending
from farm.payload import PAYLOAD_BYTES_MAX, dump_call, dump_value, load_call, load_value
from farm.protocol.messages import Assign, Grant, Group, HostWelcome, Result, Results, Submit
from farm.protocol.records import Arguments, Buried, Finished, Submitted

LARGE = bytes(range(256)) * (BLOB_BYTES // 128)
SESSION = b"s" * 16


class Point:
    """Travels by name."""

    def __init__(self, data):
        self.data = data


@pytest.fixture
def folder(tmp_path):
    made = BlobFolder.open(tmp_path / "blobs", 7)
    yield made
    made.close()


@pytest.fixture
def join(folder):
    return lambda: Blobs.join(str(folder.root), folder.token)


def files(folder, kind):
    return sorted(p.name for p in (folder.root / kind).rglob("*") if p.is_file())


def submit(*payloads):
    size = sum(map(len, payloads))
    return Submit([Group(1, len(payloads), b"f" * 16, list(payloads), size)])


def results(*payloads):
    size = sum(map(len, payloads))
    return Results(1, 1, [Result(SESSION, 1, len(payloads), Ending.OK, list(payloads), size)])


def adopted(folder, blobs, *payloads):
    message = submit(*payloads)
    folder.adopt(blobs.own, message)
    return message.groups[0].payloads


def read(blob):
    with blob.open() as file:
        return file.read(blob.size)


# ---------------------------------------------------------------- one process


def test_a_small_payload_stays_in_memory_and_a_large_one_goes_into_a_file(join):
    blobs = join()
    small, large = b"x" * (BLOB_BYTES - 1), b"x" * BLOB_BYTES
    assert blobs.keep(small) == small
    kept = blobs.keep(large)
    assert len(kept) == BLOB_BYTES
    assert read(kept) == large


@pytest.mark.parametrize(
    "value",
    [
        LARGE,
        LARGE.decode("latin1"),
        bytearray(LARGE),
        [*range(99_999)],
        Point(LARGE),
        (1, LARGE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_is_large_comes_back_from_its_file(join, value):
    blobs = join()
    dumped = dump_value(value, blobs)
    assert isinstance(dumped, Held)
    loaded = load_value(dumped)
    assert getattr(loaded, "data", loaded) == getattr(value, "data", value)
    call = dump_call((value,), {"key": 1}, blobs)
    assert isinstance(call, Held)
    (again,), kwargs = load_call(call)
    assert getattr(again, "data", again) == getattr(value, "data", value)
    assert kwargs == {"key": 1}


def test_what_is_large_inside_and_travels_by_value_is_pickled_so(join):
    class Local:
        data = LARGE

    thing = [Local, bytearray(LARGE)]
    loaded = load_value(dump_value(thing, join()))
    assert loaded[0].data == LARGE


def test_what_cannot_travel_leaves_no_file(join, folder):
    with pytest.raises(PayloadError):
        dump_call((LARGE, (one for one in ())), {}, join())
    gc.collect()
    assert [name for name in files(folder, PEERS) if name != "lock"] == []


def test_a_payload_above_the_limit_is_not_written_whole(join, folder):
    blobs = join()
    writer = blobs.begin(0)
    for _ in range(PAYLOAD_BYTES_MAX // len(LARGE) + 1):
        writer.write(LARGE)
    assert len(writer.finish()) > PAYLOAD_BYTES_MAX
    assert [name for name in files(folder, PEERS) if name != "lock"] == []


def test_a_file_is_written_again_when_its_last_name_is_gone(join, folder, monkeypatch):
    monkeypatch.setattr(blobs_folder, "_LOOK_SECONDS", 0.0)
    blobs = join()
    kept = blobs.keep(LARGE)
    inode = (folder.root / kept.name).stat().st_ino
    [own] = adopted(folder, blobs, kept)
    del kept
    assert files(folder, FREE) == []  # the coordinator has it
    folder.release([own.name])
    assert len(files(folder, FREE)) == 1
    again = blobs.keep(LARGE[::-1])
    assert (folder.root / again.name).stat().st_ino == inode
    assert read(again) == LARGE[::-1]


def test_a_free_file_with_another_name_is_not_written(join, folder):
    blobs = join()
    kept = blobs.keep(LARGE)
    del kept
    [free] = (folder.root / FREE).rglob("*.1")
    (folder.root / "reader").hardlink_to(free)
    again = blobs.keep(LARGE[::-1])
    assert (folder.root / "reader").read_bytes() == LARGE
    assert read(again) == LARGE[::-1]


def test_a_reader_keeps_what_the_owner_lets_go(join, folder):
    writer, reader = join(), join()
    [own] = adopted(folder, writer, writer.keep(LARGE))
    held = reader.secure(own)
    folder.release([own.name])
    other = [writer.keep(LARGE[::-1]) for _ in range(3)]
    assert read(held) == LARGE
    assert all(read(one) == LARGE[::-1] for one in other)


def test_many_threads_and_processes_share_the_free_files(join, folder):
    writers = [join(), join()]
    for one in [writers[0].keep(LARGE) for _ in range(8)]:
        del one

    def write(number):
        blobs = writers[number % 2]
        data = number.to_bytes(4, "big") * (BLOB_BYTES // 4)
        kept = blobs.keep(data)
        return read(kept) == data

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(write, range(200)))


def test_a_missing_and_a_short_file_are_named(join, folder):
    blobs = join()
    kept, cut = blobs.keep(LARGE), blobs.keep(LARGE)
    (folder.root / kept.name).unlink()
    os.truncate(f"{blobs.root}/{cut.name}", 1000)
    with pytest.raises(PayloadError, match=f"{kept.name} is lost"):
        load_value(kept)
    with pytest.raises(PayloadError, match=f"{cut.name} is damaged"):
        load_value(cut)
    gone = Blob("kept/1", BLOB_BYTES)
    with pytest.raises(PayloadError, match="kept/1"):
        load_value(blobs.secure(gone))


def test_a_full_disk_leaves_the_payload_in_memory(join, monkeypatch):
    blobs = join()
    real, left = os.write, [3]

    def full(fd, data):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", full)
    data = LARGE * 20
    assert blobs.keep(data) == data
    assert blobs.keep(data) == data  # nor is it tried again at once
    assert left[0] == -1


def test_detached_results_outlive_the_folder(join, folder):
    blobs = join()
    [own] = adopted(folder, blobs, blobs.keep(dump_value(LARGE)))
    held = blobs.secure(own)
    blobs.detach()
    for path in sorted(folder.root.rglob("*"), reverse=True):
        if path.is_file():
            path.unlink()
    assert load_value(held) == LARGE
    assert load_value(held) == LARGE


def test_the_copy_of_a_forked_process_lets_nothing_go(join, folder):
    blobs = join()
    kept = blobs.keep(LARGE)
    pid = os.fork()
    if not pid:
        del kept
        gc.collect()
        os._exit(0)
    os.waitpid(pid, 0)
    assert read(kept) == LARGE


# ---------------------------------------------------------------- who shares


def test_only_who_sees_this_very_folder_shares_it(folder, tmp_path):
    root = str(folder.root)
    assert Blobs.join("", b"") is None
    assert Blobs.join(root, b"another") is None
    assert Blobs.join(str(tmp_path / "nowhere"), folder.token) is None
    (folder.root / TOKEN_NAME).write_bytes(identity(folder.token) + b"another machine")
    assert Blobs.join(root, folder.token) is None


def test_a_peer_that_leaves_takes_its_folder_along(join, folder):
    blobs = join()
    assert (folder.root / blobs.own).is_dir()
    own = folder.root / blobs.own
    del blobs
    assert not own.exists()


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("kept/1", "kept"),
        ("peers/0123456789abcdef/../x", "peers/0123456789abcdef"),
        ("peers/0123456789abcdee/1", "peers/0123456789abcdef"),
        ("/etc/passwd", ""),
        ("peers/0123456789abcdef/lock", "peers/0123456789abcdef/"),
    ],
)
def test_a_peer_can_name_its_own_files_only(name, own):
    assert not is_own(name, own)
    assert is_own("peers/0123456789abcdef/in1.2", "peers/0123456789abcdef")


def test_a_foreign_name_is_nothing(join, folder):
    mine, other = join(), join()
    kept = other.keep(LARGE)
    [taken] = adopted(folder, mine, kept)
    assert isinstance(taken, Blob)
    with pytest.raises(PayloadError):
        taken.open()


def test_messages_for_others_have_the_bytes(join, folder):
    blobs = join()
    payloads = adopted(folder, blobs, b"small", blobs.keep(LARGE))
    grant = Grant(1, 1, SESSION, 1, 2, b"f" * 16, payloads, 5 + len(LARGE))
    sent = folder.outgoing("", Assign(7, [grant]))
    assert sent.grants[0].payloads == [b"small", LARGE]
    assert grant.payloads is payloads  # the record of them is not changed
    assert folder.outgoing(blobs.own, Assign(7, [grant])).grants[0].payloads is payloads


def test_what_was_written_for_one_coordinator_is_sent_to_the_next_as_bytes(folder, tmp_path):
    next_folder = BlobFolder.open(tmp_path / "next", 8)
    sharing = Sharing()
    assert sharing.welcome(str(folder.root), folder.token).own == sharing.blobs.own
    kept = sharing.blobs.keep(LARGE)
    assert sharing.outgoing(submit(kept)).groups[0].payloads == [kept]
    assert sharing.welcome(str(next_folder.root), next_folder.token) is not None
    assert sharing.outgoing(submit(kept)).groups[0].payloads == [LARGE]
    assert sharing.welcome("", b"") is None
    assert sharing.outgoing(submit(kept)).groups[0].payloads == [LARGE]
    next_folder.close()


def test_a_coordinator_that_comes_back_is_joined_under_the_old_name(folder):
    sharing = Sharing()
    before = sharing.welcome(str(folder.root), folder.token)
    folder.close()
    again = BlobFolder.open(folder.root, 8)
    assert sharing.welcome(str(again.root), again.token) == before
    again.close()


def test_results_are_secured_as_they_come(join, folder):
    sharing = Sharing()
    sharing.welcome(str(folder.root), folder.token)
    payloads = adopted(folder, sharing.blobs, sharing.blobs.keep(LARGE))
    message = results(*payloads)
    sharing.secure(message)
    folder.release([payloads[0].name])
    assert read(message.entries[0].payloads[0]) == LARGE


def test_a_message_without_blobs_is_the_same_message():
    message = submit(b"x" * BLOB_BYTES, b"y")
    assert inlined(message, lambda _: b"") is message


def test_the_welcome_names_the_folder(folder):
    welcome = HostWelcome(1, "", 7, b"", 1, 1.0, 1.0, [])
    folder.outgoing("", welcome)
    assert (welcome.blobs, welcome.blobs_token) == (str(folder.root), folder.token)


# ---------------------------------------------------------------- the coordinator's side


def test_what_no_record_names_is_let_go_at_the_start(join, folder):
    blobs = join()
    live, _ = adopted(folder, blobs, blobs.keep(LARGE), blobs.keep(LARGE[::-1]))
    folder.close()
    again = BlobFolder.open(folder.root, 8)
    again.clean({live.name})
    assert files(again, KEPT) == [Path(live.name).name]
    assert len(files(again, FREE)) == 1
    assert read(blobs.secure(live)) == LARGE
    again.close()


def test_names_of_two_coordinators_differ(join, folder):
    blobs = join()
    kept = blobs.keep(LARGE)
    [first] = adopted(folder, blobs, kept)
    again = BlobFolder.open(folder.root, 8)
    [second] = adopted(again, blobs, kept)
    assert first.name != second.name
    again.close()


def test_what_a_record_names_is_synced_with_its_name(join, folder, monkeypatch):
    synced = []
    monkeypatch.setattr(coordinator_blobs, "_sync", lambda fd: synced.append(os.fstat(fd).st_ino))
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
    blobs = join()
    [kept] = adopted(folder, blobs, blobs.keep(LARGE))
    record = Finished(1.0, results(kept, Blob("kept/gone", BLOB_BYTES)).entries)
    folder.begin_sync([record])
    folder.sync([record])
    path = folder.root / kept.name
    assert synced == [path.stat().st_ino, (folder.root / KEPT).stat().st_ino]
    folder.begin_sync([Finished(1.0, results(b"small").entries)])
    folder.sync([Finished(1.0, results(b"small").entries)])
    assert len(synced) == 2


@pytest.mark.parametrize("durable", [True, False])
def test_the_disk_begins_with_results_that_will_be_waited_for(tmp_path, monkeypatch, durable):
    begun = []
    begin = blobs_writer.begin_writeback

    def note(fd):
        begun.append(os.fstat(fd).st_ino)
        begin(fd)

    monkeypatch.setattr(blobs_writer, "begin_writeback", note)
    BlobFolder.open(tmp_path / "blobs", 6, durable=not durable).close()
    folder = BlobFolder.open(tmp_path / "blobs", 7, durable=durable)
    agent = Blobs.join(str(folder.root), folder.token)
    worker = Blobs.for_results(agent.root, agent.own, "1-")
    worker.keep(b"small")
    results = [worker.keep(LARGE), dump_value(LARGE, worker)]
    arguments = agent.keep(LARGE)
    inodes = [(folder.root / one.name).stat().st_ino for one in (*results, arguments)]
    assert begun == (inodes[:2] if durable else [])
    assert [read(results[0]), load_value(results[1])] == [LARGE, LARGE]
    folder.close()


def test_arguments_that_nobody_will_read_are_not_synced(join, folder, monkeypatch):
    """Those of tasks of which the outcome is committed together with them, and none is dead."""
    synced = []
    monkeypatch.setattr(coordinator_blobs, "_sync", lambda fd: synced.append(os.fstat(fd).st_ino))
    blobs = join()
    payloads = adopted(folder, blobs, *[blobs.keep(LARGE) for _ in range(5)])
    single = Group(5, 4, b"f", payloads[:4], 4 * len(LARGE))
    packed = Group(9, 3, b"f", payloads[4:], len(LARGE), packed=True)
    submitted = Submitted(SESSION, 1.0, [single, packed], 1)
    ends = [Result(SESSION, a, n, Ending.OK, [b""] * n) for a, n in ((5, 1), (7, 1), (9, 2))]
    rest = Result(SESSION, 11, 1, Ending.CANCELLED, [])
    other = Result(b"another", 5, 9, Ending.CANCELLED, [])
    dead = Buried(1.0, SESSION, Group(7, 1, b"f", payloads[2:3], len(LARGE)), "", [])
    common = Arguments(SESSION, packed)

    def needed(*records):
        synced.clear()
        folder.begin_sync(records)
        folder.sync(records)
        inodes = [(folder.root / one.name).stat().st_ino for one in payloads]
        return sorted(inodes.index(one) for one in synced)

    assert needed(submitted) == [0, 1, 2, 3, 4]
    assert needed(submitted, Finished(2.0, ends)) == [1, 3, 4]
    assert needed(submitted, Finished(2.0, ends), Finished(2.0, [rest])) == [1, 3]
    assert needed(submitted, dead, Finished(2.0, ends)) == [1, 2, 3, 4]
    assert needed(submitted, common, Finished(2.0, [*ends, rest])) == [1, 3, 4]
    assert needed(submitted, Finished(2.0, [other])) == [0, 1, 2, 3, 4]


def test_a_sync_that_fails_ends_the_coordinator(join, folder, monkeypatch):
    def fail(_fd):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(coordinator_blobs, "_sync", fail)
    blobs = join()
    [kept] = adopted(folder, blobs, blobs.keep(LARGE))
    record = Finished(1.0, results(kept).entries)
    folder.begin_sync([record])
    with pytest.raises(coordinator_blobs.StoreFailed, match="could not be synced"):
        folder.sync([record])


def test_free_files_are_bounded(join, folder, monkeypatch):
    blobs = join()
    monkeypatch.setattr(coordinator_blobs, "FREE_BYTES_MAX", 3 * len(LARGE))
    monkeypatch.setattr(coordinator_blobs, "TRIM_BYTES", 0)
    names = [one.name for one in adopted(folder, blobs, *[blobs.keep(LARGE) for _ in range(8)])]
    folder.release(names)
    folder._trim(3 * len(LARGE))
    assert len(files(folder, FREE)) == 3
    folder.give_up_free()
    assert files(folder, FREE) == []


def test_only_what_a_peer_that_is_gone_has_left_is_removed(join, folder):
    alive, gone = join(), join()
    kept = alive.keep(LARGE)
    left = gone.keep(LARGE)
    [own] = adopted(folder, gone, left)
    path = folder.root / gone.own
    left.give()  # nobody lets go of it
    del gone, left
    (path / "lock").touch()
    folder.sweep(time.monotonic())
    assert not path.exists()
    assert read(kept) == LARGE
    assert read(alive.secure(own)) == LARGE


def test_what_a_killed_coordinator_left_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed, lock = temporary_folder()
    alive, other = temporary_folder()
    assert killed.exists()
    os.close(lock)
    third, last = temporary_folder()
    assert (killed.exists(), alive.exists(), third.exists()) == (False, True, True)
    os.close(other)
    os.close(last)


def test_a_folder_removed_under_the_coordinator_costs_what_was_in_it(join, folder):
    blobs = join()
    [kept] = adopted(folder, blobs, blobs.keep(LARGE))
    shutil.rmtree(folder.root)
    record = Finished(1.0, results(kept).entries)
    folder.begin_sync([record])
    folder.sync([record])
    folder.release([kept.name])
    folder.give_up_free()
    folder.sweep(time.monotonic())
    assert blobs.keep(LARGE) == LARGE
    [lost] = adopted(folder, blobs, kept)
    with pytest.raises(PayloadError):
        lost.open()


def test_a_folder_that_cannot_be_is_done_without(tmp_path, caplog):
    (tmp_path / "file").touch()
    assert BlobFolder.open(tmp_path / "file", 7) is None
    assert "large payloads are copied" in caplog.text


@pytest.mark.parametrize(("size", "wanted"), [(1, 17), (1 << 17, 17), ((1 << 17) + 1, 18)])
def test_free_files_are_sorted_by_size(size, wanted):
    assert free_class(size) == wanted
    assert free_class(1 << 40) == 26


@pytest.mark.parametrize("left", ["", "\n"])
def test_a_folder_whose_token_a_crash_has_emptied_is_used_with_another(tmp_path, left):
    BlobFolder.open(tmp_path / "blobs", 7).close()
    (tmp_path / "blobs" / "token").write_text(left)
    again = BlobFolder.open(tmp_path / "blobs", 8)
    assert len(again.token) == 16
    again.close()
