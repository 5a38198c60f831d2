"""Blobs of tasks and results: who needs them, and that each is let go once, when nobody does."""

import msgspec
import pytest

from farm.core.blobs import live_blobs
from farm.model import BLOB_BYTES, Blob, Ending, TaskId
from farm.protocol import messages as m
from farm.protocol import records as r
from farm.protocol.parts import Failure
from tests.unit.core_harness import Rig, ended, group, packed, session_id

ALICE = session_id("alice")
BYTES = b"b" * BLOB_BYTES
DEADLY = m.Template(max_losses=0)


def blob(name, size=BLOB_BYTES):
    return Blob(f"kept/{name}", size)


def farm(*groups, **settings):
    rig = Rig(**settings)
    rig.client()
    rig.host(slots=512, window=512)
    rig.submit(rig.peers["alice"], *groups)
    return rig


def run(rig, ending=Ending.OK, payloads=None, which=lambda counter: True):
    """The host runs what is wanted of it; all of that ends alike."""
    ends = [
        ended(
            grant,
            ending,
            epoch=rig.epoch,
            lo=i,
            hi=i + 1,
            payloads=None if payloads is None else [payloads[grant.first + i]],
            failure=None if ending is Ending.OK else Failure("signal", "it was killed", "host"),
        )
        for grant in rig.grants(rig.peers["host"])
        for i in range(grant.count)
        if which(grant.first + i)
    ]
    rig.report(rig.peers["host"], window=512, ended=ends)


def take_all(rig, client="alice"):
    rig.say(rig.peers[client], m.Taken(10_000))
    rig.commit()
    rig.sleep(2)


def ask(rig, what, **arguments):
    rig.say(rig.peers["alice"], m.Query(1, what, arguments))
    rig.answer_loads()
    (answer,) = rig.of(m.Answer)
    rig.commit()
    return answer


def again(rig):
    """The coordinator starts again, and everybody comes back."""
    rig.reload()
    rig.client()
    rig.host(slots=512, window=512)
    rig.sleep(6)


def live(rig):
    return sorted(live_blobs(rig.ledger, rig.core.dead))


def released(rig):
    return sorted(rig.disk.released)


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize("ending", [Ending.OK, Ending.EXCEPTION, Ending.TIME_LIMIT])
def test_arguments_are_let_go_when_the_outcome_is_committed(ending):
    rig = farm(group(1, 2, payloads=[blob("a"), blob("b")]))
    grants = rig.grants(rig.peers["host"])
    failure = None if ending is Ending.OK else Failure("signal", "it was killed")
    end = ended(grants[0], ending, hi=1, failure=failure)
    rig.report(rig.peers["host"], window=512, ended=[end], commit=False)
    assert released(rig) == []
    rig.commit()
    assert (released(rig), live(rig)) == (["kept/a"], ["kept/b"])


def test_arguments_of_what_is_cancelled_are_let_go():
    rig = Rig()
    client = rig.client()
    rig.submit(client, group(1, payloads=[blob("a")]), group(2, payloads=[blob("b")]))
    rig.say(client, m.Cancel(1, [(ALICE, 1, 1)]))
    rig.commit()
    assert released(rig) == ["kept/a"]


def test_arguments_of_what_is_stopped_between_attempts_are_let_go():
    rig = farm(group(1, payloads=[blob("a")], template=m.Template(retries=3, backoff=100.0)))
    run(rig, Ending.EXCEPTION)
    assert released(rig) == []
    rig.say(rig.peers["alice"], m.Cancel(1, [(ALICE, 1, 1)]))
    rig.commit()
    assert released(rig) == ["kept/a"]


def test_arguments_of_what_expires_are_let_go():
    rig = Rig()
    client = rig.client()
    rig.submit(client, group(1, payloads=[blob("a")], template=m.Template(expires=5.0)))
    rig.sleep(4)
    assert released(rig) == []
    rig.sleep(2)
    assert released(rig) == ["kept/a"]


def test_what_an_attempt_said_that_is_tried_again_is_let_go():
    template = m.Template(retries=1, backoff=0.0)
    rig = farm(group(1, payloads=[blob("a")], template=template))
    run(rig, Ending.EXCEPTION, {1: blob("raised")})
    assert released(rig) == ["kept/raised"]
    assert live(rig) == ["kept/a"]


# ---------------------------------------------------------------- dead tasks


