"""The coordinator as a process: it serves, says why it cannot, and ends in every way it should."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zmq

from farm.coordinator.settings import ExitCode
from farm.model import Ending
from farm.protocol.messages import (
    Accepted,
    Answer,
    Assign,
    Bye,
    ClientHello,
    ClientWelcome,
    Ended,
    Function,
    Group,
    HostHello,
    HostWelcome,
    Noted,
    Query,
    Rejected,
    Report,
    Result,
    Results,
    Submit,
    Taken,
)
from farm.protocol.records import Finished, JobSealed, SessionMark, Submitted
from farm.store import Append, Delete, open_store
from farm.transport import Dealer, host_address, parse_address
from tests.forked import Forked
from tests.forked_services import IMPORTS

PATIENCE = 20.0
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SESSION, SECRET, HASH = b"s" * 16, b"k" * 16, b"h" * 16


class Process:
    """A coordinator, and the word that it said."""

    def __init__(self, folder, **settings):
        ready, say = os.pipe()
        self.address = settings.setdefault("listen", f"ipc://{folder}/s")
        path = folder / f"settings-{time.monotonic_ns()}.json"
        path.write_text(json.dumps(settings | {"ready_fd": say}))
        self._log = path.with_suffix(".log")
        with self._log.open("wb") as log:
            self.process = Forked(
                ["farm.coordinator", "--settings", str(path)],
                cwd=Path.cwd(),
                env=dict(os.environ),
                pass_fds=[say, *filter(None, [settings.get("parent_fd")])],
                stdout=1,
                stderr=log,
                imports=IMPORTS["farm.coordinator"],
            )
        os.close(say)
        with os.fdopen(ready, "rb") as pipe:
            self.word = json.loads(pipe.read() or b"{}")

    def end(self, number=signal.SIGTERM):
        """Send a signal; returns the exit code and what stood on stderr."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self):
        code = self.process.wait(PATIENCE)
        return code, self._log.read_text()


@pytest.fixture
def coordinator(tmp_path):
    started = []

    def start(**settings):
        started.append(Process(tmp_path, **settings))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait(PATIENCE)


@pytest.fixture
def connect():
    context = zmq.Context()
    dealers = []

    def make(address, side, hello):
        parsed = parse_address(address)
        dealer = Dealer(context, side)
        dealer.connect(parsed if side == "client" else host_address(parsed))
        dealer.send(hello)
        dealers.append(dealer)
        return dealer

    yield make
    for dealer in dealers:
        dealer.close()
    context.destroy(linger=0)


def client_hello(connection=1, epoch=0, pending=(), store=b"", commit=0):
    head = (1, "0.1.0", PYTHON, b"i" * 16, SESSION, SECRET, connection, epoch)
    return ClientHello(*head, store, commit, 1 << 20, list(pending))


def host_hello():
    return HostHello(1, "0.1.0", PYTHON, b"j" * 16, "host-1", 1, 1, 1, 0, b"", 0, [])


def receive(dealer, kind):
    """The next message of a kind; others are passed over."""
    poller = zmq.Poller()
    for one in dealer.sources:
        poller.register(one, zmq.POLLIN)
    until = time.monotonic() + PATIENCE
    kept = vars(dealer).setdefault("kept", [])
    while time.monotonic() < until:
        while kept:
            message = kept.pop(0)
            if isinstance(message, kind):
                return message
        assert not dealer.lost, f"lost while waiting for {kind.__name__}: {dealer.lost}"
        poller.poll(100)
        kept += dealer.receive(100)
    raise AssertionError(f"no {kind.__name__} came")


