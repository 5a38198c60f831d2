"""What is remembered of tasks that are gone, and the room for results."""

from farm.core.history import SMALL_PAGES_MAX
from farm.model import Ending, TaskId
from farm.protocol import messages as m
from farm.protocol import records as r
from tests.unit.core_harness import Rig, ended, group, session_id

ALICE = session_id("alice")
KEPT = m.Template(result_ttl=1000.0)


def run(rig, client, host, first, count=1, payload=b"", **more):
    """Submit tasks, run them on the host, and commit their outcomes."""
    rig.submit(client, group(first, count, **more))
    grants = rig.grants(host)
    parts = [ended(g, epoch=rig.epoch, payloads=[payload] * g.count) for g in grants]
    rig.report(host, window=512, ended=parts)


def farm(**settings):
    rig = Rig(**settings)
    return rig, rig.client(), rig.host(slots=512, window=512)


def take(rig, client):
    rig.say(client, m.Taken(10_000))
    rig.commit()


def pages(rig):
    records = map(r.decode_record, rig.disk.records.values())
    return [r.decode_memories(x.memories) for x in records if isinstance(x, r.Remembered)]


def test_of_a_task_that_is_gone_its_end_is_remembered_without_its_payload():
    rig, client, host = farm()
    run(rig, client, host, 1, 100, payload=b"secret")
    took = rig.wall
    take(rig, client)
    rig.sleep(1)
    ((memory,),) = pages(rig)
    assert (memory.session, memory.first, memory.count) == (ALICE, 1, 100)
    assert (memory.ending, memory.host, memory.function) == (Ending.OK, "host", "work")
    assert memory.submitted == memory.ended == took
    assert memory.started < memory.ended
    assert b"secret" not in b"".join(rig.disk.records.values())
    rig.reload()
    assert [page.rows for page in rig.core.history.pages] == [1]


def test_an_error_is_remembered_by_its_text():
    rig, client, host = farm()
    rig.submit(client, group(1))
    (grant,) = rig.grants(host)
    failure = m.Failure("exception", "x" * 1000, type_name="ValueError")
    rig.report(host, ended=[ended(grant, Ending.EXCEPTION, failure=failure)])
    take(rig, client)
    rig.sleep(1)
    ((memory,),) = pages(rig)
    assert memory.ending is Ending.EXCEPTION
    assert memory.error.startswith("ValueError: xxx")
    assert len(memory.error) == 500


def test_history_costs_by_message_and_not_by_task():
    rig, client, host = farm()
    for turn in range(5):
        run(rig, client, host, 1 + 512 * turn, 512)
    take(rig, client)
    rig.sleep(1)
    found = pages(rig)
    assert len(found) == 1
    assert sum(memory.count for memory in found[0]) == 5 * 512
    assert len(found[0]) <= 5


def test_small_pages_are_joined():
    rig, client, host = farm()
    for counter in range(1, 301):
        run(rig, client, host, counter)
        take(rig, client)
        rig.sleep(1)
    assert len(pages(rig)) <= 33
    assert sum(memory.count for page in pages(rig) for memory in page) == 300
    rig.reload()
    assert rig.core.history.rows == sum(map(len, pages(rig)))
    assert [page.ref for page in rig.core.history.about(ALICE, 7)] == [
        min(page.ref for page in rig.core.history.pages)
    ]


def test_history_goes_when_its_time_is_over():
    rig, client, host = farm(history_ttl=100.0)
    run(rig, client, host, 1)
    take(rig, client)
    rig.sleep(60)
    assert len(pages(rig)) == 1
    rig.reload()
    rig.sleep(80)
    assert pages(rig) == []
    assert rig.ledger.counters["history_dropped"] == 0


def test_history_is_bounded_and_the_oldest_goes_first_and_is_said():
    rig, client, host = farm(history_rows=3)
    for counter in range(1, 6):
        run(rig, client, host, counter)
        take(rig, client)
        rig.sleep(2)
    assert [memory.first for page in pages(rig) for memory in page] == [3, 4, 5]
    assert rig.ledger.counters["history_dropped"] == 2
    assert "history is full" in rig.warnings[0]


def test_history_is_bounded_in_bytes():
    rig, client, host = farm(history_bytes=200)
    for counter in range(1, 6):
        run(rig, client, host, counter)
        take(rig, client)
        rig.sleep(2)
    assert 0 < rig.core.history.size <= 200