def test_arguments_of_a_dead_task_stay_as_long_as_that_does():
    rig = farm(group(1, payloads=[blob("a")], template=DEADLY))
    run(rig, Ending.LOST)
    take_all(rig)
    assert (released(rig), live(rig)) == ([], ["kept/a"])
    again(rig)
    assert (released(rig), live(rig)) == ([], ["kept/a"])
    assert ask(rig, "drop_dead", ids=[str(TaskId(ALICE, 1))]).data == 1
    rig.sleep(60)
    assert (released(rig), live(rig)) == (["kept/a"], [])


def test_arguments_of_a_dead_task_go_when_its_time_is_over():
    rig = farm(group(1, payloads=[blob("a")], template=DEADLY), result_ttl=50.0)
    run(rig, Ending.LOST)
    rig.sleep(49)
    assert released(rig) == []
    rig.sleep(2)
    assert released(rig) == ["kept/a"]


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("restarts", [False, True])
def test_dead_items_and_those_that_still_run_share_one_payload(restarts, together):
    rig = farm(packed(1, 3, payload=blob("all"), template=DEADLY))
    (grant,) = rig.grants(rig.peers["host"])
    death = Failure("signal", "it was killed", "host")
    ends = [ended(grant, Ending.LOST, lo=i, hi=i + 1, failure=death) for i in range(2)]
    for number, some in enumerate([ends] if together else [ends[:1], ends[1:]], 1):
        rig.report(rig.peers["host"], number=number, window=512, ended=some)
    needed = {"kept/all": 1 if together else 2}  # by records of the dead
    assert rig.ledger.shared == needed
    if restarts:
        again(rig)
        assert rig.ledger.shared == needed
        (grant,) = rig.grants(rig.peers["host"])
    ask(rig, "drop_dead", ids=[str(TaskId(ALICE, 1))])
    assert rig.ledger.shared == {"kept/all": 1}
    last = ended(grant, epoch=rig.epoch, lo=grant.count - 1)
    rig.report(rig.peers["host"], number=3, window=512, ended=[last])
    assert rig.ledger.open_tasks == 0
    assert (released(rig), live(rig)) == ([], ["kept/all"])
    ask(rig, "drop_dead", ids=[str(TaskId(ALICE, 2))])
    assert (released(rig), live(rig), rig.ledger.shared) == (["kept/all"], [], {})


def test_a_dead_task_is_shown_and_submitted_again_with_its_bytes():
    rig = farm(group(1, payloads=[blob("a")], template=DEADLY))
    rig.blobs["kept/a"] = BYTES
    run(rig, Ending.LOST)
    assert ask(rig, "task", id=str(TaskId(ALICE, 1))).data["attempts"]
    found = ask(rig, "dead_task", id=str(TaskId(ALICE, 1))).data
    once_more = msgspec.msgpack.decode(found["group"], type=m.Group)
    assert once_more.payloads == [BYTES]
    assert found["bytes"] >= BLOB_BYTES
    del rig.blobs["kept/a"]
    assert "no file kept/a" in ask(rig, "dead_task", id=str(TaskId(ALICE, 1))).error


def test_a_dead_task_that_is_dropped_while_it_is_read_is_not_looked_for():
    rig = farm(group(1, payloads=[blob("a")], template=DEADLY))
    rig.blobs["kept/a"] = BYTES
    run(rig, Ending.LOST)
    rig.take()
    rig.say(rig.peers["alice"], m.Query(5, "dead_task", {"id": str(TaskId(ALICE, 1))}))
    rig.say(rig.peers["alice"], m.Query(6, "drop_dead", {"ids": [str(TaskId(ALICE, 1))]}))
    rig.answer_loads()  # the record is still there; its file may be written again already
    answers = {answer.request: answer for answer in rig.of(m.Answer)}
    assert answers[6].data == 1
    assert "not among the dead that are kept any more" in answers[5].error


# ---------------------------------------------------------------- results


def test_results_count_with_the_size_of_their_files_and_go_with_their_record():
    rig = farm(group(1))
    run(rig, payloads={1: blob("r", 5 * BLOB_BYTES)})
    assert rig.ledger.result_bytes == 5 * BLOB_BYTES
    assert released(rig) == []
    take_all(rig)
    assert rig.ledger.result_bytes == 0
    assert (released(rig), live(rig)) == (["kept/r"], [])


def named(rig, client="alice", name="nightly"):
    rig.say(rig.peers[client], m.JobOpen(1, name))


