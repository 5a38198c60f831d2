"""A real agent process, and a coordinator of a few lines for it to talk to."""

import contextlib
import json
import os
import signal
import time
from collections import deque
from pathlib import Path

import psutil
import zmq

from farm.model import Ending
from farm.payload import (
    dump_call,
    dump_function,
    dump_items,
    load_exception,
    load_value,
)
from farm.protocol.messages import (
    BATCH_BYTES,
    Assign,
    Beat,
    Bye,
    Function,
    Grant,
    HostHello,
    HostWelcome,
    NeedFunction,
    Noted,
    Report,
)
from farm.transport import Router, host_address, parse_address
from tests.forked import Forked
from tests.forked_services import IMPORTS
from tests.packed import load_values

ROOT = Path(__file__).resolve().parents[2]
S = b"s" * 16
PATIENCE = 20.0


class Coordinator:
    """Answers HELLO, leases what a test gives it within the window, notes every report."""

    def __init__(self, url, *, beat=10.0, epoch=1):
        self.context = zmq.Context()
        self.router = Router(self.context, "host")
        self.router.bind(host_address(parse_address(url)))
        self.beat = beat
        self.epoch = epoch
        self.peer = None
        self.hello = None
        self.hellos = []
        self.drop = []
        self.functions = {}
        self.sent = set()
        self.todo = deque()
        self.window = 0
        self.held = 0
        self.leases = 0
        self.counter = 0
        self.noting = True
        self.grants = {}
        self.outcomes = {}
        self.failures = {}
        self.returned = []
        self.started = []
        self.progress = []
        self.reports = []
        self.beats = []
        self.bye = None

    def close(self):
        self.router.shut()
        self.context.destroy(linger=0)

    def submit(self, function, calls, **more):
        """Put one lease of calls in line; returns its counters."""
        payloads = [dump_call(tuple(call), {}) for call in calls]
        return self.put(function, payloads, len(payloads), **more)

    def submit_packed(self, function, items, **more):
        items = [tuple(item) for item in items]
        return self.put(function, [dump_items(items)], len(items), packed=True, **more)

    def put(self, function, payloads, count, **more):
        payload = dump_function(function)
        self.functions[payload.hash] = payload
        self.leases += 1
        first = self.counter + 1
        self.counter += count
        size = sum(map(len, payloads))
        grant = Grant(self.leases, 1, S, first, count, payload.hash, payloads, size, **more)
        self.grants[grant.lease] = grant
        self.todo.append(grant)
        return list(range(first, first + count))

    def run(self, until, patience=PATIENCE):
        """Serve until something is true; fails with what there is if that takes too long."""
        deadline = time.monotonic() + patience
        poller = zmq.Poller()
        poller.register(self.router.socket, zmq.POLLIN)
        while not until():
            self.assign()
            self.router.flush()
            left = deadline - time.monotonic()
            assert left > 0, f"{len(self.outcomes)} of {self.counter} ended; {self.failures}"
            poller.poll(min(left, 0.05) * 1000)
            for peer, message in self.router.receive(100):
                self.hear(peer, message)

    def hear(self, peer, message):
        match message:
            case None:
                if peer is self.peer:
                    self.peer = None
            case HostHello():
                self.peer, self.hello, self.window = peer, message, message.window
                self.hellos.append(message)
                self.held = 0
                self.sent = set()
                welcome = HostWelcome(1, "0", self.epoch, b"x" * 16, 0, self.beat, 30.0, self.drop)
                self.say(welcome)
            case Report():
                self.report(message)
            case NeedFunction():
                self.say(Function(*self.functions[message.hash]))
            case Beat():
                self.beats.append(message)
                if message.stamp:
                    self.say(Beat(echo=message.stamp))
            case Bye():
                self.bye = message

    def say(self, message):
        self.router.send(self.peer, message)

    def report(self, report):
        self.reports.append(report)
        self.window = report.window
        for end in report.ended:
            self.ended(end)
        for _, lease, first, count in report.returned:
            self.held -= self.units(lease, count)
            self.returned += range(first, first + count)
        for _, _, first, count in report.started:
            self.started += range(first, first + count)
        self.progress += report.progress
        if self.noting:
            self.say(Noted(report.number, report.number))

    def ended(self, end):
        self.held -= self.units(end.lease, end.count)
        values = [None] * end.count
        if end.ending is Ending.OK:
            values = (
                load_values(end.payloads[0]) if end.packed else list(map(load_value, end.payloads))
            )
        elif end.ending is Ending.EXCEPTION:
            values = list(map(load_exception, end.payloads))
        assert len(values) == end.count
        for counter, value in enumerate(values, end.first):
            assert counter not in self.outcomes
            self.outcomes[counter] = (end.ending, value)
            if end.failure:
                self.failures[counter] = end.failure

    def units(self, lease, count):
        return 0 if self.grants[lease].packed else count

    def assign(self):
        grants = []
        while self.todo and self.peer is not None:
            grant = self.todo[0]
            if grant.function not in self.sent:
                self.say(Function(*self.functions[grant.function]))
                self.sent.add(grant.function)
            units = self.units(grant.lease, grant.count)
            if self.held and self.held + units > self.window:
                break
            self.held += units
            grants.append(self.todo.popleft())
            if sum(grant.size for grant in grants) > BATCH_BYTES:
                self.say(Assign(self.epoch, grants))
                grants = []
        if grants:
            self.say(Assign(self.epoch, grants))

    def results(self, counters, patience=PATIENCE):
        """The outcomes of tasks, once they are all there."""
        wanted = set(counters)
        self.run(lambda: wanted <= self.outcomes.keys(), patience)
        return [self.outcomes[counter] for counter in counters]

    def values(self, counters, patience=PATIENCE):
        outcomes = self.results(counters, patience)
        assert {ending for ending, _ in outcomes} == {Ending.OK}, outcomes
        return [value for _, value in outcomes]


class AgentProcess:
    """``python -m farm_workers`` with settings, forked from what has imported already."""

    def __init__(self, folder, *, out=None, **settings):
        path = folder / f"agent-{len(list(folder.iterdir()))}.json"
        path.write_text(json.dumps({"name": "h", "log_level": "debug", **settings}))
        self.log = path.with_suffix(".log")
        self.out = path.with_suffix(".out")
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(ROOT), str(ROOT / "workers"), environment.get("PYTHONPATH", "")]
        )
        keep = [settings["parent_fd"]] if "parent_fd" in settings else []
        with self.log.open("wb") as log, self.out.open("wb") as file:
            self.process = Forked(
                ["farm_workers", "--settings", str(path)],
                cwd=Path.cwd(),
                env=environment,
                stderr=log,
                stdout=file if out is None else out,
                pass_fds=keep,
                imports=IMPORTS["farm_workers"],
            )

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, patience=PATIENCE):
        return self.process.wait(patience)

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def text(self):
        return self.log.read_text() + self.out.read_text()


def gone(pids, patience=PATIENCE):
    """Whether all these processes end in time; zombies count as ended."""
    processes = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(pid))
    _, alive = psutil.wait_procs(
        [p for p in processes if p.status() != psutil.STATUS_ZOMBIE], timeout=patience
    )
    return [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def family(pid):
    """A process's descendants."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]
