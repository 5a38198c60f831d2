"""The loop around the core: order, bounds, bugs, and every way in which it ends."""

import dataclasses
import itertools
import json
import logging
import threading
from types import SimpleNamespace

import pytest
import zmq

from farm.coordinator.journal import Journal
from farm.coordinator.loop import BATCH_MESSAGES, IDLE_TASKS, TURN_MESSAGES, Loop, ShellPort
from farm.coordinator.metrics import Counters, resident_bytes
from farm.coordinator.settings import CoordinatorSettings, ExitCode
from farm.errors import ConfigError
from farm.protocol.messages import Beat, Bye
from farm.protocol.records import JobSealed
from farm.store import StoreFailed
from farm.store.memory import MemoryStore
from farm.transport import Dealer, Poller, Router, Waker, host_address, parse_address

PATIENCE = 10.0


class WokenPoller(Poller):
    """One that has always waited, and soon was woken."""

    woken = property(lambda self: True, lambda self, woken: None)


class DurableStore(MemoryStore):
    """Says that it is durable, so that the journal thread commits to it; notes who did."""

    durable = True

    def __init__(self):
        super().__init__()
        self.threads = []

    def commit(self, changes):
        self.threads.append(threading.current_thread())
        super().commit(changes)


class FakeCore:
    """Writes down what it is told; raises on a Bye whose reason is ``bug``."""

    def __init__(self):
        self.calls = []
        self.deadline = None
        self.dropped_bytes = 0
        self.ledger = SimpleNamespace(open_tasks=0, queues=SimpleNamespace(ring=()))
        self.on_receive = lambda peer, message: None
        self.on_next_tick = lambda: None

    def receive(self, peer, message, now):
        self.calls.append(("receive", peer.side, message))
        self.deadline = now
        if message == Bye("bug"):
            raise RuntimeError("not foreseen")
        self.on_receive(peer, message)

    def on_closed(self, peer, now):
        self.calls.append(("closed", peer.side))

    def on_committed(self, ref, now):
        self.calls.append(("committed", ref))
        self.deadline = now

    def on_loaded(self, ref, record, now):
        self.calls.append(("loaded", ref, record))

    def on_tick(self, now):
        self.calls.append(("tick",))
        self.deadline = None
        self.on_next_tick()

    def on_last_commit(self, now):
        self.calls.append(("last commit",))

    def on_stopping(self, now):
        self.calls.append(("stopping",))

    def next_deadline(self):
        return self.deadline

    def names(self):
        return [call[0] for call in self.calls]


@dataclasses.dataclass
class Shell:
    core: FakeCore
    port: ShellPort
    journal: Journal
    loop: Loop
    host: Dealer
    client: Dealer

    def turn_until(self, condition):
        """Take turns until the condition holds; each waits until something comes."""
        for _ in range(2000):
            if condition():
                return
            self.loop._turn(0.005)
        raise AssertionError(f"it never came to that: {self.core.calls}")


@pytest.fixture
def shell(tmp_path):
    context = zmq.Context()
    address = parse_address(f"ipc://{tmp_path}/s")
    hosts, clients = Router(context, "host"), Router(context, "client")
    clients.bind(address)
    hosts.bind(host_address(address))
    store = DurableStore()
    store.open(0, 1)
    waker = Waker()
    journal = Journal(store, waker.wake)
    journal._usual_seconds = 0.0  # as after some quick commits
    counters = Counters((hosts, clients))
    port = ShellPort((hosts, clients), journal, counters)
    core = FakeCore()
    loop = Loop(core, port, journal, waker, (hosts, clients), counters)
    host, client = Dealer(context, "host"), Dealer(context, "client")
    host.connect(host_address(address))
    client.connect(address)
    yield Shell(core, port, journal, loop, host, client)
    host.close()
    client.close()
    context.destroy(linger=0)
    waker.close()


def test_what_arrives_reaches_the_core_and_a_tick_follows(shell):
    shell.client.send(Beat(1.0))
    shell.turn_until(lambda: shell.core.calls)
    assert shell.core.calls == [("receive", "client", Beat(1.0)), ("tick",)]
    shell.loop._turn(0.0)
    assert shell.core.names().count("tick") == 1


def test_sockets_are_drained_before_time_is_looked_at(shell):
    """A process that was stopped has beats in its sockets: they come before leases end."""
    shell.host.send(Beat(1.0))
    shell.client.send(Beat(2.0))
    shell.turn_until(lambda: len(shell.core.names()) >= 3)
    shell.core.calls.clear()
    shell.core.deadline = 0.0  # long ago
    shell.host.send(Beat(3.0))
    assert shell.loop._hosts.socket.poll(PATIENCE * 1000)
    shell.loop._hosts._quiet = False  # it was asked behind the router's back
    shell.loop._turn(0.0)
    assert shell.core.names() == ["receive", "tick"]