def kept(results, **settings):
    """A farm with a finished job, whose results its owner has taken."""
    rig = Rig(**settings)
    rig.client()
    rig.host(slots=512, window=512)
    named(rig)
    for counter in results:
        rig.submit(rig.peers["alice"], group(counter, job=1))
    run(rig, payloads=results)
    return rig


def test_results_that_are_dropped_for_room_are_let_go_the_oldest_first():
    room = 3 * BLOB_BYTES
    rig = kept({1: blob("r1", room), 2: blob("r2", room)}, max_result_bytes=room)
    take_all(rig)
    assert (released(rig), live(rig)) == (["kept/r1"], ["kept/r2"])


def test_results_that_are_dropped_are_let_go_only_when_their_reader_has_them():
    room = 3 * BLOB_BYTES
    rig = kept({1: blob("r1", room)}, max_result_bytes=room)
    take_all(rig)
    reader = rig.client("bob")
    rig.say(reader, m.Attach(1, [], "nightly"))
    rig.answer_loads()
    (told,) = rig.results(reader)
    assert told.payloads == [blob("r1", room)]
    rig.submit(rig.peers["alice"], group(2, job=1))
    run(rig, payloads={2: blob("r2", room)})
    take_all(rig)
    rig.sleep(60)
    assert rig.ledger.counters["results_dropped"] == 1
    assert released(rig) == []  # bob's answer is still to come
    rig.say(reader, m.Taken(10_000))
    rig.sleep(60)
    assert released(rig) == ["kept/r1"]


def test_results_past_their_time_are_let_go():
    rig = kept({1: blob("r1")}, result_ttl=50.0)
    take_all(rig)
    rig.sleep(40)
    assert released(rig) == []
    rig.sleep(60)
    assert released(rig) == ["kept/r1"]


def test_a_task_that_never_ends_does_not_hold_the_results_of_its_siblings():
    rig = farm(group(1, 9, payloads=[blob(f"a{i}") for i in range(9)]))
    run(rig, payloads={i: blob(f"r{i}") for i in range(1, 10)}, which=lambda counter: counter < 9)
    take_all(rig)
    assert live(rig) == ["kept/a8"]
    assert len(released(rig)) == 16
    reader = rig.client("bob")
    rig.say(reader, m.Attach(1, [(ALICE, 1, 9)]))
    rig.answer_loads()
    assert {result.ending for result in rig.results(reader)} == {Ending.DELIVERED}
    again(rig)
    assert live(rig) == ["kept/a8"]


def test_the_results_of_siblings_stay_while_a_reader_waits_for_them():
    rig = farm(group(1, 9, payloads=[blob(f"a{i}") for i in range(9)]))
    reader = rig.client("bob", window_bytes=1)
    rig.say(reader, m.Attach(1, [(ALICE, 1, 9)]))
    run(rig, payloads={i: blob(f"r{i}") for i in range(1, 10)}, which=lambda counter: counter < 9)
    take_all(rig)
    assert live(rig) == ["kept/a8", *(f"kept/r{i}" for i in range(1, 9))]
    told = []
    for number in range(1, 10):
        told += rig.results(reader)
        rig.say(reader, m.Taken(number))
        rig.answer_loads()
    assert [result.payloads for result in told] == [[blob(f"r{i}")] for i in range(1, 9)]
    ((epoch, number),) = rig.ledger.hosts.all["host"].leases
    end = m.Ended(epoch, number, 1, 9, 1, Ending.OK, [b"r"], 1)
    rig.report(rig.peers["host"], number=2, window=512, ended=[end])
    take_all(rig)
    rig.say(reader, m.Taken(100))
    rig.sleep(60)
    assert live(rig) == []
    assert len(released(rig)) == 17


def test_history_and_evidence_name_no_blobs():
    rig = farm(group(1, payloads=[blob("a")], template=m.Template(retries=1, backoff=100.0)))
    rig.submit(rig.peers["alice"], group(2, payloads=[blob("b")]))
    run(rig, Ending.EXCEPTION, {1: blob("e1"), 2: blob("e2")})
    take_all(rig)
    found = [r.decode_record(data) for data in rig.disk.records.values()]
    texts = {type(record): r.encode_record(record) for record in found}
    assert {r.AttemptsEnded, r.Remembered, r.Submitted} <= set(texts)
    assert b"kept/" not in texts[r.AttemptsEnded] + texts[r.Remembered]
    assert live(rig) == ["kept/a"]
