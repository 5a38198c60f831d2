"""Results on their way: windows, acknowledgement, reconnects, reading back from the store."""

from farm.model import Ending
from farm.protocol import messages as m
from farm.protocol import records as r
from tests.unit.core_harness import Rig, ended, group, packed, session_id

ALICE = session_id("alice")
VOLATILE = m.Template(durable=False)
BIG = 400_000


def finished(*groups, client=None, size=None, rig=None, **more):
    """A rig in which these tasks succeeded; ``size`` is that of each result."""
    rig = rig or Rig(**more)
    client = rig.client(**(client or {}))
    host = rig.peers.get("host") or rig.host(slots=512, window=512)
    rig.submit(client, *groups)
    rig.take(client)
    for number, grant in enumerate(rig.grants(host), 1):
        payloads = None if size is None else [b"x" * size] * grant.count
        packs = {"packed": True, "payloads": [b"all"]} if grant.packed else {"payloads": payloads}
        rig.report(host, number=number, window=512, ended=[ended(grant, **packs)])
    return rig, client


def messages(rig, peer):
    return [x for x in rig.take(peer) if isinstance(x, m.Results)]


def firsts(rig, peer):
    return [e.first for x in messages(rig, peer) for e in x.entries]


def test_no_more_than_the_window_is_on_the_way():
    groups = [group(i, 1) for i in range(1, 6)]
    rig, client = finished(*groups, size=BIG, client={"window_bytes": 2 * BIG})
    assert firsts(rig, client) == [1, 2]
    rig.say(client, m.Taken(1))
    assert firsts(rig, client) == [3]
    rig.say(client, m.Taken(99))
    assert firsts(rig, client) == [4, 5]


def test_a_result_larger_than_a_message_usually_is_waits_for_no_other_to_be_taken():
    large = [group(i, 1) for i in range(1, 5)]
    rig, client = finished(*large, size=3 << 20, client={"window_bytes": 10 << 20})
    assert [len(x.entries) for x in messages(rig, client)] == [1, 1, 1]
    rig.say(client, m.Taken(1))
    assert firsts(rig, client) == [4]


def test_the_last_open_result_leaves_with_its_report_and_several_at_the_end_of_the_turn():
    rig = Rig()
    client, host = rig.client(), rig.host(slots=4, window=4)
    rig.submit(client, group(1, 2, template=VOLATILE))
    (grant,) = rig.grants(host)
    for number, index in enumerate((0, 1), 1):
        rig.take(client)
        report = m.Report(number, 4, [ended(grant, lo=index, hi=index + 1)])
        rig.say(host, report, tick=False)
        assert firsts(rig, client) == ([2] if index else [])
        rig.tick()
        assert firsts(rig, client) == ([] if index else [1])


def test_one_message_is_always_allowed():
    rig, client = finished(group(1, 1), group(2, 1), size=BIG, client={"window_bytes": 0})
    assert firsts(rig, client) == [1]
    rig.say(client, m.Taken(1))
    assert firsts(rig, client) == [2]


def test_what_was_not_taken_is_sent_again_in_order_after_a_reconnect():
    rig, client = finished(*(group(i, 1) for i in range(1, 5)))
    assert firsts(rig, client) == [1, 2, 3, 4]
    rig.say(client, m.Taken(2))
    rig.commit()
    client = rig.client(quiet=False)
    assert [x.number for x in rig.of(m.Results)] == [1]
    rig.drop(client)
    client = rig.client(quiet=False)
    assert firsts(rig, client) == [3, 4]


def test_taken_of_an_older_connection_says_nothing():
    rig, old = finished(group(1, 1))
    rig.client()
    rig.say(old, m.Taken(1))
    assert rig.ledger.counters["before_hello"] == 1
    assert next(iter(rig.ledger.sessions[ALICE].batches)).settled == 0


def test_results_are_delivered_after_a_restart_from_the_store():
    rig, client = finished(group(1, 3))
    messages(rig, client)
    rig.reload()
    client = rig.client(quiet=False)
    assert messages(rig, client) == []
    assert len(rig.answer_loads()) == 1
    (sent,) = messages(rig, client)
    assert [(e.first, e.payloads) for e in sent.entries] == [(1, [b"r1", b"r2", b"r3"])]


def test_a_taken_result_is_pruned_and_never_sent_again():
    rig, client = finished(group(1, 3))
    rig.say(client, m.Taken(1))
    rig.sleep(1.0)
    assert {type(r.decode_record(x)) for x in rig.disk.records.values()} <= {
        r.SessionMark,
        r.HostJoined,
        r.Remembered,
    }
    rig.reload()
    client = rig.client(quiet=False, pending=[(1, 3), (9, 1)])
    endings = [(e.first, e.count, e.ending) for x in messages(rig, client) for e in x.entries]
    assert endings == [(1, 3, Ending.DELIVERED), (9, 1, Ending.UNKNOWN)]