def connect_until(connect, address, hello):
    """Connect again and again until somebody listens."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        dealer = connect(address, "client", hello)
        try:
            message = receive(dealer, ClientWelcome)
        except AssertionError:
            continue
        dealer.kept.insert(0, message)
        return dealer
    raise AssertionError("nobody listens")


def submit(dealer, first=1, count=1):
    dealer.send(Function(HASH, "f", b"pickle"))
    dealer.send(Submit([Group(first, count, HASH, [b"x"] * count, count)]))
    return receive(dealer, Accepted)


def run_task(host, value):
    """Be a host: take one lease and report its end."""
    assign = receive(host, Assign)
    [grant] = assign.grants
    payloads = [value] * grant.count
    ended = Ended(
        assign.epoch,
        grant.lease,
        grant.attempt,
        grant.first,
        grant.count,
        Ending.OK,
        payloads,
        sum(map(len, payloads)),
    )
    host.send(Report(1, 1, [ended]))


@pytest.mark.parametrize("store", ["memory:", "file"])
def test_a_task_goes_through(coordinator, connect, tmp_path, store):
    process = coordinator(store=store if store == "memory:" else str(tmp_path / "farm.db"))
    assert process.word["epoch"] > 1_600_000_000_000
    client = connect(process.address, "client", client_hello())
    welcome = receive(client, ClientWelcome)
    assert welcome.epoch == process.word["epoch"]
    assert welcome.durable is (store == "file")
    assert submit(client).runs == [(1, 1)]
    host = connect(process.address, "host", host_hello())
    assert receive(host, HostWelcome).unusable == ""
    run_task(host, b"done")
    results = receive(client, Results)
    [entry] = results.entries
    assert (entry.first, entry.ending, entry.payloads) == (1, Ending.OK, [b"done"])
    assert receive(host, Noted).number == 1
    client.send(Taken(results.number))
    client.send(Query(1, "status", {}))
    status = receive(client, Answer).data
    assert (status["epoch"], status["hosts"]) == (welcome.epoch, 1)
    code, said = process.end()
    assert code == ExitCode.OK
    assert receive(client, Bye)
    assert "Traceback" not in said


def test_what_was_accepted_survives_a_kill(coordinator, connect, tmp_path):
    store = str(tmp_path / "farm.db")
    first = coordinator(store=store)
    client = connect(first.address, "client", client_hello())
    submit(client, count=3)
    first.end(signal.SIGKILL)
    second = coordinator(store=store)
    assert second.word["epoch"] > first.word["epoch"]
    hello = client_hello(connection=2, epoch=first.word["epoch"], pending=[(1, 3)])
    client = connect(second.address, "client", hello)
    host = connect(second.address, "host", host_hello())
    receive(client, ClientWelcome)
    run_task(host, b"done")
    assert receive(client, Results).entries[0].first == 1


def test_a_store_whose_log_was_cut_is_not_served_from(coordinator, connect, tmp_path):
    """SQLite opens it without complaint; who has seen what is missing says so."""
    store = tmp_path / "farm.db"
    first = coordinator(store=str(store))
    client = connect(first.address, "client", client_hello())
    welcome = receive(client, ClientWelcome)
    submit(client, count=1)
    log = store.with_name("farm.db-wal")
    left = log.read_bytes()
    seen = submit(client, first=2, count=200).commit
    first.end(signal.SIGKILL)
    log.write_bytes(left)
    second = coordinator(store=str(store))
    connect(second.address, "client", client_hello(2, welcome.epoch, (), welcome.store, seen))
    code, said = second.wait()
    assert code == ExitCode.STEPPED_DOWN
    assert "lost commits" in said


def test_commit_numbers_go_on_where_the_last_records_were_pruned(coordinator, connect, tmp_path):
    store = open_store(tmp_path / "farm.db")
    store_id = store.open(0, 1).store_id
    store.commit([Append(50, JobSealed(SESSION, 1, 0))])
    store.commit([Delete([50])])
    store.close()
    process = coordinator(store=str(tmp_path / "farm.db"))
    # A peer that has seen commit 50 of this store does not take it for one that lost commits.
    client = connect(process.address, "client", client_hello(store=store_id, commit=50))
    assert receive(client, ClientWelcome).commit >= 50
    assert submit(client).commit > 50


def test_records_that_contradict_each_other_are_refused(coordinator, tmp_path):
    path = tmp_path / "farm.db"
    store = open_store(path)
    store.open(0, 1)
    ended = Finished(1.0, [Result(SESSION, 1, 1, Ending.OK, [b"x"], 1)])
    task = Submitted(SESSION, 1.0, [Group(1, 1, HASH, [b"x"], 1)])
    store.commit([Append(1, SessionMark(SESSION, SECRET, 1.0, [(1, 1)])), Append(2, task)])
    store.commit([Append(3, ended), Append(4, ended)])
    store.close()
    process = coordinator(store=str(path))
    assert process.word["error"] == "StoreUnreadable"
    code, said = process.wait()
    assert code == ExitCode.STORE
    assert str(path) in said
    assert "record 4" in said
    assert "Traceback" not in said


def test_the_epoch_is_at_least_the_floor(coordinator):
    floor = 1 << 50
    assert coordinator(epoch_floor=floor).word["epoch"] == floor


@pytest.mark.parametrize("store", ["memory:", "file"])
def test_it_steps_down_before_a_later_epoch_and_serves_above_it(
    coordinator, connect, tmp_path, store
):
    process = coordinator(store=store if store == "memory:" else str(tmp_path / "farm.db"))
    later = process.word["epoch"] + 1_000_000
    first = connect(process.address, "client", client_hello(epoch=later))
    with pytest.raises(AssertionError, match="lost"):
        receive(first, ClientWelcome)
    again = connect_until(connect, process.address, client_hello(connection=2, epoch=later))
    assert receive(again, ClientWelcome).epoch > later
    code, said = process.end()
    assert code == ExitCode.OK
    assert "starts again, above epoch" in said
    if store == "file":
        assert coordinator(store=str(tmp_path / "farm.db")).word["epoch"] > later + 1


def test_it_does_not_serve_a_store_that_lost_commits(coordinator, connect, tmp_path):
    store = open_store(tmp_path / "farm.db")
    store_id = store.open(0, 1).store_id
    store.close()
    process = coordinator(store=str(tmp_path / "farm.db"))
    connect(process.address, "client", client_hello(store=store_id, commit=50))
    code, said = process.wait()
    assert code == ExitCode.STEPPED_DOWN
    assert "the store has lost commits" in said


def test_garbage_on_either_port_changes_nothing(coordinator, connect):
    process = coordinator()
    context = zmq.Context()
    address = parse_address(process.address)
    raws = []
    for where in (address, host_address(address)):
        raw = context.socket(zmq.DEALER)
        raw.linger = 0
        raw.connect(str(where))
        raws.append(raw)
        for frames in ([b""], [b"\x00" * 1000], [os.urandom(500)] * 3, [bytes(66 << 20)]):
            raw.send_multipart(frames)
    client = connect(process.address, "client", client_hello())
    assert submit(client).runs == [(1, 1)]
    context.destroy(linger=0)
    assert process.end()[0] == ExitCode.OK


def test_a_message_before_hello_is_rejected(coordinator, connect):
    process = coordinator()
    client = connect(process.address, "client", Query(1, "status", {}))
    assert receive(client, Rejected).code == "hello"


def test_a_store_that_is_open_elsewhere_is_refused(coordinator, tmp_path):
    store = str(tmp_path / "farm.db")
    coordinator(store=store)
    second = coordinator(store=store, listen=f"ipc://{tmp_path}/other")
    assert second.word["error"] == "StoreLocked"
    code, said = second.wait()
    assert code == ExitCode.STORE
    assert store in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"listen": "tcp://0.0.0.0:7070"}, "ConfigError", "--insecure"),
        ({"listen": "farm-host"}, "AddressError", "tcp://HOST:PORT"),
        ({"core": {"max_tasks": 0}}, "ConfigError", "max_tasks"),
        ({"store": ""}, "ConfigError", "store"),
    ],
)
def test_what_it_cannot_do_is_said_in_one_line(coordinator, settings, error, said):
    process = coordinator(**settings)
    assert process.word["error"] == error
    code, stderr = process.wait()
    assert code in {ExitCode.CONFIG, ExitCode.REFUSED}
    assert said in stderr
    assert stderr.count("\n") == 1


def test_an_address_in_use_is_refused_and_the_store_left_alone(coordinator, tmp_path):
    first = coordinator()
    store = tmp_path / "farm.db"
    second = coordinator(store=str(store))
    assert second.word["error"] == "AddressError"
    assert second.wait()[0] == ExitCode.REFUSED
    assert not store.exists()
    assert first.process.poll() is None


def test_wrong_settings_are_a_sentence(tmp_path):
    for arguments in ([], ["--settings", str(tmp_path / "none.json")]):
        done = subprocess.run(
            [sys.executable, "-m", "farm.coordinator", *arguments],
            capture_output=True,
            check=False,
        )
        assert done.returncode == ExitCode.CONFIG
        assert done.stderr.count(b"\n") == 1


def test_it_ends_with_its_parent(coordinator, tmp_path):
    theirs, ours = os.pipe()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = coordinator(parent_fd=theirs, remove=str(temporary))
    os.close(theirs)
    assert process.process.poll() is None
    os.close(ours)
    assert process.wait()[0] == ExitCode.OK
    assert not temporary.exists()
