"""Sessions against a coordinator that refuses, loses and repeats; all tasks must end once."""

import random

import pytest

from farm.model import Ending
from farm.protocol import messages as m
from tests.unit.session_helpers import ME, F, group, new_session, packed, result, welcome

STEPS = 150


class Coordinator:
    """Accepts or refuses at random; with ``durable`` false, a restart forgets everything."""

    def __init__(self, chance, session, port, *, durable):
        self.chance, self.session, self.port, self.durable = chance, session, port, durable
        self.now = 0.0
        self.epoch = 1
        self.functions = set()
        self.accepted = set()  # by this incarnation, or for ever if durable
        self.outcomes = {}  # not taken yet
        self.over = set()
        self.runs = {}  # how often each task was run since a restart
        self.settled = {}
        self.cancelled = set()
        self.number = 0
        self.granted = self.used = 0

    def connect(self, *, restart=False):
        self.session.on_disconnected(self.now)
        if restart:
            self.epoch += 1
            if not self.durable:
                self.accepted, self.outcomes, self.functions = set(), {}, set()
        self.port.take()
        self.session.on_connected(self.now)
        self.number = self.used = 0
        self.granted = self.chance.randint(0, 30)
        [hello] = [value for what, value in self.port.take() if what == "send"]
        for first, count in hello.pending:
            assert self.durable
            assert set(range(first, first + count)) <= self.accepted | self.over
        self.session.receive(
            welcome(epoch=self.epoch, credit_tasks=self.granted, durable=self.durable), self.now
        )

    def turn(self):
        self.now += self.chance.random() * 0.2
        self.session.on_tick(self.now)
        for what, value in self.port.take():
            if what == "send":
                self.hear(value)
            elif what == "settled":
                for i in range(value.first, value.first + value.count):
                    if value.packed and i in self.settled:
                        continue
                    assert i not in self.settled
                    self.settled[i] = value.ending
            elif what == "replied":
                self.cancelled |= {i for _, a, n in value.cancelled for i in range(a, a + n)}
            else:
                assert what == "room", what

    def hear(self, message):
        match message:
            case m.Function():
                self.functions.add(message.hash)
            case m.Submit():
                for one in message.groups:
                    self.submitted(one)
                assert self.used <= self.granted
            case m.Cancel():
                self.cancel(message)
            case m.Taken():
                assert message.number == self.number

    def submitted(self, one):
        run = range(one.first, one.first + one.count)
        self.used += 1 if one.packed else one.count
        known = self.accepted | self.over | set(self.outcomes)
        if any(i in known for i in run):
            fresh = [i for i in run if i not in known]
            old = [(i, 1) for i in run if i in known]
            self.session.receive(m.Accepted(1, old), self.now)
        else:
            fresh = list(run)
        if one.function not in self.functions or self.chance.random() < 0.1:
            self.functions.discard(one.function)
            reason = "function"
        else:
            reason = self.chance.choice(["busy", "", "", ""])
        for i in fresh:
            if reason:
                self.session.receive(m.Refused(i, 1, reason), self.now)
            else:
                self.accepted.add(i)
                self.session.receive(m.Accepted(1, [(i, 1)]), self.now)

    def cancel(self, message):
        done = []
        for _, first, count in message.tasks:
            for i in range(first, first + count):
                if i in self.accepted and self.chance.random() < 0.5:
                    self.accepted.discard(i)
                    self.outcomes[i] = Ending.CANCELLED
                    done.append((ME, i, 1))
        self.session.receive(m.CancelReply(message.request, done), self.now)

    def finish(self):
        for i in self.chance.sample(sorted(self.accepted), min(len(self.accepted), 5)):
            self.accepted.discard(i)
            assert i not in self.cancelled, "a task that was cancelled ran"
            self.outcomes[i] = Ending.OK
        if self.outcomes and self.session.connected:
            self.number += 1
            entries = [result(i, ending=end) for i, end in self.outcomes.items()]
            self.session.receive(m.Results(self.number, 1, entries), self.now)
            if self.chance.random() < 0.8:  # else it is sent again, as after a lost connection
                self.over |= set(self.outcomes)
                self.outcomes = {}


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("seed", range(25))
def test_every_task_ends_once(seed, durable):
    chance = random.Random(seed)
    session, port = new_session()
    coordinator = Coordinator(chance, session, port, durable=durable)
    counter = 1
    for step in range(STEPS):
        match chance.choice(["submit", "submit", "credit", "cancel", "lose", "work", "work"]):
            case "submit":
                count = chance.randint(1, 8)
                make = packed if chance.random() < 0.3 else group
                session.submit([make(counter, count)], [F], coordinator.now)
                counter += count
            case "credit":
                coordinator.granted += chance.randint(1, 20)
                if session.connected:
                    session.receive(m.Credit(coordinator.granted, 1 << 24), coordinator.now)
            case "cancel":
                a = chance.randint(1, counter)
                tasks = [(ME, a, min(4, counter - a))] if a < counter else []
                session.cancel(step, tasks, coordinator.now)
            case "lose":
                coordinator.turn()
                coordinator.connect(restart=chance.random() < 0.5)
            case "work":
                coordinator.finish()
        coordinator.turn()
    for _ in range(200):
        if not session.connected:
            coordinator.connect()
        coordinator.granted += 100
        session.receive(m.Credit(coordinator.granted, 1 << 24), coordinator.now)
        coordinator.turn()
        coordinator.finish()
    coordinator.turn()
    assert sorted(coordinator.settled) == list(range(1, counter))
    assert (len(session.open), session.unacknowledged) == (0, 0)
    assert len(session._outbox.retained) == 0
    assert coordinator.cancelled <= {
        i for i, end in coordinator.settled.items() if end is Ending.CANCELLED
    }
