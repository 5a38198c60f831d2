"""The pool's bookkeeping of workers, without any process."""

import errno
import itertools
import os
import signal
import socket
import subprocess
import sys

import pytest

from farm.model import Ending
from farm_workers.channel import Channel, Ends, Ready, Setup, _pack
from farm_workers.forkstart import ANSWER, ASK, EXIT_FORK, Ask, ForkServer, ServerSettings
from farm_workers.fuses import Fuses
from farm_workers.host_slices import Slice
from farm_workers.pool import PATIENCE_SECONDS, Pool, _Worker
from farm_workers.stacks import Stacks

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


def fds():
    return sorted(os.listdir("/dev/fd"))  # noqa: PTH208 - names only


class Undertaker(Host):
    def on_worker_exit(self, slot, death, now):
        self.heard.append((slot, death.code, death.error))


def nth(number, function):
    """The function, but for one call."""
    calls = itertools.count()

    def call(*arguments, **more):
        if next(calls) == number:
            raise OSError(errno.EMFILE, "too many")
        return function(*arguments, **more)

    return call


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ((socket, "socketpair"), 0),
        ((os, "pipe"), 0),
        ((os, "pipe"), 1),
        ((os, "pipe"), 2),
        ((subprocess, "Popen"), 0),
        ((socket, "send_fds"), 0),
    ],
    ids=["channel", "output", "error", "stacks", "process", "sent"],
)
def test_the_exit_of_a_worker_that_cannot_be_started_is_told(pool, monkeypatch, where, number):
    ours, theirs = socket.socketpair()
    if where[0] is not subprocess:
        pool._link._server = ours
    host, before, polled = Undertaker(pool), fds(), dict(pool._poller.registered)
    with monkeypatch.context() as patch:
        patch.setattr(*where, nth(number, getattr(*where)))
        pool.spawn(0)
    assert pool.due == 0.0
    pool.on_time(host, 1.0)
    assert host.heard == [(0, EXIT_FORK, "a worker cannot be started: [Errno 24] too many")]
    assert (fds(), pool._poller.registered) == (before, polled)
    assert pool._slots == pool._workers == {}
    with theirs:
        pool._link._server = ours
        pool.spawn(0)
        assert ASK.unpack(theirs.recv(ASK.size)) == (Ask.SPAWN, 0)
        theirs.sendall(ANSWER.pack(0, 5, -9, 0))
        pool.on_event(ours.fileno(), host, 2.0)
    assert host.heard[1:] == [(0, -9, "")]


def test_a_worker_that_ends_when_it_is_asked_for_its_stacks_is_listened_to_no_more():
    poller, told = Poller(), []
    stacks = Stacks(poller)
    theirs = stacks.open(0)
    (fd,) = stacks._slots
    nobody = subprocess.Popen([sys.executable, "-c", ""])
    nobody.wait()
    stacks.ask(0, nobody.pid, 5, 1.0)
    os.close(theirs)
    stacks.on_event(fd, 1.0)
    assert poller.registered == {}
    stacks.close(0, lambda *answer: told.append(answer))
    assert told == [(5, b"", 0, "its worker has ended")]