def test_pending_tasks_that_will_end_are_not_answered():
    rig = Rig()
    client = rig.client()
    rig.submit(client, group(1, 3))
    client = rig.client(quiet=False, pending=[(1, 3)])
    assert messages(rig, client) == []


def test_taken_but_still_waited_for_is_sent_again():
    """The acknowledgement was durable, the client says that it lost the result."""
    rig, client = finished(group(1, 3, template=m.Template(result_ttl=100.0)))
    rig.say(client, m.Taken(1))
    rig.commit()
    client = rig.client(quiet=False, pending=[(1, 3)])
    rig.answer_loads()
    assert firsts(rig, client) == [1]


def test_results_beyond_the_resident_bound_wait_in_the_store():
    groups = [group(i, 1) for i in range(1, 8)]
    rig, client = finished(
        *groups, size=BIG, resident_result_bytes=2 * BIG, client={"window_bytes": 1}
    )
    session = rig.ledger.sessions[ALICE]
    assert session.resident_bytes <= 2 * BIG
    resident = sum(d.outcome.size for d in session.outbox if d.outcome.result is not None)
    assert resident <= 2 * BIG
    got = firsts(rig, client)
    for number in range(1, 8):
        rig.say(client, m.Taken(number))
        rig.answer_loads()
        got += firsts(rig, client)
        resident = sum(d.outcome.size for d in session.outbox if d.outcome.result is not None)
        assert resident <= 2 * BIG
    assert got == [1, 2, 3, 4, 5, 6, 7]


def test_what_was_read_back_counts_as_resident_until_it_is_sent():
    groups = [group(i, 1) for i in range(1, 30)]
    rig, client = finished(
        *groups, size=BIG, resident_result_bytes=2 * BIG, client={"window_bytes": 1}
    )
    session = rig.ledger.sessions[ALICE]
    rig.say(client, m.Taken(9))
    rig.answer_loads()
    rig.say(client, m.Taken(9))
    rig.answer_loads()
    waiting = [d.outcome for d in session.outbox if d.outcome.result is not None]
    assert session.resident_bytes == sum(one.size for one in waiting) > 0
    assert session.resident_bytes <= 4 << 20


def test_a_record_is_asked_for_once_while_it_is_on_the_way():
    rig, client = finished(group(1, 3))
    rig.reload()
    client = rig.client()
    for _ in range(5):
        rig.say(client, m.Taken(0))
    assert len(rig.loads) == 1
    assert [len(found) for found in rig.core.deliveries._loading.values()] == [1]


def test_a_record_that_is_gone_is_an_unknown_task_and_not_silence():
    rig, client = finished(group(1, 3))
    rig.reload()
    client = rig.client()
    (ref,) = rig.loads
    rig.loads = []
    rig.core.on_loaded(ref, None, rig.now)
    rig.tick()
    assert [e.ending for x in messages(rig, client) for e in x.entries] == [Ending.UNKNOWN]
    rig.core.on_loaded(12345, None, rig.now)  # never asked for


def test_a_result_forgotten_while_it_waited_is_said_to_be():
    rig, client = finished(group(1, 1), group(2, 1), size=BIG, client={"window_bytes": 1},
                           result_ttl=50.0)  # fmt: skip
    assert firsts(rig, client) == [1]
    rig.sleep(120)
    rig.say(client, m.Taken(1))
    rig.answer_loads()
    rig.sleep(1)
    (entry,) = [e for x in messages(rig, client) for e in x.entries]
    assert (entry.first, entry.count) == (2, 1)


def test_a_short_result_ttl_does_not_cost_an_unread_result():
    """It says how long a result is kept although it was taken."""
    rig, client = finished(group(1, 1, template=m.Template(result_ttl=5.0)))
    messages(rig, client)
    rig.drop(client)
    rig.sleep(100)
    client = rig.client(quiet=False, pending=[(1, 1)])
    rig.answer_loads()
    assert [e.ending for x in messages(rig, client) for e in x.entries] == [Ending.OK]


def test_volatile_results_are_kept_until_taken_and_then_known():
    rig, client = finished(group(1, 2, template=VOLATILE), size=10)
    assert firsts(rig, client) == [1]
    client = rig.client(quiet=False, pending=[(1, 2)])
    assert firsts(rig, client) == [1]
    rig.say(client, m.Taken(1))
    rig.sleep(1)
    assert len(rig.ledger.sessions[ALICE].batches) == 0
    client = rig.client(quiet=False, pending=[(1, 2)])
    assert [e.ending for x in messages(rig, client) for e in x.entries] == [Ending.DELIVERED]


def test_a_packed_result_travels_whole():
    rig, client = finished(packed(1, 50))
    (sent,) = messages(rig, client)
    assert [(e.first, e.count, e.packed, e.payloads) for e in sent.entries] == [
        (1, 50, True, [b"all"])
    ]


def test_a_message_of_results_is_bounded():
    rig, client = finished(*(group(i, 1) for i in range(1, 5)), size=600_000)
    assert [len(x.entries) for x in messages(rig, client)] == [1, 1, 1, 1]
