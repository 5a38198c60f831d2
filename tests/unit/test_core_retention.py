"""What is forgotten, and what must not be: rows, their mentions, survivors copied out."""

from collections import Counter

from farm.model import Ending, State
from farm.protocol import messages as m
from farm.protocol import records as r
from tests.unit.core_harness import Rig, ended, group, key, packed, session_id

ALICE = session_id("alice")


def farm(*groups, slots=512):
    rig = Rig()
    client, host = rig.client(), rig.host(slots=slots, window=slots)
    rig.submit(client, *groups)
    return rig, client, host, rig.grants(host)


def kinds(rig):
    return Counter(type(r.decode_record(x)).__name__ for x in rig.disk.records.values())


def rows(rig):
    found = [r.decode_record(x) for x in rig.disk.records.values()]
    return [[(g.first, g.count) for g in x.groups] for x in found if isinstance(x, r.Submitted)]


def take_all(rig, client):
    rig.say(client, m.Taken(10_000))
    rig.commit()
    rig.sleep(1.0)


def finish(rig, host, grants, which=lambda counter: True):
    """End the tasks whose counter is wanted, one by one."""
    parts = [
        ended(g, epoch=rig.epoch, lo=i, hi=i + 1)
        for g in grants
        for i in range(g.count)
        if which(g.first + i)
    ]
    rig.report(host, window=512, ended=parts)


def test_one_long_task_does_not_hold_its_siblings_rows_nor_runs_them_again():
    rig, client, host, grants = farm(group(1, 400))
    finish(rig, host, grants, lambda counter: counter != 200)
    take_all(rig, client)
    assert rows(rig) == [[(200, 1)]]
    assert kinds(rig)["Finished"] == kinds(rig)["Delivered"] == 0
    rig.reload()
    assert rig.ledger.open_tasks == 1
    client, host = rig.client(), rig.host("b", slots=512, window=512)
    rig.sleep(6)
    (grant,) = rig.grants(host)
    assert (grant.first, grant.count, grant.payloads) == (200, 1, [b"p200"])
    finish(rig, host, [grant])
    take_all(rig, client)
    assert rows(rig) == []


def test_a_copied_row_is_not_copied_again():
    rig, client, host, grants = farm(group(1, 400))
    finish(rig, host, grants, lambda counter: counter != 200)
    take_all(rig, client)
    before = rig.disk.commit
    rig.sleep(120)
    assert rig.disk.commit == before


def test_outcomes_stay_while_a_row_that_is_not_copied_names_their_tasks():
    rig, client, host, grants = farm(group(1, 4))
    finish(rig, host, grants, lambda counter: counter != 2)
    take_all(rig, client)
    assert kinds(rig)["Submitted"] == kinds(rig)["Finished"] == kinds(rig)["Delivered"] == 1
    rig.reload()
    (batch,) = rig.ledger.sessions[ALICE].batches
    assert (batch.open, batch.settled) == (1, 3)


def test_spent_losses_and_retries_survive_the_copying_out():
    rig, client, host, grants = farm(group(1, 400, template=m.Template(retries=5, backoff=1e5)))
    lost = next(g for g in grants if g.first <= 200 < g.first + g.count)
    at = 200 - lost.first
    rig.report(host, window=512, ended=[ended(lost, Ending.LOST, lo=at, hi=at + 1)])
    (again,) = rig.grants(host)
    finish(rig, host, grants, lambda counter: counter != 200)
    rig.report(host, window=0, ended=[ended(again, Ending.EXCEPTION)])
    take_all(rig, client)
    assert rows(rig) == [[(200, 1)]]
    assert kinds(rig)["AttemptsEnded"] == 1
    rig.reload()
    (batch,) = rig.ledger.sessions[ALICE].batches
    own = batch.diverged[0]
    assert (own.attempt, own.losses, own.retries) == (3, 1, 1)
    assert batch.states[0] == State.SCHEDULED


