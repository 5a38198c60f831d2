"""Which payloads are in memory: dropped over the budget, read back before their turn."""

import pytest

from farm.core import CoreSettings
from farm.core.stored import Stored
from farm.errors import ConfigError
from farm.model import Ending
from farm.protocol import messages as m
from farm.protocol import records as r
from tests.unit.core_harness import Rig, ended, group, packed, session_id

ALICE = session_id("alice")
SIZE = 100
VOLATILE = m.Template(durable=False)


def sized(first, count=1, **more):
    return group(first, count, payloads=[b"%0*d" % (SIZE, first + i) for i in range(count)], **more)


def farm(*groups, budget=10 * SIZE, **settings):
    """A farm without hosts in which these tasks are queued and committed."""
    rig = Rig(resident_payload_bytes=budget, **settings)
    client = rig.client()
    for one in groups:
        rig.submit(client, one)
    rig.take(client)
    return rig, client


def stored(rig):
    """The counters of the batches whose payloads are in the store alone."""
    sessions = rig.ledger.sessions.values()
    return [batch.first for session in sessions for batch in session.batches if batch.stored]


def given(rig, host):
    return [(grant.first, grant.payloads) for grant in rig.grants(host)]


def payload(counter):
    return b"%0*d" % (SIZE, counter)


def test_the_last_to_come_are_dropped_and_counted():
    rig, _ = farm(*(sized(i) for i in range(1, 16)), budget=10 * SIZE)
    residence = rig.ledger.residence
    assert stored(rig) == [11, 12, 13, 14, 15]
    assert (residence.bytes, residence.stored_bytes) == (10 * SIZE, 5 * SIZE)
    assert residence.dropped == 5
    assert rig.loads == []
    assert rig.ledger.open_bytes == 15 * SIZE


def test_what_is_not_committed_stays():
    rig, client = farm(budget=1)
    rig.submit(client, sized(1, 5), commit=False)
    assert stored(rig) == []
    assert rig.ledger.residence.bytes == 5 * SIZE
    rig.commit()
    assert rig.ledger.residence.bytes in {0, 5 * SIZE}  # the next in turn may be there
    rig.submit(client, sized(6, 5))
    assert 6 in stored(rig)


def test_what_is_in_no_journal_stays():
    rig, _ = farm(sized(1, 5, template=VOLATILE), budget=1)
    assert stored(rig) == []
    assert rig.ledger.residence.bytes == 5 * SIZE


def test_a_store_in_memory_has_no_budget():
    rig = Rig(resident_payload_bytes=1, durable=False)
    client = rig.client()
    rig.submit(client, sized(1, 5), sized(6, 5))
    assert stored(rig) == []
    assert rig.ledger.residence.budget is None
    assert rig.ledger.residence.bytes == 10 * SIZE


def test_tasks_run_in_order_whether_their_payloads_are_here_or_not():
    rig, _ = farm(*(sized(i) for i in range(1, 31)), budget=8 * SIZE)
    host = rig.host(slots=2, window=2)
    ran = []
    for number in range(1, 200):
        rig.answer_loads()
        ran += (grants := rig.grants(host))
        rig.report(host, number=number, window=2, ended=[ended(grant) for grant in grants])
        assert rig.ledger.residence.bytes <= 8 * SIZE
    assert [(grant.first, grant.payloads) for grant in ran] == [
        (i, [payload(i)]) for i in range(1, 31)
    ]
    assert rig.ledger.residence.bytes == rig.ledger.residence.stored_bytes == 0


def test_what_comes_next_is_read_ahead_within_a_window():
    rig, _ = farm(*(sized(i) for i in range(1, 201)), budget=80 * SIZE)  # the window has 10
    residence = rig.ledger.residence
    host = rig.host(slots=1, window=1)
    for number in range(1, 76):
        rig.report(host, number=number, window=1, ended=[ended(g) for g in rig.grants(host)])
    refs = list(rig.loads)
    assert refs, "nothing was read ahead"
    assert residence.reading_bytes <= residence.window == 10 * SIZE
    # All that is here runs while the rest is on its way.
    for number in range(76, 81):
        rig.report(host, number=number, window=1, ended=[ended(g) for g in rig.grants(host)])
    rig.answer_loads()
    assert given(rig, host) == [(81, [payload(81)])]


def test_a_payload_that_is_read_blocks_its_own_line_alone():
    rig, alice = farm(sized(1), sized(2), budget=1)
    bob = rig.client("bob")
    rig.submit(alice, sized(3))
    refs = rig.ledger.residence.stored
    assert refs
    rig.answer_loads()
    rig.loads = []
    rig.submit(bob, sized(1, template=VOLATILE))
    while not stored(rig) or 1 not in stored(rig):  # the head of alice's line is in the store
        _drop_all(rig)
    host = rig.host(slots=1, window=1)
    assert [grant.session for grant in rig.grants(host)] == [session_id("bob")]
    assert rig.loads


