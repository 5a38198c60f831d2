"""Jobs, and those who follow them or single tasks from other sessions."""

from farm.model import Ending, TaskId, job_id
from farm.protocol import messages as m
from farm.protocol import records as r
from tests.unit.core_harness import Rig, ended, group, session_id

ALICE = session_id("alice")
NAMED = 100.0


def with_job(*groups, name="census", **more):
    rig = Rig(**more)
    client, host = rig.client(), rig.host(slots=512, window=512)
    rig.say(client, m.JobOpen(1, name))
    rig.submit(client, *(groups or [group(1, 3, job=1)]))
    rig.take(client)
    return rig, client, host


def finish(rig, host, *, number=1):
    grants = rig.grants(host)
    rig.report(host, number=number, window=512, ended=[ended(g, epoch=rig.epoch) for g in grants])


def infos(rig, peer):
    return [x for x in rig.take(peer) if isinstance(x, m.JobInfo)]


def test_a_job_is_found_by_name_and_by_id_from_another_process():
    rig, _, host = with_job()
    for number, text in enumerate(("census", job_id(ALICE, 1)), 1):
        reader = rig.client(f"bob{number}")
        rig.say(reader, m.Attach(5, [], text))
        (info,) = rig.take(reader)
        assert info == m.JobInfo(5, [(ALICE, 1, 3)], ALICE, 1, "census", "open")
    finish(rig, host)
    for number in (1, 2):
        (sent,) = [x for x in rig.take(f"bob{number}#1") if isinstance(x, m.Results)]
        assert [(e.session, e.first, e.count) for e in sent.entries] == [(ALICE, 1, 3)]


def test_an_unknown_job_is_answered_with_an_error():
    rig = Rig()
    reader = rig.client("bob")
    rig.say(reader, m.Attach(5, [], "nothing"))
    (info,) = rig.take(reader)
    assert "nothing" in info.error


def test_of_two_jobs_of_a_name_the_newest_is_found():
    rig, client, _ = with_job()
    rig.say(client, m.JobOpen(2, "census"))
    reader = rig.client("bob")
    rig.say(reader, m.Attach(1, [], "census"))
    assert [x.job for x in infos(rig, reader)] == [2]


def test_followers_hear_of_growth_and_of_the_seal():
    rig, client, _ = with_job()
    reader = rig.client("bob")
    rig.say(reader, m.Attach(5, [], "census"))
    rig.take()
    rig.submit(client, group(4, 2, job=1))
    assert [x.tasks for x in infos(rig, reader)] == [[(ALICE, 1, 5)]]
    rig.say(client, m.JobSeal(1, 5))
    rig.say(client, m.JobSeal(1, 7))
    assert [x.state for x in infos(rig, reader)] == ["sealed"]


def test_a_job_whose_client_died_before_sealing_is_abandoned():
    rig, client, _ = with_job()
    rig.drop(client)
    reader = rig.client("bob")
    rig.say(reader, m.Attach(5, [], "census"))
    assert [x.state for x in infos(rig, reader)] == ["abandoned"]


def test_reading_consumes_nothing():
    rig, client, host = with_job()
    finish(rig, host)
    reader = rig.client("bob")
    rig.say(reader, m.Attach(5, [(ALICE, 1, 3)]))
    rig.say(reader, m.Taken(1))
    rig.commit()
    assert next(iter(rig.ledger.sessions[ALICE].batches)).settled == 0
    rig.say(client, m.Taken(1))
    rig.commit()
    rig.say(reader, m.Attach(6, [(ALICE, 1, 3)]))
    rig.answer_loads()
    sent = [e for x in rig.take(reader) if isinstance(x, m.Results) for e in x.entries]
    assert [(e.first, e.payloads) for e in sent][-1] == (1, [b"r1", b"r2", b"r3"])


