"""Cost is per message: the interpreter does as much for 16 tasks as for 512."""

import gc
import sys
import tracemalloc

import pytest

from farm.core import Core, CoreSettings
from farm.identity import TRUSTED
from farm.model import Ending
from farm.protocol import messages as m
from farm.protocol.codec import decoder, encode
from tests.unit.core_harness import STORE, F, group, packed, session_id


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


def lines_from_submit_to_taken(tasks):
    """How many lines of Python run for one group on its whole way."""
    core, port = start()
    ran = 0

    def trace(frame, event, _arg):
        nonlocal ran
        ran += event == "line"
        return trace

    gc.disable()  # finalizers of other tests' garbage are not our lines
    sys.settrace(trace)
    try:
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
    finally:
        sys.settrace(None)
        gc.enable()
    (batch,) = core.ledger.sessions[session_id("alice")].batches
    assert batch.settled == tasks.count
    return ran


@pytest.mark.parametrize("make", [group, packed])
def test_as_much_is_done_for_16_tasks_as_for_512(make):
    assert lines_from_submit_to_taken(make(1, 512)) == lines_from_submit_to_taken(make(1, 16))


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
