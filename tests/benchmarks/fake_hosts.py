"""Hosts without workers: ``python -m tests.benchmarks.fake_hosts ADDRESS FIRST COUNT SLOTS``.

Each has a connection and a name of its own and speaks the protocol as an agent does, but every task
it is given ends at once, with the value None. When its connection is lost it comes back as an agent
does: after pauses that grow, with jitter; so it does when it is refused, or hears nothing for long.
``FARM_TOKEN`` may be the token of an invite, with which they join. They end with the process that
started them.
"""

import os
import platform
import random
import select
import sys
import time
from collections.abc import Iterator
from heapq import heappop, heappush

import zmq

from farm.descriptors import raise_file_limit
from farm.model import Ending
from farm.parent import watch_parent
from farm.payload import dump_value
from farm.protocol import messages as m
from farm.protocol.messages_host import JOINED
from farm.transport import Credentials, Dealer
from farm.transport.credentials import token_said
from farm.transport.pauses import Pauses
from farm_workers.host import SILENT_BEATS
from farm_workers.link import PAUSE_SECONDS, PAUSE_SECONDS_MAX

__all__ = ["KEYS", "main"]

KEYS = "FARM_COORDINATOR_KEYS"
"""The variable with the folder of the keys that a farm of this user has on this machine."""

LOOK_SECONDS = 1.0
"""How often a connection is looked after that has not come about."""
HELLO_SECONDS = 10.0
"""How long it waits for the answer to its HELLO."""
SECONDS = 0.0001
"""How long every task took, by what is reported."""
MESSAGES_MAX = 256


class FakeHost:
    """One host; ``due``, if it is not None, is when ``look`` is to be called."""

    def __init__(
        self,
        name: str,
        slots: int,
        context: "zmq.Context[zmq.Socket[bytes]]",
        credentials: Credentials,
    ) -> None:
        self.name = name
        self._credentials = credentials
        self.slots = slots
        self._context = context
        self._instance = os.urandom(16)
        self._dealer: Dealer | None = None
        self._greeted = self._refused = False
        self._connections = self._number = self._epoch = 0
        self._pauses, self._crowded = Pauses(PAUSE_SECONDS, PAUSE_SECONDS_MAX), False
        self._beat_seconds = 0.0
        self._heard_at = time.monotonic()
        self._value = dump_value(None)

    def connect(self, poller: "select.epoll") -> list[int]:
        """Begin a connection; the descriptors to poll."""
        self._dealer = Dealer(self._context, "host")
        self._greeted = self._refused = False
        self._heard_at = time.monotonic()
        socket, ends = self._dealer.sources
        fds = [int(socket.getsockopt(zmq.FD)), ends]
        for fd in fds:
            poller.register(fd, select.EPOLLIN | select.EPOLLET)
        self._credentials.dial(self._dealer)
        return fds

    def look(self) -> bool:
        """Do what there is to do; False if the connection is lost."""
        dealer = self._dealer
        assert dealer is not None
        while True:
            found = dealer.receive(MESSAGES_MAX)
            if dealer.connected and not self._greeted:
                self._greet(dealer)
            for message in found:
                self._on_message(dealer, message)
            if found:
                self._heard_at = time.monotonic()
            if dealer.lost or self._refused or self._is_deaf:
                dealer.close()
                self._dealer, self._crowded = None, dealer.crowded
                return False
            if len(found) < MESSAGES_MAX:
                return True

    def beat(self) -> float:
        """Show that it lives; in how many seconds it does so again."""
        if self._dealer is not None and self._beat_seconds:
            self._dealer.send(m.Beat(stamp=time.monotonic()))
        return self._beat_seconds or LOOK_SECONDS

    @property
    def _is_deaf(self) -> bool:
        patience = SILENT_BEATS * self._beat_seconds or HELLO_SECONDS
        return self._greeted and time.monotonic() - self._heard_at > patience

    def pause(self) -> float:
        """How long to wait before the next attempt."""
        self._beat_seconds = 0.0
        return self._pauses.take(crowded=self._crowded) * random.uniform(0.5, 1.5)

    def _greet(self, dealer: Dealer) -> None:
        self._greeted = True
        self._connections += 1
        python = ".".join(platform.python_version_tuple()[:2])
        facts = (self._connections, self.slots, self.slots, self._epoch, b"", 0, [])
        hello = m.HostHello(m.PROTOCOL_VERSION, "", python, self._instance, self.name, *facts)
        hello.keys = self._credentials.own_keys
        dealer.send(hello)

    def _on_message(self, dealer: Dealer, message: object) -> None:
        if isinstance(message, m.HostWelcome):
            self._epoch = message.epoch
            self._pauses.reset()
            self._beat_seconds = message.beat_seconds
        elif isinstance(message, m.Assign):
            self._number += 1
            ended = [self._ended(message.epoch, grant) for grant in message.grants]
            dealer.send(m.Report(self._number, self.slots, ended))
        elif isinstance(message, m.Rejected) and message.code == JOINED:
            self._credentials.joined()
            self._refused = True
        elif isinstance(message, m.Rejected | m.Bye):
            self._refused = True
        elif isinstance(message, m.Beat) and message.stamp:
            dealer.send(m.Beat(echo=message.stamp))

    def _ended(self, epoch: int, grant: m.Grant) -> m.Ended:
        values = [self._value] * grant.count
        size = len(self._value) * grant.count
        return m.Ended(
            epoch, grant.lease, grant.attempt, grant.first, grant.count, Ending.OK, values, size,
            False, SECONDS,
        )  # fmt: skip


