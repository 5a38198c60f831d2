"""What the agent does with workers: their output, their memory, their kin."""

import os
import select
import signal
import subprocess
import sys
import threading

import pytest

from farm_workers import kin
from farm_workers.memory import private_bytes, tree_bytes
from farm_workers.output import TAIL_BYTES, WAITING_BYTES_MAX, Forwarder, Outputs

MIB = 1 << 20


class Poller:
    def __init__(self):
        self.fds = set()

    def register(self, fd, flags):
        self.fds.add(fd)

    def unregister(self, fd):
        self.fds.remove(fd)


@pytest.fixture
def written(monkeypatch):
    """Instead of this process's own streams: what is written, as long as ``going`` is set."""
    going = threading.Event()
    going.set()
    found = []

    def write(stream, data):
        going.wait(20)
        found.append((stream, bytes(data)))
        return len(data)

    monkeypatch.setattr("farm_workers.output.os.write", write)
    found_and_going = found, going
    yield found_and_going
    going.set()


def put(fd, data):
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)


def test_what_is_printed_is_passed_on_and_its_end_is_kept(written):
    outputs = Outputs(Poller())
    out, err = outputs.open(0)
    put(out, b"hello ")
    put(err, b"world")
    assert outputs.take(0) == b"hello world"
    assert outputs.take(0) == b""
    outputs.forwarder.finish(20)
    assert written[0] == [(1, b"hello "), (2, b"world")]
    put(err, b"the end")
    os.close(out)
    os.close(err)
    assert outputs.close(0) == b"the end"


def test_a_worker_that_can_write_no_more_is_no_reason_to_come_again(written):
    outputs = Outputs(Poller())
    out, err = outputs.open(0)
    put(out, b"the last")
    os.close(out)
    outputs.on_event()
    assert select.select([outputs.fd], [], [], 0)[0] == []
    put(err, b" words")
    assert select.select([outputs.fd], [], [], 0)[0] == [outputs.fd]
    os.close(err)
    outputs.on_event()
    assert select.select([outputs.fd], [], [], 0)[0] == []
    assert outputs.close(0) == b"the last words"


def test_only_so_much_is_kept(written):
    outputs = Outputs(Poller())
    ends = outputs.open(0)
    for n in range(100):
        put(ends[0], bytes([n]) * 5000)
        outputs.read(0)
    tail = outputs.take(0)
    assert len(tail) == TAIL_BYTES
    assert tail[-1] == 99
    for fd in ends:
        os.close(fd)


def test_too_much_that_waits_to_be_written_is_not_read(written):
    _, going = written
    poller = Poller()
    outputs = Outputs(poller)
    ends = outputs.open(0)
    polled = {outputs.fd}
    assert poller.fds == polled
    going.clear()
    for _ in range(2 + WAITING_BYTES_MAX // 60_000):
        put(ends[0], b"x" * 60_000)
        outputs.read(0)
    put(ends[1], b"stays in the pipe")
    assert not outputs.take(0).endswith(b"pipe")
    outputs.listen()
    assert poller.fds == set()
    assert outputs.next_deadline(5.0) > 5.0
    going.set()
    outputs.forwarder.finish(20)
    outputs.listen()
    assert poller.fds == polled
    for fd in ends:
        os.close(fd)
    assert outputs.close(0)[-17:] == b"stays in the pipe"


@pytest.fixture
def child():
    """A process that has memory of its own and a child with a session of its own."""
    code = (
        "import os, subprocess, sys, time\n"
        "data = bytearray(os.urandom(1)) * (80 << 20)\n"
        "subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "if os.fork() == 0: time.sleep(1000)\n"
        "print('up', flush=True)\n"
        "time.sleep(1000)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    yield process
    kin.kill(process.pid)
    process.wait(20)
    process.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_that_a_family_shares_counts_once(child):
    own = private_bytes(child.pid)
    assert own > 30 * MIB  # a half of what it shares with its fork
    assert 80 * MIB < tree_bytes(child.pid, 100 * MIB) < 100 * MIB
    assert tree_bytes(child.pid, 1 << 40) > 160 * MIB  # a bound, and cheap
    assert private_bytes(2**22 + 5) == 0


def test_all_of_a_family_are_asked_to_end(child):
    family = {child.pid, *kin.descendants(child.pid)}
    assert len(family) == 3
    assert kin.terminate(child.pid) == family
    assert child.wait(20) == -signal.SIGTERM


def test_all_is_passed_on_though_our_stream_takes_it_in_pieces_and_does_not_wait():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    said = b"x" * MIB
    forwarder = Forwarder()
    forwarder.put(writing, said)
    with os.fdopen(reading, "rb") as file, os.fdopen(writing, "wb"):
        os.set_blocking(reading, False)
        heard = bytearray()
        while len(heard) < len(said) and select.select([reading], [], [], 20)[0]:
            heard += file.read1(MIB)
        assert heard == said
        forwarder.finish(20)