def test_a_part_of_a_result_has_its_share_of_the_time():
    rig, _, host = with_job()
    (grant,) = rig.grants(host)
    rig.report(host, window=512, ended=[ended(grant, epoch=rig.epoch, seconds=3.0)])
    reader = rig.client("bob")
    rig.say(reader, m.Attach(5, [(ALICE, 2, 1)]))
    (results,) = [sent for sent in rig.take(reader) if isinstance(sent, m.Results)]
    (entry,) = results.entries
    assert (entry.first, entry.payloads, entry.seconds) == (2, [b"r2"], 1.0)


def test_results_of_a_named_job_outlive_their_delivery_and_restarts_then_go():
    rig, client, host = with_job(result_ttl=NAMED)
    finish(rig, host)
    rig.say(client, m.Taken(1))
    rig.sleep(40)
    rig.reload()
    reader = rig.client("bob")
    rig.say(reader, m.Attach(5, [], "census"))
    rig.answer_loads()
    sent = [e for x in rig.take(reader) if isinstance(x, m.Results) for e in x.entries]
    assert [(e.first, e.count, e.ending) for e in sent] == [(1, 3, Ending.OK)]
    rig.sleep(NAMED + 60)
    rig.say(reader, m.Attach(6, [], "census"))
    assert infos(rig, reader)[-1].error
    kinds = {type(r.decode_record(x)) for x in rig.disk.records.values()}
    assert not kinds & {r.Submitted, r.Finished, r.Delivered, r.JobOpened, r.JobSealed}


def test_a_named_jobs_results_survive_the_copying_out_of_their_row():
    """Its tasks are a small part of a row whose other tasks are over."""
    rig, client, host = with_job(group(1, 2, job=1), group(3, 100))
    finish(rig, host)
    rig.say(client, m.Taken(9))
    rig.sleep(2)
    (row,) = [
        one for x in rig.disk.records.values() if isinstance(one := r.decode_record(x), r.Submitted)
    ]
    assert [(g.first, g.count) for g in row.groups] == [(1, 2)]
    rig.reload()
    assert next(iter(rig.ledger.sessions[ALICE].batches)).settled == 2
    reader = rig.client("bob")
    rig.say(reader, m.Attach(5, [], "census"))
    rig.answer_loads()
    sent = [e for x in rig.take(reader) if isinstance(x, m.Results) for e in x.entries]
    assert [(e.first, e.payloads) for e in sent] == [(1, [b"r1", b"r2"])]


def test_an_unnamed_job_is_forgotten_with_its_tasks():
    rig, client, host = with_job(name="")
    rig.say(client, m.JobSeal(1, 3))
    finish(rig, host)
    rig.say(client, m.Taken(1))
    rig.sleep(2)
    assert rig.ledger.jobs.all == {}
    rig.reload()
    assert rig.ledger.jobs.all == {}


def test_an_open_job_lives_on_though_all_its_tasks_are_taken():
    rig, client, host = with_job(name="")
    finish(rig, host)
    rig.say(client, m.Taken(1))
    rig.sleep(40)
    rig.submit(client, group(4, 1, job=1))
    assert [x.runs for x in rig.take(client) if isinstance(x, m.Accepted)] == [[(4, 1)]]


def test_opening_sealing_and_naming_what_is_not_there():
    rig = Rig()
    client = rig.client()
    rig.say(client, m.JobSeal(9, 1))
    rig.say(client, m.JobOpen(0, "zero"))
    rig.say(client, m.JobOpen(1, "one"))
    rig.say(client, m.JobOpen(1, "two"))
    rig.commit()
    assert [job.name for job in rig.ledger.jobs.all.values()] == ["one"]
    rig.reload()
    assert [job.name for job in rig.ledger.jobs.all.values()] == ["one"]


