"""Tasks that may not start before a time: since their acceptance, or by the clock on the wall."""

import gc
import tracemalloc

import pytest

from farm.core.policy import QueuePolicy
from farm.model import Ending, State
from farm.protocol import messages as m
from farm.protocol import records as r
from tests.unit.core_harness import Rig, ended, group, packed, session_id

ALICE = session_id("alice")
HOUR = 3600.0


def farm(**settings):
    rig = Rig(**settings)
    return rig, rig.client(), rig.host(slots=64, window=64)


def when(rig, how, seconds):
    if how == "delay":
        return m.Template(delay=seconds)
    return m.Template(eta=rig.ledger.wall(rig.now) + seconds)


@pytest.mark.parametrize("how", ["delay", "eta"])
def test_a_task_waits_for_its_time(how):
    rig, client, host = farm()
    rig.submit(client, group(1, 3, template=when(rig, how, HOUR)), group(4))
    assert [grant.first for grant in rig.grants(host)] == [4]
    rig.sleep(HOUR - 1)
    assert rig.grants(host) == []
    rig.sleep(2)
    (grant,) = rig.grants(host)
    assert (grant.first, grant.count, grant.payloads) == (1, 3, [b"p1", b"p2", b"p3"])
    assert rig.ledger.queues.all["default"].meter.numbers(rig.now)["wait_p99"] < 2


@pytest.mark.parametrize("how", ["delay", "eta"])
@pytest.mark.parametrize("jump", [0.0, -7200.0, 86_400.0])
def test_a_restart_does_not_change_the_time_and_neither_does_who_sets_the_clock(how, jump):
    rig, client, host = farm(boot="one")
    rig.submit(client, group(1, template=when(rig, how, HOUR)))
    rig.sleep(HOUR / 2)
    rig.reload(after=10, jump=jump)
    host = rig.host(slots=4, window=4)
    rig.sleep(HOUR / 2 - 12)
    assert rig.grants(host) == []
    rig.sleep(4)
    assert len(rig.grants(host)) == 1


def test_after_a_boot_an_eta_is_by_the_clock_of_then():
    rig, client, host = farm(boot="one")
    rig.submit(client, group(1, template=when(rig, "eta", HOUR)))
    rig.boot = "two"
    rig.reload(after=60, jump=HOUR / 2)
    host = rig.host(slots=4, window=4)
    rig.sleep(HOUR / 2 - 65)
    assert rig.grants(host) == []
    rig.sleep(7)
    assert len(rig.grants(host)) == 1


def test_a_time_that_is_over_is_now():
    rig, client, host = farm()
    rig.submit(client, group(1, template=when(rig, "eta", -HOUR)))
    assert len(rig.grants(host)) == 1
    rig.reload()
    rig.client()
    host = rig.host("b", slots=4, window=4)
    rig.sleep(6)
    assert len(rig.grants(host)) == 1


@pytest.mark.parametrize("how", ["delay", "eta"])
def test_what_waits_for_its_time_is_explained_cancelled_and_expires(how):
    rig, client, _ = farm()
    template = when(rig, how, 2 * HOUR)
    rig.submit(client, group(1, template=template))
    template.expires = HOUR
    rig.submit(client, group(2, template=template))
    rig.take()
    rig.say(client, m.Query(1, "explain", {"id": f"{ALICE.hex()}-1"}))
    (answer,) = rig.of(m.Answer)
    assert answer.data["due_seconds"] == pytest.approx(2 * HOUR)
    (why,) = answer.data["why"]
    assert ("2023-11-15 00:13:20+00:00" if how == "eta" else "7200 s later") in why
    rig.say(client, m.Cancel(1, [(ALICE, 1, 1)]))
    rig.commit()
    (reply,) = [x for x in rig.take(client) if isinstance(x, m.CancelReply)]
    assert reply.cancelled == [(ALICE, 1, 1)]
    rig.sleep(HOUR + 1)
    assert [x.ending for x in rig.results(client)] == [Ending.EXPIRED]


def test_a_retry_does_not_wait_for_the_first_time_again():
    rig, client, host = farm()
    template = when(rig, "eta", HOUR)
    template.retries, template.backoff = 1, 10.0
    rig.submit(client, group(1, template=template))
    rig.sleep(HOUR + 1)
    (grant,) = rig.grants(host)
    rig.report(host, ended=[ended(grant, Ending.EXCEPTION)])
    rig.sleep(6)
    assert [grant.attempt for grant in rig.grants(host)] == [2]


def test_the_eta_of_a_task_wins_over_the_delay_of_its_queue():
    rig, client, host = farm(queues={"default": QueuePolicy(options={"delay": 60.0})})
    rig.submit(client, group(1, template=when(rig, "eta", 10.0)), group(2))
    (batch, other) = rig.ledger.sessions[ALICE].batches
    assert batch.states[0] == other.states[0] == State.SCHEDULED
    rig.sleep(11)
    assert [grant.first for grant in rig.grants(host)] == [1]


# ---------------------------------------------------------------- in the store until then


def far(**settings):
    return farm(far_seconds=60.0, **settings)


def batches(rig):
    return list(rig.ledger.sessions[ALICE].batches)


def rows(rig):
    found = [r.decode_record(data) for _, data in sorted(rig.disk.records.items())]
    return [[(g.first, g.count) for g in x.groups] for x in found if isinstance(x, r.Submitted)]