def test_what_could_not_be_read_ahead_is_read_as_soon_as_it_can_be():
    rig, alice = farm(sized(1), budget=1)
    (ref,) = rig.loads
    rig.say(alice, m.Cancel(1, [(ALICE, 1, 1)]))
    rig.commit()
    rig.submit(rig.client("bob"), sized(1))
    assert rig.loads == [ref]  # nothing beside what is being read
    rig.answer_loads()
    assert len(rig.loads) == 1


def test_what_a_burial_has_brought_leaves_less_room_for_what_comes_next():
    rig, _ = farm(sized(1, 2, template=m.Template(max_losses=0)), budget=1)
    first = rig.host(slots=1, window=1)
    rig.answer_loads()
    rig.commit()
    (grant,) = rig.grants(first)
    _drop_all(rig)
    rig.submit(rig.client("bob"), sized(1, 2, template=VOLATILE))
    rig.host("second", slots=1, window=1)
    assert len(rig.ledger.residence.near) == 2  # one of which is being read
    failure = m.Failure("signal", "killed", code=-9)
    rig.report(first, window=0, ended=[ended(grant, Ending.LOST, failure=failure)])
    assert len(rig.ledger.residence.near) == 1
    rig.answer_loads()  # for nobody


def _drop_all(rig):
    rig.ledger.residence.near.clear()
    rig.ledger.residence.settle()


def test_a_packed_payload_comes_back_whole():
    rig, _ = farm(sized(1), packed(2, 50, b"x" * 500), budget=1)
    host = rig.host(slots=64, window=64)
    for _ in range(5):
        rig.answer_loads()
    grants = rig.grants(host)
    assert [(g.first, g.count, g.payloads) for g in grants] == [
        (1, 1, [payload(1)]),
        (2, 50, [b"x" * 500]),
    ]


def test_cancelling_what_is_stored_gives_back_its_room():
    rig, client = farm(sized(1, 10), sized(11, 10), budget=10 * SIZE)
    assert stored(rig) == [11]
    rig.say(client, m.Cancel(1, [(ALICE, 11, 5)]))
    rig.commit()
    assert rig.ledger.residence.stored_bytes == 5 * SIZE
    assert rig.ledger.open_bytes == 15 * SIZE
    rig.say(client, m.Cancel(2, [(ALICE, 16, 5)]))
    rig.commit()
    assert (rig.ledger.residence.stored, rig.ledger.residence.stored_bytes) == (0, 0)


def test_who_waits_behind_a_batch_that_is_read_goes_on_when_that_is_cancelled():
    rig, client = farm(sized(1), sized(2), budget=1)
    _drop_all(rig)
    host = rig.host(slots=1, window=1)
    assert rig.grants(host) == []  # being read
    rig.submit(client, sized(3, template=VOLATILE))
    assert rig.grants(host) == []
    rig.say(client, m.Cancel(1, [(ALICE, 1, 2)]))
    rig.commit()
    assert given(rig, host) == [(3, [payload(3)])]
    rig.answer_loads()  # for nobody


def test_a_task_that_dies_is_buried_with_a_call_that_was_only_stored():
    rig, _ = farm(sized(1, template=m.Template(max_losses=0)), budget=1)
    host = rig.host(slots=1, window=1)
    rig.answer_loads()
    rig.commit()
    (grant,) = rig.grants(host)
    _drop_all(rig)
    assert stored(rig) == [1]
    failure = m.Failure("signal", "killed", code=-9)
    rig.report(host, ended=[ended(grant, Ending.LOST, failure=failure)])
    (buried,) = [one for one in _records(rig) if isinstance(one, r.Buried)]
    assert buried.group.payloads == [payload(1)]
    assert len(rig.fetched) == 1


def test_who_waits_for_payloads_goes_on_when_a_burial_has_brought_them():
    rig, _ = farm(sized(1, 2, template=m.Template(max_losses=0)), budget=1)
    first = rig.host(slots=1, window=1)
    rig.answer_loads()
    rig.commit()
    (grant,) = rig.grants(first)
    _drop_all(rig)
    second = rig.host("second", slots=1, window=1)
    assert rig.grants(second) == []  # the rest is being read
    failure = m.Failure("signal", "killed", code=-9)
    rig.report(first, window=0, ended=[ended(grant, Ending.LOST, failure=failure)])
    assert given(rig, second) == [(2, [payload(2)])]
    rig.answer_loads()  # for nobody