def test_tasks_copied_out_of_a_row_leave_a_memory_of_their_siblings():
    rig, client, host = farm()
    rig.submit(client, group(1, 400))
    grants = rig.grants(host)
    parts = [ended(g) for g in grants if not g.first <= 200 < g.first + g.count]
    last = next(g for g in grants if g.first <= 200 < g.first + g.count)
    for lo, hi in ((0, 200 - last.first), (201 - last.first, last.count)):
        parts.append(ended(last, lo=lo, hi=hi))
    rig.report(host, window=512, ended=parts)
    take(rig, client)
    rig.sleep(1)
    rig.reload()  # knows the survivor alone
    assert sum(memory.count for page in pages(rig) for memory in page) == 399
    assert rig.ledger.result_bytes == 0


def damage(rig, page):
    """Make what one page of the history says unreadable."""
    found = [(ref, r.decode_record(x)) for ref, x in rig.disk.records.items()]
    ref, record = [one for one in found if isinstance(one[1], r.Remembered)][page]
    record.memories = b"\xc1"
    rig.disk.records[ref] = r.encode_record(record)


def test_a_damaged_page_is_counted_and_the_others_are_told():
    rig, client, host = farm()
    for counter in (1, 2, 3):
        run(rig, client, host, counter)
        take(rig, client)
        rig.sleep(2)
    damage(rig, 1)
    rig.take()
    rig.say(client, m.Query(7, "history", {}))
    while rig.loads:
        rig.answer_loads()
    (answer,) = rig.of(m.Answer)
    assert [row["id"] for row in answer.data] == [str(TaskId(ALICE, n)) for n in (3, 1)]
    assert rig.ledger.counters["damaged_history"] == 1


def test_a_damaged_page_is_joined_with_others_and_nothing_comes_back():
    rig, client, host = farm()
    for counter in range(SMALL_PAGES_MAX):
        run(rig, client, host, counter + 1)
        take(rig, client)
        rig.sleep(2)
    damage(rig, 1)
    rig.reload()
    client, host = rig.client(), rig.host(slots=512, window=512)
    run(rig, client, host, 99)
    take(rig, client)
    rig.sleep(2)
    assert [len(page) for page in pages(rig)] == [SMALL_PAGES_MAX - 1, 1]
    assert not [x for x in rig.disk.records.values() if isinstance(r.decode_record(x), r.Submitted)]


# ------------------------------------------------------------ the room for results


def test_unread_results_keep_new_tasks_out_until_they_are_read():
    rig, client, host = farm(max_result_bytes=100)
    run(rig, client, host, 1, payload=b"x" * 150)
    rig.take()
    rig.submit(client, group(2))
    (refused,) = rig.of(m.Refused)
    assert (refused.reason, refused.first) == ("busy", 2)
    assert refused.message.startswith("unread results")
    take(rig, client)
    (credit,) = rig.of(m.Credit)
    assert credit.tasks > 0
    rig.submit(client, group(2))
    assert rig.grants(host)


def test_of_a_batch_only_what_is_not_taken_is_unread():
    rig, client, host = farm(max_result_bytes=300)
    rig.submit(client, group(1, 4))
    (grant,) = rig.grants(host)
    for number in (1, 2, 3):  # each as an outcome of its own, and the fourth runs on
        part = ended(grant, lo=number - 1, hi=number, payloads=[b"x" * 150])
        rig.report(host, number=number, window=9, ended=[part])
    assert rig.ledger.unread_bytes == 450
    take(rig, client)
    assert (rig.ledger.result_bytes, rig.ledger.unread_bytes) == (450, 0)
    rig.submit(client, group(9))
    assert rig.of(m.Refused) == []
    rig.reload()
    assert (rig.ledger.result_bytes, rig.ledger.unread_bytes) == (450, 0)


def test_an_outcome_is_unread_until_all_of_it_is_taken():
    rig, client, host = farm()
    run(rig, client, host, 1, 4, payload=b"x" * 100)
    (batch,) = rig.ledger.sessions[ALICE].batches
    (outcome,) = batch.outcomes
    assert rig.ledger.settle(batch, 0, 3, outcome) == 3
    assert rig.ledger.unread_bytes == 400
    assert rig.ledger.settle(batch, 2, 4, outcome) == 1
    assert (rig.ledger.result_bytes, rig.ledger.unread_bytes) == (400, 0)
    assert rig.ledger.settle(batch, 0, 4, outcome) == 0
    assert rig.ledger.unread_bytes == 0