def test_what_the_core_sends_leaves(shell):
    shell.core.on_receive = lambda peer, message: shell.port.send(peer, Beat(0.0, message.stamp))
    shell.host.send(Beat(2.0))
    got = []
    shell.turn_until(lambda: got.extend(shell.host.receive(10)) or got)
    assert got == [Beat(0.0, 2.0)]


def test_a_change_is_committed_and_the_core_is_told_before_the_next_tick(shell):
    record = JobSealed(b"s" * 16, 1, 5)
    shell.core.on_receive = lambda peer, message: shell.port.persist(1, record)
    shell.client.send(Beat(1.0))
    shell.turn_until(lambda: ("committed", 1) in shell.core.calls)
    assert shell.core.names() == ["receive", "committed", "tick"]
    shell.port.load(1)
    shell.turn_until(lambda: ("loaded", 1, record) in shell.core.calls)
    shell.port.prune([1])
    shell.port.keep_function(b"h" * 16, "f", b"data")
    shell.port.drop_functions([b"h" * 16])
    shell.turn_until(lambda: shell.port.fetch(1) is None)
    shell.port.load(1)
    shell.turn_until(lambda: ("loaded", 1, None) in shell.core.calls)


@pytest.mark.parametrize(
    ("tasks", "ring", "idle"), [(0, (), True), (IDLE_TASKS + 1, (), False), (1, ("queue",), False)]
)
def test_the_loop_waits_for_a_commit_only_if_it_has_nothing_else_to_do(shell, tasks, ring, idle):
    store = DurableStore()
    store.open(0, 1)
    journal = shell.loop._journal = shell.port._journal = Journal(store, shell.loop._waker.wake)
    shell.core.ledger = SimpleNamespace(open_tasks=tasks, queues=SimpleNamespace(ring=ring))
    refs = itertools.count(1)
    shell.core.on_receive = lambda peer, message: shell.port.persist(
        next(refs), JobSealed(b"s" * 16, 1, 5)
    )
    shell.client.send(Beat(1.0))  # the first commit shows that the disk is quick
    shell.turn_until(lambda: ("committed", 1) in shell.core.calls)
    shell.core.calls.clear()
    shell.client.send(Beat(2.0))
    shell.turn_until(lambda: ("committed", 2) in shell.core.calls)
    assert [thread is threading.current_thread() for thread in store.threads] == [False, idle]
    if idle:
        assert shell.core.names() == ["receive", "committed", "tick"]
    journal.close()


def test_a_message_on_which_the_core_raises_costs_its_sender_the_connection(shell, caplog):
    shell.client.send(Bye("bug"))
    shell.client.send(Beat(1.0))
    shell.host.send(Beat(2.0))
    with caplog.at_level(logging.WARNING, "farm.coordinator"):
        shell.turn_until(lambda: ("receive", "host", Beat(2.0)) in shell.core.calls)
    assert ("receive", "client", Beat(1.0)) not in shell.core.calls
    told = [call for call in shell.core.calls if call[0] != "tick" and call[1] == "client"]
    assert told == [("receive", "client", Bye("bug")), ("closed", "client")]
    assert shell.port.counters()["bugs"] == 1
    assert "a bug: receive of Bye raised RuntimeError('not foreseen')" in caplog.text


def test_a_tick_that_raises_ends_nothing_and_is_not_repeated_at_once(shell):
    def fail():
        shell.core.deadline = 0.0
        raise RuntimeError("not foreseen")

    shell.core.on_next_tick = fail
    shell.client.send(Beat(1.0))
    shell.turn_until(lambda: ("tick",) in shell.core.calls)
    assert shell.loop._timeout() > 0
    shell.loop._turn(0.0)
    assert shell.core.names().count("tick") == 1


def test_one_socket_does_not_starve_the_other(shell):
    shell.client.send(Beat(0.0))
    shell.turn_until(lambda: shell.core.calls)
    shell.core.calls.clear()
    for _ in range(2 * TURN_MESSAGES):
        shell.client.send(Beat(1.0))
    shell.host.send(Beat(2.0))
    both = zmq.Poller()
    both.register(shell.loop._hosts.socket, zmq.POLLIN)
    both.register(shell.loop._clients.socket, zmq.POLLIN)
    while len(both.poll(PATIENCE * 1000)) < 2:
        pass
    shell.loop._hosts._quiet = shell.loop._clients._quiet = False  # asked behind their backs
    shell.turn_until(lambda: ("receive", "host", Beat(2.0)) in shell.core.calls)
    at = shell.core.calls.index(("receive", "host", Beat(2.0)))
    assert at <= BATCH_MESSAGES
    assert len(shell.core.calls) <= TURN_MESSAGES + 2


