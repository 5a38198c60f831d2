"""Cost is per message: the interpreter does as much for 16 tasks as for 512."""

import gc
import sys
import tracemalloc
from contextlib import contextmanager

import pytest

from farm.core import Core, CoreSettings
from farm.core.batch import Outcome
from farm.core.hosts import Lease
from farm.identity import TRUSTED
from farm.model import Ending
from farm.protocol import messages as m
from farm.protocol.codec import decoder, encode
from tests.unit.core_harness import STORE, F, Rig, claim, ended, group, key, packed, session_id


class Port:
    """Keeps what was sent in this turn, and the last ref."""

    def __init__(self):
        self.ref = 0
        self.sent = []

    def send(self, peer, message):
        self.sent.append(message)

    def identity(self, peer):
        return TRUSTED

    def persist(self, ref, record):
        self.ref = ref

    def keep_function(self, digest, name, data):
        pass


def start():
    port = Port()
    settings = CoreSettings(grant_tasks=512, reply_seconds=0.0, upkeep_seconds=0.0)
    core = Core(settings, port, epoch=1, store=STORE, durable=True, chance=lambda: 0.5)
    core.start(0.0, 1e9)
    hello = (1, "", "", b"", session_id("alice"), b"!" * 16, 1, 0, b"", 0, 1 << 30, [])
    core.receive("client", m.ClientHello(*hello), 0.0)
    core.receive("client", F, 0.0)
    core.receive("host", m.HostHello(1, "", "", b"", "h", 1, 600, 600, 0, b"", 0, []), 0.0)
    commit(core, port)
    port.sent.clear()
    return core, port


def commit(core, port):
    core.on_committed(port.ref, 0.0)
    core.on_tick(0.0)


@contextmanager
def lines():
    """How many lines of Python run inside, in a list."""
    ran = [0]

    def trace(frame, event, _arg):
        ran[0] += event == "line"
        return trace

    gc.disable()  # finalizers of other tests' garbage are not our lines
    sys.settrace(trace)
    try:
        yield ran
    finally:
        sys.settrace(None)
        gc.enable()


def lines_from_submit_to_taken(tasks):
    """How many lines of Python run for one group on its whole way."""
    core, port = start()
    with lines() as ran:
        core.receive("client", m.Submit([tasks]), 0.0)
        core.on_tick(0.0)
        (grant,) = [g for x in port.sent if isinstance(x, m.Assign) for g in x.grants]
        payloads = [b"r"] if tasks.packed else [b"r"] * tasks.count
        end = m.Ended(1, grant.lease, 1, tasks.first, tasks.count, Ending.OK, payloads,
                      len(payloads), tasks.packed, 0.001)  # fmt: skip
        core.receive("host", m.Report(1, 600, [end]), 0.0)
        commit(core, port)
        core.receive("client", m.Taken(1), 0.0)
        commit(core, port)
    (batch,) = core.ledger.sessions[session_id("alice")].batches
    assert batch.settled == tasks.count
    return ran[0]


@pytest.mark.parametrize("make", [group, packed])
def test_as_much_is_done_for_16_tasks_as_for_512(make):
    assert lines_from_submit_to_taken(make(1, 512)) == lines_from_submit_to_taken(make(1, 16))


def tried(count):
    """A rig, its peers, and the grant of a packed task of which an attempt was given back."""
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.submit(client, packed(1, count))
    (grant,) = rig.grants(host)
    rig.report(host, returned=[key(grant)])
    (grant,) = rig.grants(host)
    return rig, client, host, grant


def each(grant, ending=Ending.OK):
    """The items of a grant end one by one."""
    return [ended(grant, ending, lo=at, hi=at + 1) for at in range(grant.count)]


def lines_of_ends(count, *, stopped):
    rig, client, host, grant = tried(count)
    if stopped:
        rig.say(client, m.Cancel(1, [(session_id("alice"), 1, count)], 0.0))
        rig.commit()
    with lines() as ran:
        rig.core.receive(host, m.Report(2, 4, each(grant)), rig.now)
    rig.commit()
    assert not rig.ledger.open_tasks
    return ran[0]


def lines_of_starts(count):
    """Of items that somebody wants cancelled: each is decided by itself."""
    rig, client, host, grant = tried(count)
    rig.say(client, m.Cancel(1, [(session_id("alice"), 1, count)]))
    started = [key(grant, lo=at, hi=at + 1) for at in range(count)]
    with lines() as ran:
        rig.core.receive(host, m.Report(2, 4, [], started), rig.now)
    assert not rig.core.cancels.waiting
    return ran[0]


def lines_of_loading(count):
    """Of items that ended one by one."""
    rig, _, host, grant = tried(count)
    rig.report(host, number=2, ended=each(grant))
    with lines() as ran:
        rig.reload()
    return ran[0]