def test_unread_results_are_never_dropped_for_room():
    rig, client, host = farm(max_result_bytes=100)
    run(rig, client, host, 1, 4, payload=b"x" * 150)
    rig.drop(client)
    rig.sleep(3600)
    rig.reload()
    assert rig.ledger.unread_bytes == 600
    client = rig.client(quiet=False)
    rig.answer_loads()
    assert [x.count for x in rig.results(client)] == [4]


def test_taken_results_that_are_kept_give_way_the_oldest_first():
    rig, client, host = farm(max_result_bytes=350)
    for counter in (1, 2, 3):
        run(rig, client, host, counter, payload=b"x" * 150, template=KEPT)
        take(rig, client)
        rig.sleep(1)
    assert rig.ledger.counters["results_dropped"] == 1
    assert "the oldest" in rig.warnings[0]
    for _ in range(2):
        reader = rig.client("bob")
        rig.say(reader, m.Attach(1, [(ALICE, 1, 3)]))
        rig.answer_loads()
        found = {x.first: x for x in rig.results(reader)}
        assert found[1].ending is Ending.UNKNOWN
        assert "dropped to make room" in found[1].failure.message
        assert (found[2].ending, found[3].ending) == (Ending.OK, Ending.OK)
        rig.reload()
        rig.sleep(6)


def test_what_is_kept_is_counted_again_after_a_restart():
    rig, client, host = farm(max_result_bytes=1000)
    run(rig, client, host, 1, payload=b"x" * 150, template=KEPT)
    take(rig, client)
    run(rig, client, host, 2, payload=b"x" * 70)
    rig.reload()
    assert (rig.ledger.result_bytes, rig.ledger.unread_bytes) == (220, 70)


def test_a_result_nobody_takes_lives_its_time_and_a_named_one_its_own():
    rig, client, host = farm(unclaimed_ttl=100.0, result_ttl=300.0)
    rig.say(client, m.JobOpen(1, "nightly"))
    run(rig, client, host, 1)
    run(rig, client, host, 2, job=1)
    rig.say(client, m.JobSeal(1, 1))
    rig.drop(client)
    rig.sleep(200)
    assert [batch.first for batch in rig.ledger.sessions[ALICE].batches] == [2]
    rig.sleep(200)
    assert ALICE not in rig.ledger.sessions or not len(rig.ledger.sessions[ALICE].batches)


# ------------------------------------------------------------ clocks


HOURS = 5 * 3600.0


def test_on_one_boot_of_the_machine_the_wall_clock_moves_nothing_whatever_is_done_to_it():
    for jump in (HOURS, -HOURS):
        rig = Rig(boot="boot-1")
        client = rig.client()
        rig.submit(client, group(1, template=m.Template(delay=100.0)))
        rig.reload(jump=jump)
        host = rig.host()
        rig.sleep(90)
        assert rig.grants(host) == []
        rig.sleep(15)
        assert len(rig.grants(host)) == 1


def test_after_a_boot_the_wall_clock_is_read_again_and_the_old_reading_is_gone():
    rig = Rig(boot="boot-1")
    rig.commit()
    rig.boot = "boot-2"
    rig.reload(after=50.0)
    rig.commit()
    clocks = list(map(r.decode_record, rig.disk.records.values()))
    assert [x.boot for x in clocks] == ["boot-2"]
    assert rig.ledger.wall(rig.now) == rig.wall


def test_retention_and_history_take_no_notice_of_the_wall_clock():
    for jump in (HOURS, -HOURS):
        rig = Rig(boot="boot-1", unclaimed_ttl=1000.0, history_ttl=2000.0)
        client, host = rig.client(), rig.host()
        run(rig, client, host, 1)
        take(rig, client)
        run(rig, client, host, 2)
        rig.drop(client)
        rig.sleep(1)
        rig.reload(jump=jump)
        rig.sleep(900)
        assert len(pages(rig)) == 1
        assert [batch.first for batch in rig.ledger.sessions[ALICE].batches] == [2]
        rig.sleep(300)
        assert [memory.first for page in pages(rig) for memory in page] == [1, 2]
        rig.sleep(1000)
        assert pages(rig) == []
