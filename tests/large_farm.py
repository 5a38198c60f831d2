"""The coordinator's core with thousands of fake hosts: what it costs, counted or timed by others.

The hosts are pure, too: they hold what they are given, and end the oldest of it when asked to.
"""

from collections import deque

from farm.core import Core, CoreSettings
from farm.identity import TRUSTED
from farm.model import Ending
from farm.protocol import messages as m

__all__ = ["LargeFarm"]

STORE = b"S" * 16
SESSION, SECRET = b"s" * 16, b"!" * 16
FUNCTION = m.Function(b"f" * 16, "work", b"function bytes")
PER_MESSAGE = 512


class FakeHost:
    """What one host was given: ``(lease, attempt, first, count)``, the oldest first."""

    def __init__(self, name, slots, window):
        self.name = name
        self.slots = slots
        self.window = window
        self.held = deque()
        self.number = 0


class LargeFarm:
    """``window``: the tasks that each host asks for; more than ``slots`` where they are short.

    Every message is received in a turn of its own, as is worst, and committed at once.
    """

    def __init__(self, hosts, slots, *, window=None, seconds=0.001, **settings):
        self.seconds = seconds
        self.now = 1000.0
        self.taken = 0  # results
        self._ref = 0
        self._counter = 1
        settings = {"reply_seconds": 0.0, "upkeep_seconds": 0.0, "max_tasks": 4_000_000, **settings}
        known = CoreSettings.__struct_fields__  # of the commit that is measured
        settings = {name: value for name, value in settings.items() if name in known}
        made = CoreSettings(**settings)
        self.core = Core(made, self, epoch=1, store=STORE, durable=True, chance=lambda: 0.5)
        self.core.start(self.now, 1.7e9)
        self.hosts = deque(FakeHost(f"h{n}", slots, window or slots) for n in range(hosts))
        self._by_peer = {host.name: host for host in self.hosts}
        hello = (1, "", "", b"", SESSION, SECRET, 1, 0, b"", 0, 1 << 30, [])
        self.turn("client", m.ClientHello(*hello))
        self.turn("client", FUNCTION)

    # ------------------------------------------------------------ the port

    def send(self, peer, message):
        if type(message) is m.Assign:
            held = self._by_peer[peer].held
            held += [(one.lease, one.attempt, one.first, one.count) for one in message.grants]
        elif type(message) is m.Recall:
            self.recalled(peer, message.runs)
        elif type(message) is m.Results:
            self.taken = message.number

    def recalled(self, peer, runs):
        """The host has begun all of it."""

    def identity(self, peer):
        return TRUSTED

    def persist(self, ref, record):
        self._ref = ref

    def ignore(self, *_):
        pass

    close = prune = keep_function = drop_functions = release = warn = load = ignore

    # ------------------------------------------------------------ what happens

    def turn(self, peer, message):
        """One message, and what follows from it."""
        core = self.core
        core.receive(peer, message, self.now)
        if self._ref > core.ledger.committed:
            core.on_committed(self._ref, self.now)
        core.on_tick(self.now)

    def join(self, host, **more):
        """A host says HELLO."""
        facts = (b"", host.name, 1, host.slots, host.window, 0, b"", 0, [])
        self.turn(host.name, m.HostHello(1, "", "", *facts, **more))

    def join_all(self):
        for host in self.hosts:
            self.join(host)

    def leave(self, host):
        """A host's connection is gone."""
        self.core.on_closed(host.name, self.now)
        self.core.on_tick(self.now)

    def cancel(self, first, count, grace=None):
        """The client cancels tasks, also those that run if there is a grace."""
        self.turn("client", m.Cancel(first, [(SESSION, first, count)], grace))

    def submit(self, tasks, template=None):
        """Queue so many more tasks, by messages."""
        for _ in range(0, tasks, PER_MESSAGE):
            count = min(tasks, PER_MESSAGE)
            payloads = [b"%020d" % number for number in range(count)]
            size = count * 20
            group = m.Group(self._counter, count, FUNCTION.hash, payloads, size, template=template)
            self._counter += count
            tasks -= count
            self.turn("client", m.Submit([group]))

    def end(self, host, tasks):
        """A host reports that its oldest tasks ended, as many; how many there were."""
        ended, left = [], tasks
        while left and host.held:
            lease, attempt, first, count = host.held.popleft()
            some = min(left, count)
            if some < count:
                host.held.appendleft((lease, attempt, first + some, count - some))
            left -= some
            payloads = [b"r"] * some
            ended.append(
                m.Ended(
                    1, lease, attempt, first, some, Ending.OK, payloads, some, False, self.seconds
                )
            )
        host.number += 1
        self.turn(host.name, m.Report(host.number, host.window, ended))
        return tasks - left

    def take(self):
        """The client has all results so far."""
        self.turn("client", m.Taken(self.taken))

    def beat(self, host):
        self.turn(host.name, m.Beat(stamp=1.0))

    def serve(self, messages, tasks):
        """So many reports of so many ended tasks each, by the hosts in turn; the tasks in all."""
        ended = 0
        for number in range(messages):
            host = self.hosts.popleft()
            self.hosts.append(host)
            self.now += 1e-6
            ended += self.end(host, tasks)
            if number % 16 == 15:
                self.take()
        return ended