@pytest.mark.parametrize("how", ["delay", "eta"])
def test_arguments_of_what_starts_much_later_are_in_the_store_alone(how):
    rig, client, host = far()
    late, soon = when(rig, how, HOUR), when(rig, how, 50.0)
    rig.submit(client, group(1, 3, template=late), group(4, template=soon), group(5), commit=False)
    assert [batch.stored for batch in batches(rig)] == [False, False, False]  # not committed
    rig.commit()
    assert [batch.stored for batch in batches(rig)] == [True, False, False]
    assert rows(rig) == [[(4, 1), (5, 1)], [(1, 3)]]
    rig.sleep(HOUR - 3)
    assert rig.loads == []
    rig.sleep(1.5)
    assert len(rig.answer_loads()) == 1
    assert not batches(rig)[0].stored
    assert [grant.first for grant in rig.grants(host)] == [5, 4]
    rig.sleep(2)
    (grant,) = rig.grants(host)
    assert (grant.first, grant.payloads) == (1, [b"p1", b"p2", b"p3"])


def test_a_record_that_is_read_late_is_waited_for_and_nothing_else():
    rig, client, host = far()
    rig.submit(client, group(1, template=when(rig, "delay", HOUR)))
    rig.sleep(HOUR + 1)
    assert rig.grants(host) == []
    rig.submit(rig.client("bob"), group(1))
    assert len(rig.grants(host)) == 1
    rig.answer_loads()
    assert [grant.payloads for grant in rig.grants(host)] == [[b"p1"]]


def test_of_one_record_only_what_starts_soon_is_in_memory():
    rig, client, host = far()
    parts = [group(i, template=when(rig, "eta", i * HOUR)) for i in (1, 2, 3)]
    rig.submit(client, *parts, packed(4, 9, template=when(rig, "eta", HOUR)))
    assert rows(rig) == [[(1, 1), (2, 1), (3, 1), (4, 9)]]
    rig.sleep(HOUR - 1)
    rig.answer_loads()
    assert [batch.stored for batch in batches(rig)] == [False, True, True, False]
    rig.sleep(2)
    assert [grant.first for grant in rig.grants(host)] == [1, 4]
    rig.sleep(HOUR - 2)
    rig.answer_loads()
    rig.sleep(2)
    assert [(g.first, g.payloads) for g in rig.grants(host)] == [(2, [b"p2"])]


@pytest.mark.parametrize("left", [HOUR, 1.0, -HOUR])
def test_a_restart_reads_nothing_of_them_before_their_time(left):
    rig, client, host = far(boot="one")
    rig.submit(client, group(1, 2, template=when(rig, "eta", 2 * HOUR)))
    rig.reload(after=2 * HOUR - left)
    (batch,) = batches(rig)
    assert batch.stored
    assert rig.ledger.residence.bytes == 0
    host = rig.host("b", slots=4, window=4)
    rig.sleep(max(left, 0) + 6)
    rig.answer_loads()
    (grant,) = rig.grants(host)
    assert grant.payloads == [b"p1", b"p2"]


def test_what_is_in_the_store_is_cancelled_and_its_row_copied_out():
    rig, client, host = far()
    rig.submit(client, group(1, 8, template=when(rig, "delay", HOUR)))
    rig.say(client, m.Cancel(1, [(ALICE, 1, 7)]))
    rig.commit()
    rig.say(client, m.Taken(10_000))
    rig.sleep(1)
    assert rig.answer_loads()
    rig.sleep(1)
    assert rows(rig) == [[(8, 1)]]
    rig.sleep(HOUR)
    rig.answer_loads()
    assert [grant.payloads for grant in rig.grants(host)] == [[b"p8"]]


def test_a_retry_after_a_restart_is_read_although_its_batch_started_much_later():
    rig, client, host = far(boot="one")
    template = when(rig, "delay", 100.0)
    template.retries = 1
    rig.submit(client, group(1, template=template))
    rig.sleep(99)
    rig.answer_loads()
    rig.sleep(2)
    rig.report(host, ended=[ended(rig.grants(host)[0], Ending.EXCEPTION)])
    rig.reload()
    host = rig.host("b", slots=4, window=4)
    rig.sleep(10)
    rig.answer_loads()
    assert [(g.attempt, g.payloads) for g in rig.grants(host)] == [(2, [b"p1"])]


def test_a_task_that_starts_in_a_day_costs_a_few_bytes():
    rig, client, _ = far()
    rig.check, rig.send = lambda: None, lambda _peer, _message: None
    count, size = 64, 512
    tracemalloc.start()
    try:
        before = _used()
        for i in range(count):
            one = group(1 + i * size, size, template=m.Template(delay=86_400.0))
            rig.core.receive(client, m.Submit([one]), rig.now)
            for change in rig.pending:
                rig.disk.commit = max(rig.disk.commit, change[1] if change[0] == "append" else 0)
            rig.pending.clear()
            rig.core.on_committed(rig.disk.commit, rig.now)
            rig.core.on_tick(rig.now)
            del one
        used = _used() - before
    finally:
        tracemalloc.stop()
    assert rig.ledger.open_tasks == count * size
    assert used / (count * size) < 20


def _used():
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_what_was_committed_when_its_turn_had_come_and_failed_may_be_in_memory():
    rig, client, host = far()
    rig.submit(client, group(1, template=m.Template(delay=HOUR)))  # there is something to foresee
    again = m.Template(delay=100.0, retries=3, backoff=1000.0)
    rig.report(host, window=0)
    rig.submit(client, group(2, template=again), commit=False)
    for _ in range(11):
        for peer in (client, host):
            rig.say(peer, m.Beat())
        rig.tick(10.0)  # the store is slow
    rig.commit()
    assert not batches(rig)[1].stored
    rig.report(host, number=2, window=4)
    (grant,) = rig.grants(host)
    rig.report(host, number=3, ended=[ended(grant, Ending.EXCEPTION)])
    assert batches(rig)[1].states[0] == State.SCHEDULED
    assert not batches(rig)[1].stored
    rig.sleep(2000)
    assert [one.attempt for one in rig.grants(host)] == [2]
