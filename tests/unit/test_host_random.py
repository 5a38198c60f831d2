"""A host in a small random world: whatever happens, every task is accounted for exactly once."""

from collections import deque
from random import Random

import pytest

from farm.model import Ending
from farm.protocol.messages import (
    Assign,
    Bye,
    Claim,
    Drop,
    Function,
    Grant,
    HostHello,
    HostWelcome,
    NeedFunction,
    Noted,
    Recall,
    Report,
)
from farm_workers.host import Host
from farm_workers.host_pace import HOLD_SECONDS
from farm_workers.host_roster import Death
from farm_workers.host_slices import HostSettings
from tests.unit.host_rig import S

KILLED = -9


class Worker:
    """Does what a worker process does, one item at a time."""

    def __init__(self):
        self.ready = False
        self.inbox = deque()
        self.index = None
        self.limit = 0
        self.functions = {}
        self.dying = self.killed = False
        self.retired = self.spoilt = False
        self.begun = False


class World:
    """Everything around one host."""

    def __init__(self, seed):
        self.random = Random(seed)
        self.now = 0.0
        self.workers = {}
        self.questions = []
        self.measures = []
        self.reports = []
        self.inbox = deque()
        self.linked = False
        self.commit = 0
        self.granted = {}
        self.fate = {}
        self.have_run = set()
        self.leases = 0
        self.left = False
        slots = self.random.choice([1, 2, 4])
        bounds = {
            **self.random.choice([{}, {"window_max": 1, "unnoted_max": 1}]),
            "kill_seconds": self.random.choice([0.0, 0.5]),
            "max_tasks_per_worker": self.random.choice([0, 0, 1, 7]),
            "max_memory_per_worker": self.random.choice([0, 0, 90]),
        }
        settings = HostSettings(slots=slots, has_initializer=self.random.random() < 0.5, **bounds)
        self.host = Host(settings, self, instance=b"i" * 16, now=0.0)

    # ---- the port

    def send(self, message):
        match message:
            case HostHello():
                self.lose_what_is_on_the_way()
                self.inbox = deque([HostWelcome(1, "0", 1, b"x" * 16, 0, 10.0, 30.0, [])])
                self.window = message.window
                claimed = {
                    (c.lease, n) for c in message.claims for n in range(c.first, c.first + c.count)
                }
                # The coordinator may still know of what the host no longer claims, not otherwise.
                assert {t for t in self.granted if t not in self.fate} <= claimed
            case Report():
                self.window = message.window
                self.reports.append(message)
            case NeedFunction():
                self.inbox.append(Function(message.hash, "fn", b"code"))
            case Bye():
                self.left = True

    def lose_what_is_on_the_way(self):
        for message in self.inbox:
            if isinstance(message, Assign):
                (grant,) = message.grants
                for task in range(grant.first, grant.first + grant.count):
                    self.fate.setdefault((grant.lease, task), "dropped")

    def disconnect(self, reason):
        raise AssertionError(reason)

    def spawn(self, slot):
        assert slot not in self.workers
        self.workers[slot] = Worker()

    def kill(self, slot):
        assert not self.workers[slot].killed
        self.workers[slot].killed = self.workers[slot].dying = True

    def stop(self, slot):
        worker = self.workers[slot]
        assert not worker.killed
        worker.dying = worker.dying or self.random.random() < 0.5

    def retire(self, slot):
        worker = self.workers[slot]
        # It may still have what was taken back, and will not begin it.
        assert not worker.begun
        assert all(part.offset + at - part.first < worker.limit for part, at in worker.inbox)
        worker.retired = True
        worker.dying = worker.dying or self.random.random() < 0.9

    def interrupt(self, slot, ordinal):
        """It does not care, and ends with its worker."""
        assert slot in self.workers

    def ran(self, slot, ordinal, now):
        return now if self.workers[slot].index == ordinal else 0.0

    def measure(self, slot, limit):
        assert limit > 0
        self.measures.append((slot, self.workers[slot]))

    def function(self, slot, digest, name, data):
        assert data == b"code"
        self.workers[slot].functions[digest] = name

    def run(self, slot, part):
        worker = self.workers[slot]
        assert worker.ready
        assert not worker.retired
        assert part.function in worker.functions
        worker.inbox.append([part, part.first])

    def limit(self, slot, ordinal):
        self.workers[slot].limit = ordinal
        self.questions.append((slot, self.workers[slot]))

    # ---- what happens

    def step(self):
        self.now += self.random.choice([0.0, 0.0001, 0.004, 0.2])
        self.random.choice(
            [self.work, self.work, self.work, self.assign, self.deliver, self.deliver, self.note,
             self.answer, self.crash, self.spoil, self.die, self.recall, self.drop, self.link]
        )()  # fmt: skip
        self.tick()
        self.nothing_is_missed()

    def tick(self):
        for _ in range(3):  # what is due now is done now, not over and over
            if self.host.next_deadline() > self.now:
                return
            self.host.on_tick(self.now)
        assert self.host.next_deadline() > self.now

    def nothing_is_missed(self):
        """No worker is idle while a task waits, and no slot is looked at too late."""
        work = self.host._work
        waits = work.backlog.head() is not None and not self.host.draining
        assert not (waits and [slot for slot in work.roster.slots if slot.idle])
        patience = 0.005 + HOLD_SECONDS
        due = min(slot.due(patience) for slot in work.roster.slots)
        assert self.host.next_deadline() <= max(due, self.now)
        found, work.roster._census = work.roster.census(), None
        assert found == work.roster.census()

    def link(self):
        if not self.linked:
            self.linked = True
            self.host.on_connected(self.now)
        elif self.random.random() < 0.2:
            self.linked = False
            self.reports.clear()
            self.host.on_disconnected(self.now)

    def deliver(self):
        if self.linked and self.inbox:
            self.host.receive(self.inbox.popleft(), self.now)

    def note(self):
        """The coordinator takes the oldest report that is on the way, and commits it."""
        if not self.linked or not self.reports:
            return
        report = self.reports.pop(0)
        self.commit += 1
        self.inbox.append(Noted(report.number, self.commit))
        for end in report.ended:
            assert end.size == sum(map(len, end.payloads))
            self.settle(end.lease, end.first, end.count, end.ending.name)
        for _, lease, first, count in report.returned:
            self.settle(lease, first, count, "returned")

    def settle(self, lease, first, count, fate):
        for task in range(first, first + count):
            known = self.fate.setdefault((lease, task), fate)
            assert known in {fate, "dropped"}, (lease, task, known, fate)
            assert fate != "OK" or (lease, task) in self.have_run

    def assign(self):
        held = len({t for t in self.granted if t not in self.fate})
        if not self.linked or not self.host.connected or self.window <= held:
            return
        self.leases += 1
        packed = self.random.random() < 0.2
        count = self.random.randint(1, 40 if packed else min(40, self.window - held))
        payloads = [b"p"] * (1 if packed else count)
        grant = Grant(
            self.leases, 1, S, self.random.randint(1, 9), count,
            self.random.choice([b"f" * 16, b"g" * 16]), payloads, len(payloads), packed,
            expected=self.random.choice([-1.0, 1e-5, 1e-3, 1.0]),
            time_limit=self.random.choice([None, None, 1.0]),
            memory_limit=self.random.choice([None, None, 80]),
        )  # fmt: skip
        for task in range(grant.first, grant.first + count):
            self.granted[grant.lease, task] = packed
        self.inbox.append(Assign(1, [grant]))

    def some_of(self):
        lease, task = self.random.choice(list(self.granted))
        return lease, task, self.random.randint(1, 5)

    def recall(self):
        if self.linked and self.granted:
            grace = self.random.choice([None, 0.0, 0.1, 0.5])
            self.inbox.append(Recall([(1, *self.some_of())], grace))

    def drop(self):
        if not self.linked or not self.granted or self.random.random() < 0.8:
            return
        lease, first, count = self.some_of()
        for task in range(first, first + count):
            if (lease, task) in self.granted:
                self.fate.setdefault((lease, task), "dropped")
        self.inbox.append(Drop([Claim(1, lease, 1, S, first, count)]))

    def work(self):
        slot = self.random.choice(list(self.workers))
        worker = self.workers[slot]
        if not worker.ready:
            worker.ready = True
            self.host.on_worker_ready(slot, self.now)
            return
        parts = []
        for _ in range(self.random.choice([1, 1, 50])):
            if worker.inbox and not worker.spoilt:
                self.run_item(worker, parts)
        if parts:
            self.host.on_worker_ended(slot, parts, self.now)

    def run_item(self, worker, parts):
        part, at = worker.inbox[0]
        ordinal = part.offset + at - part.first
        if not worker.begun:
            worker.index = ordinal
            if ordinal < worker.limit:
                parts.append(part.end(at, part.first + part.count - at, Ending.CANCELLED, []))
                worker.inbox.popleft()
                return
            task = (part.key[1], at)
            assert task not in self.have_run, f"{task} ran twice under one token"
            self.have_run.add(task)
            worker.begun = True
            if self.random.random() < 0.5:
                return
        worker.begun = False
        parts.append(part.end(at, 1, Ending.OK, [b"r"], seconds=self.random.choice([1e-5, 1e-3])))
        worker.inbox[0][1] += 1
        if at + 1 == part.first + part.count:
            worker.inbox.popleft()

    def answer(self):
        """A limit has been set for long enough: say where the worker was."""
        questions, self.questions = self.questions, []
        for slot, worker in questions:
            if self.workers.get(slot) is worker:
                self.host.on_worker_limited(slot, worker.index, self.now)
        measures, self.measures = self.measures, []
        for slot, worker in measures:
            if self.workers.get(slot) is worker:
                self.host.on_worker_memory(slot, self.random.randint(1, 100), self.now)

    def spoil(self):
        """A worker leaves because of what its tasks have done to it."""
        slot = self.random.choice(list(self.workers))
        worker = self.workers[slot]
        if worker.index is not None and not worker.begun and self.random.random() < 0.2:
            worker.spoilt = worker.dying = True
            self.host.on_worker_retired(slot, self.now)

    def crash(self):
        if self.random.random() < 0.1:
            self.workers[self.random.choice(list(self.workers))].dying = True

    def die(self):
        for slot in [slot for slot, worker in self.workers.items() if worker.dying]:
            index = self.workers.pop(slot).index
            self.host.on_worker_exit(slot, Death(KILLED, index), self.now)
        if not self.workers:
            self.now += 40.0
            self.linked = False
            self.reports.clear()
            self.host.on_disconnected(self.now)
            self.revive()

    def revive(self):
        while not self.workers:
            self.link()
            self.deliver()
            self.tick()

    def rest(self):
        """No more trouble: everything comes to an end."""
        self.random.random = lambda: 1.0
        for _ in range(4000):
            self.now += 0.002
            if not self.linked:
                self.link()
            for action in (self.tick, self.die, self.work, self.answer, self.deliver, self.note):
                action()
                self.tick()
            if self.left:
                return
            if (
                not self.host.draining
                and not self.host._work.backlog.leases
                and not self.inbox
                and not self.reports
            ):
                return


@pytest.mark.parametrize("seed", range(250))
def test_every_task_is_accounted_for_once(seed):
    world = World(seed)
    for _ in range(400):
        world.step()
    world.rest()
    assert {task for task in world.granted if task not in world.fate} == set()
    assert world.host._work.backlog.leases == {}
    assert world.host._work.backlog.waiting == 0
    assert world.host._reports.units == world.host._reports.bytes == 0
    assert world.window > 0
    world.host.drain(world.now)
    world.tick()
    world.rest()
    world.tick()
    assert world.left