def test_a_lost_task_runs_again_with_a_payload_that_was_only_stored():
    rig, _ = farm(sized(1), budget=1)
    host = rig.host(slots=1, window=1)
    rig.answer_loads()
    (grant,) = rig.grants(host)
    _drop_all(rig)
    rig.report(host, ended=[ended(grant, Ending.LOST, failure=m.Failure("signal", code=-9))])
    rig.answer_loads()
    assert given(rig, host) == [(1, [payload(1)])]
    assert rig.fetched == []


def test_a_row_of_survivors_is_read_before_it_is_copied_out():
    rig, client = farm(sized(1, 8), sized(9, 8), budget=8 * SIZE)
    assert stored(rig) == [9]
    rig.say(client, m.Cancel(1, [(ALICE, 9, 7)]))
    rig.commit()
    rig.say(client, m.Taken(100))
    rig.sleep(1.0)
    assert _groups(rig) == [(1, 8), (9, 8)]  # not yet
    rig.answer_loads()
    rig.commit()
    assert _groups(rig) == [(1, 8), (16, 1)]
    rig.reload()
    host = rig.host(slots=64, window=64)
    rig.sleep(6.0)
    rig.answer_loads()
    grants = {g.first: g.payloads for g in rig.grants(host)}
    assert grants[16] == [payload(16)]


def test_a_restart_keeps_to_the_budget_too():
    rig, _ = farm(*(sized(i) for i in range(1, 41)), budget=10 * SIZE)
    rig.reload()
    residence = rig.ledger.residence
    assert residence.bytes <= 10 * SIZE
    assert residence.stored_bytes == 40 * SIZE - residence.bytes
    host = rig.host(slots=64, window=64)
    rig.sleep(6.0)
    seen = []
    while len(seen) < 40:
        rig.answer_loads()
        seen += [g.payloads for g in rig.grants(host)]
    assert seen == [[payload(i)] for i in range(1, 41)]


def test_the_call_of_a_task_can_be_read_when_it_is_stored():
    rig, client = farm(sized(1, 10), sized(11, 10), budget=10 * SIZE)
    rig.say(client, m.Query(1, "call", {"id": f"{ALICE.hex()}-12"}))
    rig.answer_loads()
    (answer,) = rig.of(m.Answer)
    assert payload(12) in answer.data["group"]


def test_explain_says_that_the_arguments_are_in_the_store():
    rig, client = farm(sized(1, 10), sized(11, 10), budget=10 * SIZE)
    rig.say(client, m.Query(1, "explain", {"id": f"{ALICE.hex()}-12"}))
    (answer,) = rig.of(m.Answer)
    assert "its arguments are in the store, and read when its turn is near" in answer.data["why"]


def test_status_says_what_is_in_memory():
    rig, client = farm(sized(1, 10), sized(11, 10), budget=10 * SIZE)
    rig.say(client, m.Query(1, "status", {}))
    (answer,) = rig.of(m.Answer)
    memory = answer.data["memory"]
    assert (memory["payload_bytes"], memory["payload_budget"]) == (10 * SIZE, 10 * SIZE)
    assert (memory["payload_bytes_stored"], memory["dropped"]) == (10 * SIZE, 1)


def test_tasks_whose_arguments_the_store_has_lost_end_and_say_so():
    rig, client = farm(sized(1, 2), budget=1)
    _drop_all(rig)
    rig.host(slots=1, window=1)
    (ref,) = rig.loads
    rig.loads = []
    rig.core.on_loaded(ref, None, rig.now)
    rig.check()
    rig.commit()
    (entry,) = rig.results(client)
    assert (entry.first, entry.count, entry.ending) == (1, 2, Ending.UNKNOWN)
    assert "its arguments are lost" in entry.failure.message
    assert "store check" in rig.warnings[0]


def test_a_payload_that_stands_for_another_cannot_travel():
    with pytest.raises(TypeError):
        r.encode_record(r.Submitted(ALICE, 0.0, [group(1, payloads=[Stored(5)])]))


@pytest.mark.parametrize("name", ["resident_payload_bytes", "resident_result_bytes"])
def test_a_budget_below_one_is_refused(name):
    with pytest.raises(ConfigError, match=name):
        CoreSettings(**{name: 0})


def _records(rig):
    return [r.decode_record(data) for _, data in sorted(rig.disk.records.items())]


def _groups(rig):
    groups = [g for one in _records(rig) if isinstance(one, r.Submitted) for g in one.groups]
    return [(g.first, g.count) for g in groups]