def test_whoever_is_woken_answers_the_first_message_before_reading_the_next(shell):
    shell.loop._poller.__class__ = WokenPoller
    shell.client.send(Beat(1.0))
    shell.client.send(Beat(2.0))
    shell.turn_until(lambda: ("receive", "client", Beat(2.0)) in shell.core.calls)
    assert shell.core.names()[:3] == ["receive", "tick", "receive"]


@pytest.mark.parametrize("waiting", [("a queue",), ()])
def test_a_task_is_placed_before_its_submission_is_committed_on_this_thread(shell, waiting):
    def submit(peer, message):
        shell.core.ledger.queues.ring = waiting
        shell.port.persist(1, JobSealed(b"s" * 16, 1, 0))

    shell.loop._poller.__class__ = WokenPoller
    shell.core.on_receive = submit
    shell.client.send(Beat(1.0))
    shell.turn_until(lambda: "committed" in shell.core.names())
    placed = ["tick"] if waiting else []
    assert shell.core.names() == ["receive", *placed, "committed", "tick"]


def test_clients_wait_while_the_disk_is_behind_and_hosts_do_not(shell, monkeypatch):
    monkeypatch.setattr(Journal, "behind", True)
    shell.client.send(Beat(1.0))
    shell.host.send(Beat(2.0))
    shell.turn_until(lambda: ("receive", "host", Beat(2.0)) in shell.core.calls)
    assert shell.loop._clients.socket.poll(PATIENCE * 1000)
    shell.loop._turn(0.0)
    assert ("receive", "client", Beat(1.0)) not in shell.core.calls
    monkeypatch.setattr(Journal, "behind", False)
    shell.turn_until(lambda: ("receive", "client", Beat(1.0)) in shell.core.calls)


def test_a_connection_that_is_gone_is_reported_once(shell):
    peers = []
    shell.core.on_receive = lambda peer, message: peers.append(peer)
    shell.client.send(Beat(1.0))
    shell.turn_until(lambda: peers)
    shell.client.close()
    shell.client = shell.host

    def told():
        shell.port.send(peers[0], Beat(0.0, 1.0))
        return ("closed", "client") in shell.core.calls

    shell.turn_until(told)
    shell.loop._turn(0.0)
    assert shell.core.names().count("closed") == 1


def test_the_end_commits_then_says_bye(shell):
    shell.core.on_last_commit = lambda now: shell.port.persist(1, JobSealed(b"s" * 16, 1, 5))
    shell.loop.stop()
    assert shell.loop.run() == ExitCode.OK
    names = shell.core.names()
    assert names.index("committed") < names.index("stopping")


def test_a_journal_that_failed_ends_the_process(shell, caplog):
    shell.journal.fatal = StoreFailed("the disk is gone")
    shell.client.send(Beat(1.0))
    assert shell.loop.run() == ExitCode.JOURNAL
    assert "the disk is gone" in caplog.text


def test_a_coordinator_that_must_not_serve_ends(shell, caplog):
    shell.core.on_receive = lambda peer, message: shell.port.stop("a later epoch was seen")
    shell.client.send(Beat(1.0))
    assert shell.loop.run() == ExitCode.STEPPED_DOWN
    assert "a later epoch was seen" in caplog.text


def test_the_process_counts_itself(shell):
    shell.client.send(Beat(1.0))
    shell.turn_until(lambda: shell.core.calls)
    counted = shell.port.counters()
    assert counted["received"] == counted["connections"] == 1
    assert counted["garbled"] == 0
    assert resident_bytes() > 1 << 20


def test_settings_are_read_and_refused_by_name(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"listen": "ipc:///run/f", "core": {"max_tasks": 7}}))
    settings = CoordinatorSettings.read(path)
    assert settings.store == "memory:"
    core = settings.core_settings()
    assert (core.max_tasks, core.python.count(".")) == (7, 1)
    for wrong, said in [
        ({}, "listen"),
        ({"listen": 1}, "listen"),
        ({"listen": "x", "liste": "x"}, "liste"),
    ]:
        path.write_text(json.dumps(wrong))
        with pytest.raises(ConfigError, match=f"settings.json.*{said}"):
            CoordinatorSettings.read(path)
    with pytest.raises(ConfigError, match="no-such-file"):
        CoordinatorSettings.read(tmp_path / "no-such-file")
    for wrong, said in [({"max_task": 7}, "max_task"), ({"max_tasks": "many"}, "max_tasks")]:
        with pytest.raises(ConfigError, match=said):
            CoordinatorSettings(listen="x", core=wrong).core_settings()
