"""Submissions that wait for a busy journal, to be written with the outcomes of their tasks."""

import pytest

from farm.model import BLOB_BYTES, Blob, Ending
from farm.protocol import messages as m
from farm.protocol import records as r
from farm.protocol.parts import Failure
from tests.unit.core_harness import Rig, claim, ended, group, packed, session_id

ALICE = session_id("alice")
JOB = m.JobOpen(1, "daily")


def blob(name, size=BLOB_BYTES):
    return Blob(f"kept/{name}", size)


def large(first, **more):
    return group(first, payloads=[blob(str(first))], **more)


def busy(*groups, **settings):
    """A farm whose journal is busy with the submission of task 1; then these are submitted."""
    rig = Rig(**settings)
    client = rig.client()
    rig.host(slots=512, window=512)
    rig.submit(client, group(1), commit=False)
    for one in groups:
        rig.submit(client, one, commit=False)
    return rig


def written(rig):
    """What the journal was given and has not committed: kinds, and of submissions the tasks."""
    records = [r.decode_record(change[2]) for change in rig.pending if change[0] == "append"]
    return [
        [one.first for one in record.groups] if isinstance(record, r.Submitted) else type(record)
        for record in records
    ]


def accepted(rig):
    return [run for message in rig.of(m.Accepted) for run in message.runs]


def end(rig, *counters, ending=Ending.OK, **more):
    """The host reports the ends of these tasks, of those that it has been given."""
    given = {grant.first: grant for grant in rig.grants(rig.peers["host"])}
    ends = [ended(given[counter], ending, **more) for counter in counters]
    rig.report(rig.peers["host"], window=512, ended=ends, commit=False)


def test_a_submission_with_blobs_is_written_with_its_outcome():
    rig = busy(large(2), large(3), large(4))
    assert written(rig)[-1] == [1]
    end(rig, 3)
    assert written(rig)[-2:] == [[3], r.Finished]
    rig.commit_part(len(rig.pending))
    rig.tick()
    assert accepted(rig) == [(1, 1), (3, 1)]


def test_what_waits_is_run_and_acknowledged_when_it_is_committed():
    rig = busy(large(2))
    assert [grant.first for grant in rig.grants(rig.peers["host"])] == [1, 2]
    rig.commit_part(len(rig.pending))
    rig.tick()
    assert accepted(rig) == [(1, 1)]
    rig.commit()
    assert accepted(rig) == [(2, 1)]


def test_an_idle_journal_is_given_what_waits_a_little_at_a_time():
    size = 3 << 20
    rig = busy(*[group(i, payloads=[blob(str(i), size)]) for i in range(2, 7)])
    rig.commit_part(len(rig.pending))
    assert written(rig) == [[2], [3]]
    rig.commit_part(len(rig.pending))
    assert written(rig) == [[4], [5]]
    rig.commit()
    assert accepted(rig) == [(1, 5), (6, 1)]


def test_what_comes_while_the_journal_is_idle_is_written_at_once():
    rig = busy()
    rig.commit()
    rig.submit(rig.peers["alice"], large(2), commit=False)
    assert written(rig) == [[2]]


def test_nothing_waits_for_ever():
    rig = busy(large(2), draft_seconds=0.5)
    rig.tick(0.1)
    rig.submit(rig.peers["alice"], large(3), commit=False)
    assert rig.core.next_deadline() == pytest.approx(rig.now + 0.4)
    rig.tick(0.4)
    assert written(rig)[-2:] == [[1], [2]]
    rig.tick(0.1)
    assert written(rig)[-3:] == [[1], [2], [3]]


@pytest.mark.parametrize(
    "other",
    [
        group(2),
        large(2, template=m.Template(max_losses=0)),
        large(2, template=m.Template(expires=60.0)),
        large(2, template=m.Template(delay=60.0)),
        large(2, template=m.Template(parent=(ALICE, 1), depth=1)),
        large(2, keys=(m.TaskKey("one", True),)),
    ],
    ids=["small", "runs once", "expires", "delayed", "nested", "keyed"],
)
def test_what_others_rely_on_does_not_wait(other):
    assert [2] in written(busy(other))