def lines_of_following(count):
    """Of every second item of a packed task that failed."""
    rig, _, host, grant = tried(count)
    rig.report(host, number=2, ended=each(grant, Ending.EXCEPTION))
    reader = rig.client("bob")
    asked = [(session_id("alice"), 1 + at, 1) for at in range(0, count, 2)]
    with lines() as ran:
        rig.core.receive(reader, m.Attach(1, asked), rig.now)
        rig.core.on_tick(rig.now)
    assert len(rig.results(reader)) == len(asked)
    return ran[0]


@pytest.mark.parametrize(
    "cost",
    [
        lambda count: lines_of_ends(count, stopped=False),
        lambda count: lines_of_ends(count, stopped=True),
        lines_of_starts,
        lines_of_loading,
        lines_of_following,
    ],
    ids=["ends", "stops", "starts", "loading", "following"],
)
def test_of_the_items_of_a_packed_task_each_costs_as_much_however_many_there_are(cost):
    assert cost(256) < 5 * cost(64)


def lines_of_recovery(count, *, after):
    """Of a coordinator whose host comes back with all it had, or of the one ``after`` that."""
    rig = Rig()
    client, host = rig.client(), rig.host(slots=count, window=count)
    rig.submit(client, *[group(1 + at) for at in range(count)])
    claims = [claim(grant) for grant in rig.grants(host)]
    rig.reload()
    with lines() as ran:
        rig.host(claims=claims, slots=count, window=count)
    assert rig.ledger.counters["adopted"] == count
    if after:
        with lines() as ran:
            rig.reload()
    return ran[0]


@pytest.mark.parametrize("after", [False, True])
def test_what_is_taken_back_from_hosts_is_compared_with_no_other_task(after):
    assert lines_of_recovery(256, after=after) < 5 * lines_of_recovery(64, after=after)


def lines_of_placement(count):
    """Of tasks that need a host with a label, all of which one host has room for."""
    rig = Rig()
    client = rig.client()
    host = rig.host(slots=count, window=count, labels={"gpu": ""})
    template = m.Template(labels=("gpu",))
    groups = [group(1 + at, template=template) for at in range(count)]
    rig.core.receive(client, m.Submit(groups), rig.now)
    with lines() as ran:
        rig.core.on_tick(rig.now)
    assert len(rig.grants(host)) == count
    return ran[0]


def test_what_a_host_has_already_makes_no_placement_slower():
    assert lines_of_placement(256) < 5 * lines_of_placement(64)


def test_who_cancels_one_task_has_no_lease_of_others_looked_at(monkeypatch):
    rig = Rig(grant_tasks=1)
    client, host = rig.client(), rig.host(slots=64, window=64)
    rig.submit(client, group(1, 64))
    assert len(rig.grants(host)) == 64
    looked = []
    for name in ("live_runs", "live_in"):
        found = getattr(Lease, name)
        monkeypatch.setattr(
            Lease, name, lambda *given, found=found: looked.append(given) or found(*given)
        )
    runs = [(session_id("alice"), counter, 1) for counter in range(1, 65)]
    rig.core.receive(client, m.Cancel(1, runs), rig.now)
    assert rig.core.cancels.waiting == 64
    assert len(looked) <= 2 * 64


def test_copying_out_what_lives_compares_no_outcome_with_all_others(monkeypatch):
    count = m.TASKS_PER_MESSAGE_MAX + 128
    rig, client, host, grant = tried(count)
    rig.report(host, number=2, ended=each(grant, Ending.EXCEPTION))
    compared = 0

    def equal(one, other):
        nonlocal compared
        compared += 1
        return one is other

    monkeypatch.setattr(Outcome, "__eq__", equal, raising=False)
    rig.say(client, m.Taken(1))
    rig.commit()
    monkeypatch.setattr(rig, "check", lambda: None)
    rig.sleep(1)
    (batch,) = rig.ledger.sessions[session_id("alice")].batches
    assert (batch.settled, batch.row.count) == (m.TASKS_PER_MESSAGE_MAX, 128)
    assert compared < count


def test_a_queued_task_costs_little_memory():
    core, port = start()
    core.on_closed("host", 0.0)
    read = decoder("from_client")
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(40):
            payloads = [b"%020d" % index for index in range(512)]
            one = group(1 + 512 * number, 512, payloads=payloads)
            _, message = read.decode(encode(number, m.Submit([one])))
            core.receive("client", message, 0.0)
            commit(core, port)
            port.sent.clear()
        del payloads, one, message
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert core.ledger.open_tasks == 40 * 512
    assert (after - before) / (40 * 512) < 250