def test_tasks_never_accepted_or_long_gone_are_answered():
    rig, client, host = with_job(group(1, 2))
    finish(rig, host)
    rig.say(client, m.Taken(1))
    rig.sleep(1)
    reader = rig.client("bob")
    rig.say(reader, m.Attach(1, [(ALICE, 1, 3), (b"?" * 16, 7, 2)]))
    sent = [e for x in rig.take(reader) if isinstance(x, m.Results) for e in x.entries]
    assert [(e.session, e.first, e.count, e.ending) for e in sent] == [
        (ALICE, 3, 1, Ending.UNKNOWN),
        (ALICE, 1, 2, Ending.DELIVERED),
        (b"?" * 16, 7, 2, Ending.UNKNOWN),
    ]


def test_a_follower_that_is_gone_is_followed_by_nothing():
    """It says again what it follows when it comes back; until then nothing gathers for it."""
    rig, _, host = with_job()
    reader = rig.client("bob")
    rig.say(reader, m.Attach(5, [], "census"))
    rig.say(reader, m.Attach(6, [(ALICE, 1, 3), (ALICE, 77, 1)]))
    rig.drop(reader)
    finish(rig, host)
    bob = rig.ledger.sessions[session_id("bob")]
    assert not bob.outbox
    assert not any(batch.watchers for batch in rig.ledger.sessions[ALICE].batches)
    assert not any(job.followers for job in rig.ledger.jobs.all.values())
    reader = rig.client("bob")
    rig.say(reader, m.Attach(7, [(ALICE, 1, 3)]))
    sent = [e for x in rig.take(reader) if isinstance(x, m.Results) for e in x.entries]
    assert [e.first for e in sent] == [1]


def test_coming_back_again_and_again_gathers_nothing():
    rig, client, host = with_job(result_ttl=1e6)
    finish(rig, host)
    rig.say(client, m.Taken(1))
    rig.commit()
    for _ in range(5):
        client = rig.client(pending=[(1, 3), (50, 1)])
        rig.drop(client)
    assert len(rig.ledger.sessions[ALICE].outbox) <= 2


def test_a_read_only_session_is_forgotten_when_it_is_gone():
    rig, _, _ = with_job()
    reader = rig.client("bob")
    rig.say(reader, m.Attach(5, [], "census"))
    rig.say(reader, m.Query(6, "task", {"id": str(TaskId(ALICE, 1))}))
    rig.say(reader, m.Bye())
    rig.sleep(40)
    assert session_id("bob") not in rig.ledger.sessions


def test_a_reader_of_one_task_gets_that_task_and_no_sibling():
    rig, _, host = with_job()
    reader = rig.client("bob")
    rig.say(reader, m.Attach(1, [(ALICE, 2, 1)]))
    progress = [(10, 1, counter, 1.0, 2.0, "") for counter in (1, 2, 3)]
    rig.report(host, progress=progress)
    (told,) = [x for x in rig.sent if isinstance(x[1], m.Progress) and x[0] == reader]
    assert [note[1] for note in told[1].notes] == [2]
    rig.take()
    (lease,) = next(iter(rig.ledger.hosts.all.values())).leases
    rig.report(
        host,
        number=2,
        ended=[m.Ended(*lease, 1, 1, 3, Ending.OK, [b"r1", b"r2", b"r3"], 6)],
    )
    assert [(e.first, e.payloads) for e in rig.results(reader)] == [(2, [b"r2"])]


def test_a_seal_is_answered_when_it_is_committed_and_whenever_it_is_said():
    rig, client, _ = with_job()
    rig.commit()
    rig.take()
    sealed = m.JobInfo(0, [], ALICE, 1, state="sealed")
    rig.say(client, m.JobSeal(1, 3))
    rig.say(client, m.JobSeal(1, 3))
    assert infos(rig, client) == []
    rig.commit()
    assert infos(rig, client) == [sealed]
    rig.say(client, m.JobSeal(1, 3))
    assert infos(rig, client) == [sealed]
    rig.say(client, m.JobSeal(9, 3))
    (unknown,) = infos(rig, client)
    assert (unknown.request, unknown.job) == (0, 9)
    assert "no such job" in unknown.error