def test_a_finished_task_not_taken_yet_is_copied_with_its_outcome():
    rig, client, host, grants = farm(group(1, 400))
    finish(rig, host, grants, lambda counter: counter <= 397)
    take_all(rig, client)
    finish(rig, host, grants, lambda counter: counter == 398)
    rig.sleep(31)
    assert rows(rig) == [[(398, 3)]]
    rig.reload()
    client = rig.client(quiet=False)
    rig.answer_loads()
    assert [(x.first, x.payloads) for x in rig.results(client)] == [(398, [b"r398"])]
    assert rig.ledger.open_tasks == 2


def test_an_outcome_on_its_way_to_the_journal_is_not_lost_by_the_copying_out():
    rig, client, host, grants = farm(group(1, 400))
    finish(rig, host, grants, lambda counter: counter <= 397)
    rig.say(client, m.Taken(10_000))
    rig.commit()
    rig.tick(0.1)
    last = next(g for g in grants if g.first <= 400 < g.first + g.count)
    part = ended(last, lo=400 - last.first, hi=401 - last.first)
    rig.say(host, m.Report(2, 0, [part]), tick=False)
    rig.tick(1.0)  # copies the row; nothing of this is committed yet
    rig.commit()
    assert len(rows(rig)) == 1
    rig.reload()
    client = rig.client(quiet=False)
    rig.answer_loads()
    assert [x.first for x in rig.results(client)] == [400]


def test_a_packed_task_with_gaps_stays_where_it_is():
    rig, client, host, grants = farm(packed(1, 400, payload=b"x" * 1000))
    finish(rig, host, grants, lambda counter: counter not in {100, 200, 300})
    take_all(rig, client)
    rig.sleep(31)
    assert rows(rig) == [[(1, 400)]]
    rig.reload()
    assert (rig.ledger.open_tasks, rig.ledger.open_bytes) == (1, 1000)


def test_the_last_item_of_a_packed_task_is_copied_with_the_payload():
    rig, client, host, grants = farm(packed(1, 400))
    finish(rig, host, grants, lambda counter: counter != 400)
    take_all(rig, client)
    assert rows(rig) == [[(400, 1)]]
    rig.reload()
    host = rig.host("b")
    rig.sleep(6)
    (grant,) = rig.grants(host)
    assert (grant.first, grant.start, grant.payloads) == (400, 399, [b"many"])


def test_under_steady_load_with_one_task_that_never_ends_the_journal_stays_bounded():
    rig = Rig()
    client, host = rig.client(), rig.host(slots=512, window=512)
    forever = None
    for turn in range(12):
        rig.submit(client, group(1 + 50 * turn, 50))
        grants = rig.grants(host)
        forever = forever or grants[0].first
        finish(rig, host, grants, forever.__ne__)
        take_all(rig, client)
        others = len(rig.disk.records) - kinds(rig)["Remembered"]
        assert others <= 8
    (row,) = rows(rig)
    assert row == [(forever, 1)]


def test_a_long_running_machine_forgets_no_outcome_before_it_is_durable():
    rig = Rig(now=90 * 86_400.0)
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1, 1))
    (grant,) = rig.grants(host)
    rig.report(host, ended=[ended(grant)], commit=False)
    rig.tick(20.0)
    rig.say(client, m.Beat())
    rig.tick(20.0)
    rig.commit()
    assert [x.ending for x in rig.results(client)] == [Ending.OK]


def test_unclaimed_results_are_forgotten_in_their_time():
    rig = Rig(unclaimed_ttl=100.0)
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1, 1))
    (grant,) = rig.grants(host)
    rig.drop(client)
    rig.report(host, ended=[ended(grant)])
    rig.sleep(60)
    assert rows(rig)
    rig.sleep(100)
    assert rows(rig) == []
    client = rig.client(quiet=False, pending=[(1, 1)])
    result = rig.results(client)[-1]
    assert result.ending is Ending.UNKNOWN
    assert "nobody took its result" in result.failure.message


