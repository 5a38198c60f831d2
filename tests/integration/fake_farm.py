"""A farm in a thread of the test: answers clients as a coordinator does, and runs tasks inline.

It can be told to hold tasks back, to run out of credit, to go away and to come back.
"""

import threading

import zmq

from farm.model import Ending
from farm.payload import (
    dump_exception,
    dump_value,
    dump_values,
    load_call,
    load_function,
)
from farm.protocol import messages as m
from farm.transport import Router, Waker, parse_address
from tests.packed import load_items


class FakeFarm:
    def __init__(self, folder, *, credit=100_000, slots=2, beat_seconds=10.0):
        self.address = f"ipc://{folder}/farm"
        self.credit, self.slots, self.beat_seconds = credit, slots, beat_seconds
        self.hosts = 1
        self.epoch = 1
        self.held = False  # tasks are accepted and not run
        self.refuse = ""  # a reason to refuse all submissions with
        self.queues = []  # as it tells of; none: nothing is told
        self.reject = None  # a Rejected to answer every HELLO with
        self.hellos = []
        self.groups = []  # every group that was ever accepted
        self.sealed = {}
        self.heeds_seals = True  # else it reads them as if it were gone before their commit
        self.jobs = {}
        self.cancelled = []
        self.changed = threading.Condition()
        self._functions = {}
        self._outcomes = {}  # (session, counter) -> Result
        self._open = {}  # (session, counter) -> (group, index), in order
        self._peers = {}  # connection -> [session, number of results, tasks granted]
        self._follows = []
        self._commands = []
        self._waker = Waker()
        self._stopped = False
        self._thread = None

    # ------------------------------------------------------------ for tests

    def start(self):
        """Come up, or come back; a store that is durable is assumed."""
        self.epoch += 1
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def stop(self):
        """Go away without a word."""
        self._stopped = True
        self._waker.wake()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def do(self, command):
        """Have the thread do something."""
        self._commands.append(command)
        self._waker.wake()

    def release(self):
        """Run what was held."""
        self.held = False
        self.do(self._work)

    def grant(self, tasks):
        """Give every client so much more credit."""

        def grant():
            for peer, state in self._peers.items():
                state[2] += tasks
                self._router.send(peer, m.Credit(state[2], 1 << 40))

        self.do(grant)

    def wait(self, predicate):
        """Wait until something is so."""
        with self.changed:
            assert self.changed.wait_for(lambda: predicate(self), 10)

    # ------------------------------------------------------------ the thread

    def _run(self):
        context = zmq.Context()
        self._router = Router(context, "client")
        self._router.bind(parse_address(self.address))
        self._peers = {}
        poller = zmq.Poller()
        poller.register(self._router.socket, zmq.POLLIN)
        poller.register(self._waker.fileno(), zmq.POLLIN)
        try:
            while not self._stopped:
                for peer, message in self._router.receive(100):
                    if message is not None:
                        self._hear(peer, message)
                while self._commands:
                    self._commands.pop(0)()
                self._router.flush()
                with self.changed:
                    self.changed.notify_all()
                poller.poll(1000)
                self._waker.clear()
        finally:
            self._router.shut()
            context.destroy(linger=0)

    def _hear(self, peer, message):  # noqa: C901, PLR0912
        send = self._router.send
        match message:
            case m.ClientHello():
                self.hellos.append(message)
                if self.reject:
                    send(peer, self.reject)
                    return
                self._peers[peer] = [message.session, 0, self.credit]
                send(peer, self._welcome())
                self._deliver(
                    peer, [r for k, r in self._outcomes.items() if k[0] == message.session]
                )
            case m.Function():
                self._functions[message.hash] = load_function(message.data)
            case m.Submit():
                for group in message.groups:
                    self._submit(peer, group)
                if not self.held:
                    self._work()
            case m.Taken():
                pass
            case m.Query():
                data = {"hosts": self.hosts, "slots": self.slots}
                error = "" if message.what == "status" else "what?"
                send(peer, m.Answer(message.request, data, error))
            case m.JobOpen():
                self.jobs[message.job] = message.name
            case m.JobSeal():
                if self.heeds_seals:
                    self.sealed[message.job] = message.count
                    session = self._peers[peer][0]
                    send(peer, m.JobInfo(0, [], session, message.job, state="sealed"))
            case m.Cancel():
                self._cancel(peer, message)
            case m.Attach():
                self._attach(peer, message)
            case m.Beat():
                if message.stamp:
                    send(peer, m.Beat(echo=message.stamp))

    def _welcome(self):
        return m.ClientWelcome(
            1, "1", "3.11", self.epoch, b"s" * 16, 0, True, self.beat_seconds, 64 << 20,
            self.credit, 1 << 40, queues=self.queues,
        )  # fmt: skip

    def _submit(self, peer, group):
        session = self._peers[peer][0]
        send = self._router.send
        if self.refuse:
            send(peer, m.Refused(group.first, group.count, self.refuse, 0.0, "because"))
        elif group.function not in self._functions:
            send(peer, m.Refused(group.first, group.count, "function"))
        else:
            keys = [(session, group.first + i) for i in range(group.count)]
            if keys[0] not in self._open and keys[0] not in self._outcomes:
                self.groups.append(group)
                self._open |= {key: (group, i) for i, key in enumerate(keys)}
            send(peer, m.Accepted(0, [(group.first, group.count)]))

    def _work(self):
        """Run everything that is open."""
        results = {}
        while self._open and not self.held:
            (session, counter), (group, index) = next(iter(self._open.items()))
            del self._open[session, counter]
            more = 0
            if group.packed:
                while (session, counter + more + 1) in self._open and more < 99:
                    more += 1
                    if self._open[session, counter + more][0] is not group:
                        more -= 1
                        break
                    del self._open[session, counter + more]
            for one in self._execute(group, index, more + 1):
                one.session = session
                self._outcomes[session, one.first] = one
                results.setdefault(session, []).append(one)
        for peer, (session, *_) in self._peers.items():
            for at in range(0, len(results.get(session, ())), 100):
                self._deliver(peer, results[session][at : at + 100])
            mine = [r for rs in results.values() for r in rs if (peer, r.session) in self._follows]
            self._deliver(peer, mine)

    def _execute(self, group, index, count):
        function = self._functions[group.function]
        first = group.first + index
        if not group.packed:
            try:
                args, kwargs = load_call(group.payloads[index])
                payload, ending = dump_value(function(*args, **kwargs)), Ending.OK
            except BaseException as error:  # noqa: BLE001
                payload, ending = dump_exception(error)[0], Ending.EXCEPTION
            return [m.Result(b"", first, 1, ending, [payload], len(payload))]
        start = group.start + index
        results, values = [], []
        for i, args in enumerate(load_items(group.payloads[0], start, start + count)):
            try:
                values.append(function(*args))
            except BaseException as error:  # noqa: BLE001
                if values:
                    results.append(_packed(first + i - len(values), values))
                    values = []
                payload = dump_exception(error)[0]
                results.append(
                    m.Result(b"", first + i, 1, Ending.EXCEPTION, [payload], len(payload))
                )
        return [*results, _packed(first + count - len(values), values)] if values else results

    def _deliver(self, peer, results):
        if not results:
            return
        state = self._peers[peer]
        state[1] += 1
        self._router.send(peer, m.Results(state[1], 0, results))
        state[2] += sum(result.count for result in results)
        self._router.send(peer, m.Credit(state[2], 1 << 40))

    def _cancel(self, peer, message):
        runs, results = [], []
        for session, first, count in message.tasks:
            for counter in range(first, first + count):
                if self._open.pop((session, counter), None):
                    runs.append((session, counter, 1))
                    one = m.Result(session, counter, 1, Ending.CANCELLED, [])
                    self._outcomes[session, counter] = one
                    results.append(one)
        self.cancelled += runs
        self._router.send(peer, m.CancelReply(message.request, runs))
        self._deliver(peer, results)

    def _attach(self, peer, message):
        tasks, name = message.tasks, message.job
        info = m.JobInfo(message.request, tasks)
        if name:
            numbers = [number for number, one in self.jobs.items() if one == name]
            groups = [group for group in self.groups if numbers and group.job == numbers[-1]]
            if not groups:
                error = m.JobInfo(message.request, [], error=f"no job {name}")
                self._router.send(peer, error)
                return
            owner = next(key[0] for key in [*self._outcomes, *self._open])
            tasks = [(owner, group.first, group.count) for group in groups]
            info = m.JobInfo(message.request, tasks, owner, numbers[-1], name, "sealed")
        self._router.send(peer, info)
        found = []
        for session, first, count in tasks:
            self._follows.append((peer, session))
            for counter in range(first, first + count):
                if (session, counter) in self._outcomes:
                    found.append(self._outcomes[session, counter])
                elif (session, counter) not in self._open:
                    found.append(m.Result(session, counter, 1, Ending.UNKNOWN, []))
        self._deliver(peer, found)


def _packed(first, values):
    payload = dump_values(values)
    result = m.Result(b"", first, len(values), Ending.OK, [payload], len(payload), packed=True)
    result.seconds = 1e-6 * len(values)
    return result