def test_with_a_store_in_memory_nothing_waits():
    rig = busy(large(2), durable=False)
    assert not rig.ledger.drafts
    kept = [r.decode_record(data) for data in rig.disk.records.values()]
    assert [one.groups[0].first for one in kept if isinstance(one, r.Submitted)] == [1, 2]
    assert (2, 1) in accepted(rig)


def test_what_ends_is_published_at_once_where_a_store_is_in_memory():
    rig = busy(durable=False)
    (grant,) = rig.grants(rig.peers["host"])
    rig.take()
    rig.report(rig.peers["host"], window=512, ended=[ended(grant)], commit=False)
    rig.tick()
    assert [entry.first for message in rig.of(m.Results) for entry in message.entries] == [1]


def test_a_submission_that_comes_again_is_acknowledged_when_it_is_committed():
    rig = busy(large(2))
    rig.commit_part(0)
    rig.take()
    rig.submit(rig.peers["alice"], large(2), commit=False)
    assert written(rig)[-1] == [2]
    assert accepted(rig) == []
    rig.commit()
    assert (2, 1) in accepted(rig) or (1, 2) in accepted(rig)


def test_what_was_not_written_is_new_after_a_crash():
    rig = busy(large(2), reply_seconds=0.0, upkeep_seconds=0.0)
    rig.reload(commit=len(rig.pending))
    client = rig.client()
    rig.submit(client, large(2))
    assert accepted(rig) == [(2, 1)]


def test_what_is_accepted_when_the_coordinator_is_told_to_end_is_written_and_adopted():
    rig = busy(large(2))
    (_, grant) = rig.grants(rig.peers["host"])
    rig.core.on_last_commit(rig.now)
    assert written(rig)[-1] == [2]
    rig.reload(commit=len(rig.pending))
    rig.host(slots=512, window=512, quiet=False, claims=[claim(grant)])
    assert rig.ledger.counters["adopted"] == 1
    assert [one.drop for one in rig.of(m.HostWelcome)] == [[]]


def test_the_mark_of_a_session_leaves_out_what_is_not_written():
    rig = busy(large(2), large(3))
    end(rig, 3)
    rig.ledger.mark(rig.ledger.sessions[ALICE], rig.now)
    assert r.SessionMark in written(rig)
    assert [2] not in written(rig)
    rig.reload(commit=len(rig.pending))
    client, host = rig.client(), rig.host(slots=512, window=512)
    rig.sleep(6, host)
    rig.take()
    rig.submit(client, large(2))
    assert [grant.first for grant in rig.grants(host)] == [2]
    assert accepted(rig) == [(2, 1)]


def _seal(rig):
    rig.say(rig.peers["alice"], m.JobSeal(1, 1))


def _fail(rig):
    end(rig, 1, ending=Ending.LOST, failure=Failure("signal", "killed"))


def _stop(rig):
    rig.say(rig.peers["alice"], m.Cancel(1, [(ALICE, 1, 1)], grace=1.0))


def _fall_short(rig):
    rig.core.on_short("the disk is full", rig.now)


@pytest.mark.parametrize("event", [_seal, _fail, _stop, _fall_short])
def test_what_may_tell_of_it_is_written_after_it(event):
    rig = Rig()
    client = rig.client()
    rig.host(slots=512, window=512)
    rig.say(client, JOB)
    rig.submit(client, group(1), commit=False)
    rig.submit(client, large(2, job=1), commit=False)
    before = written(rig)
    event(rig)
    assert written(rig)[len(before)] == [2]


def test_of_a_packed_task_one_end_writes_all():
    rig = busy(packed(2, 3, payload=blob("p")))
    grant = next(one for one in rig.grants(rig.peers["host"]) if one.first == 2)
    one = ended(grant, hi=1, payloads=[b"r"])
    rig.report(rig.peers["host"], window=512, ended=[one], commit=False)
    assert written(rig)[-2:] == [[2], r.Finished]


def test_what_waits_keeps_nothing_else_in_memory():
    """What came after it and is committed may leave memory for the store."""
    mixed = group(2, 2, payloads=[blob("2"), b"x" * 30])
    rig = busy(mixed, group(4, payloads=[b"y" * 100]), resident_payload_bytes=10)
    rig.commit_part(len(rig.pending))
    assert written(rig) == [[2]]
    assert rig.ledger.residence.pinned_bytes == 30