def test_a_copy_whose_original_was_not_deleted_changes_nothing():
    """Died between the commit of the copy and that of the deletion."""
    rig, client, host, grants = farm(group(1, 400))
    finish(rig, host, grants, lambda counter: counter != 200)
    rig.say(client, m.Taken(10_000))
    rig.commit()
    rig.tick(0.1)
    rig.tick(1.0)
    copies = sum(change[0] == "append" for change in rig.pending)
    rig.reload(commit=copies)
    assert len(rows(rig)) == 2
    assert rig.ledger.open_tasks == 1
    rig.commit()
    rig.sleep(2)
    assert rows(rig) == [[(200, 1)]]


def test_an_outcome_of_more_tasks_than_there_are_is_taken_with_those_that_are():
    rig, client, host, grants = farm(group(1, 2), group(5, 1))
    finish(rig, host, grants, lambda counter: counter < 5)
    rig.say(client, m.Taken(10_000))
    rig.commit()
    for ref, data in rig.disk.records.items():
        record = r.decode_record(data)
        if isinstance(record, r.Finished):
            last = record.entries[-1]
            last.payloads, last.count = last.payloads * 3, 3
            last.size *= 3
            rig.disk.records[ref] = r.encode_record(record)
    assert rig.ledger.unread_bytes == 0
    rig.reload()  # which counts all of that again
    assert rig.ledger.unread_bytes == 0


def test_a_task_that_is_given_back_again_and_again_leaves_few_records(monkeypatch):
    monkeypatch.setattr("farm.core.rows.REPEATS", 10)
    rig, client, host, (grant,) = farm(group(1, 1), slots=1)
    for _ in range(40):
        rig.report(host, window=1, returned=[key(grant)])
        (grant,) = rig.grants(host)
        rig.sleep(1.0)
        assert kinds(rig)["AttemptsEnded"] <= 16
    assert grant.attempt == 41
    rig.reload()
    client, host = rig.client(), rig.host("b", slots=1, window=1)
    rig.sleep(6)
    (grant,) = rig.grants(host)
    assert grant.attempt >= 41
    finish(rig, host, [grant])
    take_all(rig, client)
    assert rows(rig) == []


def test_a_session_that_is_forgotten_keeps_nothing_of_its_tasks():
    """Others may know it for a while: a queue in which it has had a turn."""
    rig = Rig(session_ttl=5.0, unclaimed_ttl=5.0)
    client, host = rig.client(), rig.host(slots=1, window=1)
    rig.submit(client, group(1, 1))
    rig.drop(client)
    finish(rig, host, rig.grants(host))
    alice = rig.ledger.sessions[ALICE]
    assert len(alice.outbox) == 1
    rig.sleep(60.0)
    assert ALICE not in rig.ledger.sessions
    assert not alice.outbox


def test_who_comes_as_a_full_farm_has_room_again_is_remembered_no_longer_for_it():
    rig = Rig()
    credit, session = rig.core.admission.sessions, rig.ledger.session_of(rig.client())
    credit.full = True
    credit.first(session)
    assert session in credit._new
    rig.tick()
    assert not credit.full
    assert not credit._new


def test_what_was_taken_and_is_not_kept_is_delivered_whatever_lives_on_beside_it():
    rig, client, host, grants = farm(group(1, 8))
    finish(rig, host, grants, lambda counter: counter != 8)
    take_all(rig, client)
    assert rows(rig) == [[(8, 1)]]

    def told():
        reader = rig.client("bob")
        rig.say(reader, m.Attach(1, [(ALICE, 1, 8)]))
        rig.answer_loads()
        return {counter: e.ending for e in rig.results(reader) for counter in range(e.first, 8)}

    expected = dict.fromkeys(range(1, 8), Ending.DELIVERED)
    assert told() == expected
    rig.reload()
    assert told() == expected
