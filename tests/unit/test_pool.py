"""The pool's bookkeeping of workers, without any process."""

import os
import signal
import socket

import pytest

from farm.model import Ending
from farm_workers.channel import Channel, Ends, Ready, Setup, _pack
from farm_workers.forkstart import ForkServer, ServerSettings
from farm_workers.fuses import Fuses
from farm_workers.host_slices import Slice
from farm_workers.pool import PATIENCE_SECONDS, Pool, _Worker

PART = Slice((1, 2), 3, b"s" * 16, 7, 1, b"f" * 16, [b"x"])


class Poller:
    def __init__(self):
        self.registered = {}

    def register(self, fd, flags):
        self.registered[fd] = flags

    def unregister(self, fd):
        del self.registered[fd]


class Host:
    """Gives a worker more to do whenever it hears of it, and writes down what it hears."""

    def __init__(self, pool):
        self.pool = pool
        self.heard = []

    def on_worker_ready(self, slot, now):
        self.heard.append("ready")
        self.pool.put(slot, PART)

    def on_worker_ended(self, slot, parts, now):
        self.heard.append("ended")
        self.pool.put(slot, PART)
        self.pool.kill(slot)

    def on_worker_told(self, *_):
        raise AssertionError("nobody has asked")

    def on_worker_exit(self, slot, death, now):
        self.heard.append(("exit", death.code))


@pytest.fixture
def pool():
    made = Pool(1, Setup("h"), ForkServer(ServerSettings()), Poller(), Fuses(None))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("words", "heard"),
    [
        ([Ready()], ["ready"]),
        ([Ready(), Ends([PART.end(7, 1, Ending.OK, [b"r"])])], ["ready", "ended"]),
    ],
    ids=["ready", "ended"],
)
def test_a_worker_whose_last_words_bring_it_more_work_is_gone_all_the_same(pool, words, heard):
    ours, theirs = socket.socketpair()
    worker = pool._workers[0] = _Worker(Channel(ours))
    for end in pool.outputs.open(0):
        os.close(end)
    pool._slots[ours.fileno()] = 0
    before = dict(pool._poller.registered)
    pool._watch(worker, 1.0)
    with theirs:
        for message in words:
            theirs.sendall(b"".join(_pack(message)))
    host = Host(pool)
    pool._exited(host, 1.0, 0, -signal.SIGKILL, 0)
    assert host.heard == [*heard, ("exit", -signal.SIGKILL)]
    assert pool._poller.registered == before
    assert pool._slots == pool._workers == {}


def test_a_worker_that_ended_while_it_was_given_more_is_heard(pool):
    ours, theirs = socket.socketpair()
    worker = pool._workers[0] = _Worker(Channel(ours))
    for end in pool.outputs.open(0):
        os.close(end)
    pool._slots[ours.fileno()] = 0
    with theirs:
        theirs.sendall(b"".join(_pack(Ends([PART.end(7, 1, Ending.OK, [b"r"])]))))
    host = Host(pool)
    pool.put(0, PART)
    pool.watch(1.0)
    assert worker.kill_at == 1.0 + PATIENCE_SECONDS
    pool._exited(host, 1.0, 0, -signal.SIGKILL, 0)
    assert host.heard == ["ended", ("exit", -signal.SIGKILL)]