class Crowd:
    """Many of them on one thread: whatever wakes a socket is looked at, and nothing else."""

    def __init__(self, address: str, first: int, count: int, slots: int) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        context.set(zmq.MAX_SOCKETS, 8 * count + 64)
        self._poller = select.epoll()
        self._by_fd: dict[int, FakeHost] = {}
        self._fds: dict[FakeHost, list[int]] = {}
        self._due: list[tuple[float, int, FakeHost, bool]] = []  # with whether to connect then
        self._turns = 0
        token = token_said(None)
        for number in range(first, first + count):
            credentials = Credentials("host", address, token, keys=os.environ[KEYS])
            host = FakeHost(f"fake-{number}", slots, context, credentials)
            self._later(0.0, host, connect=True)

    def run(self) -> None:
        """Be hosts, for ever."""
        while True:
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, _, host, connect = heappop(self._due)
                self._look_after(host, connect=connect)
            wait = max(0.0, self._due[0][0] - now) if self._due else LOOK_SECONDS
            for host in self._woken(wait):
                self._look(host)

    def _woken(self, seconds: float) -> Iterator[FakeHost]:
        ready = self._poller.poll(seconds)
        yield from dict.fromkeys(self._by_fd[fd] for fd, _ in ready if fd in self._by_fd)

    def _look_after(self, host: FakeHost, *, connect: bool) -> None:
        if not connect:
            if host in self._fds:
                self._later(host.beat(), host, connect=False)
                self._look(host)
            return
        self._fds[host] = host.connect(self._poller)
        self._by_fd |= dict.fromkeys(self._fds[host], host)
        self._later(LOOK_SECONDS, host, connect=False)
        self._look(host)

    def _look(self, host: FakeHost) -> None:
        if host not in self._fds or host.look():
            return
        for fd in self._fds.pop(host):
            self._by_fd.pop(fd, None)  # closed, and so polled no more
        self._later(host.pause(), host, connect=True)

    def _later(self, seconds: float, host: FakeHost, *, connect: bool) -> None:
        self._turns += 1
        heappush(self._due, (time.monotonic() + seconds, self._turns, host, connect))


def main(arguments: list[str]) -> None:
    """Be hosts until the parent ends."""
    address, first, count, slots, parent = arguments
    watch_parent(lambda: os._exit(0), None, int(parent))
    raise_file_limit()
    Crowd(address, int(first), int(count), int(slots)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
