"""What attempts leave behind, dead tasks, and the questions about both."""

import msgspec

from farm.core.evidence import ATTEMPTS_MAX
from farm.model import Ending, TaskId
from farm.protocol import messages as m
from farm.protocol import records as r
from farm.protocol.parts import Failure
from tests.unit.core_harness import F, Rig, ended, group, packed, session_id

ALICE = session_id("alice")
OUTPUT = b"last words"


def task(counter=1):
    return str(TaskId(ALICE, counter))


def failure(cause="signal", **more):
    evidence = {"output": OUTPUT, "traceback": "Traceback", "peak_bytes": 7, "seconds": 0.5}
    return Failure(cause, f"a {cause}", "host", -11, **(evidence | more))


def farm(*groups, **settings):
    rig = Rig(**settings)
    rig.client()
    rig.host(slots=64, window=64)
    rig.submit(rig.peers["alice"], *groups)
    return rig


def run(rig, ending, **more):
    """The host runs what it has, and it all ends alike; the results that came of it."""
    host = rig.peers["host"]
    for grant in rig.grants(host):
        evidence = failure(attempt=grant.attempt, **more)
        end = ended(grant, ending, epoch=rig.epoch, failure=evidence)
        rig.say(host, m.Report(1, 64, [end]))
    rig.commit()
    return rig.results(rig.peers["alice"])


def die(rig, times=4):
    for _ in range(times - 1):
        assert run(rig, Ending.LOST) == []
    return run(rig, Ending.LOST)


def ask(rig, what, **arguments):
    rig.say(rig.peers["alice"], m.Query(1, what, arguments))
    rig.answer_loads()
    (answer,) = rig.of(m.Answer)
    return answer


def records(rig, kind):
    found = [r.decode_record(data) for _, data in sorted(rig.disk.records.items())]
    return [record for record in found if isinstance(record, kind)]


# ---------------------------------------------------------------- evidence


def test_an_attempt_that_is_tried_again_leaves_its_evidence_in_the_journal():
    rig = farm(group(1))
    assert run(rig, Ending.LOST) == []
    (record,) = records(rig, r.AttemptsEnded)
    assert record.entries[0].failure == failure(attempt=1)
    (attempt,) = ask(rig, "task", id=task()).data["attempts"]
    assert (attempt["attempt"], attempt["host"], attempt["cause"]) == (1, "host", "signal")
    assert (attempt["output"], attempt["peak_bytes"], attempt["seconds"]) == ("last words", 7, 0.5)


def test_a_give_back_and_a_restored_loss_are_no_attempts():
    rig = farm(group(1))
    run(rig, Ending.LOST)
    (grant,) = rig.grants(rig.peers["host"])
    returned = [(rig.epoch, grant.lease, 1, 1)]
    rig.report(rig.peers["host"], number=2, window=64, returned=returned)
    rig.reload()
    rig.client()
    assert len(ask(rig, "task", id=task()).data["attempts"]) == 1


def test_readers_of_an_outcome_get_the_essentials_and_the_journal_has_all():
    rig = farm(group(1, template=m.Template(retries=1, backoff=0.0)))
    run(rig, Ending.EXCEPTION)
    rig.sleep(1)
    (result,) = run(rig, Ending.EXCEPTION)
    assert result.failure == failure(attempt=2, output=b"", traceback="")
    assert result.attempts == []
    (record,) = records(rig, r.Finished)
    assert record.entries[0].failure == failure(attempt=2)
    assert record.entries[0].attempts == [failure(attempt=1)]
    answer = ask(rig, "task", id=task()).data
    assert [one["attempt"] for one in answer["attempts"]] == [1, 2]
    assert {one["traceback"] for one in answer["attempts"]} == {"Traceback"}
    assert answer["failure"] == failure().message


def test_an_outcome_that_is_read_back_has_the_essentials_too():
    rig = farm(group(1), resident_result_bytes=1)
    rig.drop(rig.peers["alice"])
    assert run(rig, Ending.EXCEPTION) == []
    rig.client(quiet=False, pending=[(1, 1)])
    rig.answer_loads()
    (result,) = rig.results(rig.peers["alice"])
    assert (result.failure.output, result.failure.message) == (b"", "a signal")


def test_what_must_not_be_tried_again_is_not():
    rig = farm(group(1, template=m.Template(retries=5, backoff=0.0)))
    (result,) = run(rig, Ending.EXCEPTION, final=True)
    assert result.ending is Ending.EXCEPTION


def test_the_last_attempts_are_kept_and_their_long_parts_within_a_bound():
    rig = farm(group(1, template=m.Template(retries=99, backoff=0.0)), evidence_bytes=100)
    for _ in range(ATTEMPTS_MAX + 2):
        run(rig, Ending.EXCEPTION)
        rig.sleep(1)
    attempts = ask(rig, "task", id=task()).data["attempts"]
    assert [one["attempt"] for one in attempts] == list(range(3, ATTEMPTS_MAX + 3))
    long = [one["attempt"] for one in attempts if one["output"]]
    assert long == [8, 9, 10]  # of 27 bytes each


def test_the_evidence_of_a_task_that_is_over_is_kept_in_the_journal_alone():
    rig = farm(group(1, template=m.Template(retries=1, backoff=0.0)))
    run(rig, Ending.EXCEPTION)
    assert rig.ledger.evidence.bytes == failure().weight
    rig.sleep(1)
    run(rig, Ending.OK)
    assert rig.ledger.evidence.bytes == 0


# ---------------------------------------------------------------- dead tasks


def test_a_dead_task_is_kept_with_every_attempt_when_its_outcome_is_long_gone():
    rig = farm(group(1))
    (result,) = die(rig)
    assert (result.ending, result.failure.losses) == (Ending.LOST, 4)
    rig.say(rig.peers["alice"], m.Taken(1))
    rig.sleep(5)
    assert records(rig, r.Submitted) == []
    (row,) = ask(rig, "dead").data
    assert (row["id"], row["function"], row["losses"], row["cause"]) == (
        task(),
        "work",
        4,
        "signal",
    )
    shown = ask(rig, "task", id=task()).data
    assert (shown["state"], [one["attempt"] for one in shown["attempts"]]) == ("dead", [1, 2, 3, 4])
    assert {one["output"] for one in shown["attempts"]} == {"last words"}


def test_the_evidence_of_the_dead_survives_restarts_at_any_commit():
    for commits in range(4):
        rig = farm(group(1))
        die(rig, 2)
        rig.reload(commit=commits)
        rig.client()
        rig.host(slots=64, window=64)
        rig.sleep(6)
        die(rig, 2)
        rig.reload()
        rig.client()
        attempts = ask(rig, "task", id=task()).data["attempts"]
        assert [one["attempt"] for one in attempts] == [1, 2, 3, 4], commits
        assert {one["output"] for one in attempts} == {"last words"}


def test_a_dead_task_whose_outcome_was_not_committed_runs_again():
    rig = farm(group(1))
    assert die(rig, 3) == []
    host = rig.peers["host"]
    (grant,) = rig.grants(host)
    rig.report(host, ended=[ended(grant, Ending.LOST, failure=failure())], commit=False)
    kinds = [type(r.decode_record(change[2])) for change in rig.pending if change[0] == "append"]
    assert kinds == [r.Buried, r.Finished]
    rig.reload(commit=1)
    rig.client()
    assert ask(rig, "dead").data == []
    rig.commit()
    assert records(rig, r.Buried) == []
    assert ask(rig, "task", id=task()).data["state"] == "queued"


def test_the_evidence_of_a_living_task_is_copied_out_with_it():
    rig = farm(group(1, 8, template=m.Template(retries=3, backoff=1e6)))
    host = rig.peers["host"]
    (grant,) = rig.grants(host)
    evidence = failure(attempt=1)
    rig.report(
        host,
        window=64,
        ended=[ended(grant, hi=7), ended(grant, Ending.EXCEPTION, lo=7, failure=evidence)],
    )
    before = records(rig, r.AttemptsEnded)
    rig.say(rig.peers["alice"], m.Taken(1))
    rig.sleep(2)
    (after,) = records(rig, r.AttemptsEnded)
    assert [after] != before
    assert after.entries[0].attempts == [evidence]
    rig.reload()
    rig.client()
    (attempt,) = ask(rig, "task", id=task(8)).data["attempts"]
    assert attempt["output"] == "last words"


def test_an_item_of_a_packed_task_is_buried_alone_with_the_whole_payload():
    rig = farm(packed(1, 3, template=m.Template(max_losses=0)))
    (grant,) = rig.grants(rig.peers["host"])
    end = ended(grant, Ending.LOST, lo=1, hi=2, failure=failure())
    rig.report(rig.peers["host"], window=64, ended=[end])
    (row,) = ask(rig, "dead").data
    assert row["id"] == task(2)
    found = ask(rig, "dead_task", id=task(2)).data
    again = msgspec.msgpack.decode(found["group"], type=m.Group)
    assert (again.first, again.count, again.start, again.payloads) == (2, 1, 1, [b"many"])
    assert again.template.max_losses == 0
    function = ask(rig, "function", id=task(2)).data
    assert function == {"hash": F.hash, "name": F.name, "data": F.data}


def test_dropping_forgets_the_record_and_the_function():
    rig = farm(group(1), group(2))
    die(rig)
    assert len(ask(rig, "dead").data) == 2
    rig.say(rig.peers["alice"], m.Taken(2))
    rig.sleep(5)
    assert ask(rig, "drop_dead", ids=[task(1), task(9)]).data == 1
    rig.commit()
    assert (len(records(rig, r.Buried)), len(rig.disk.functions)) == (1, 1)
    assert ask(rig, "drop_dead", ids=[task(2)]).data == 1
    rig.commit()
    assert (len(records(rig, r.Buried)), len(rig.disk.functions)) == (0, 0)
    assert "delivered" in ask(rig, "task", id=task(1)).error


def test_the_dead_go_when_their_time_is_over_or_there_are_too_many():
    rig = farm(group(1), group(2), group(3), dead_tasks=2, result_ttl=50.0)
    for _ in range(3):
        assert run(rig, Ending.LOST) == []
    buried = [str(TaskId(ALICE, result.first)) for result in run(rig, Ending.LOST)]
    assert [row["id"] for row in ask(rig, "dead").data] == buried[1:]
    rig.sleep(49)
    assert len(ask(rig, "dead").data) == 2
    rig.sleep(2)
    assert ask(rig, "dead").data == []
    rig.commit()
    assert records(rig, r.Buried) == []


def test_the_dead_are_bounded_in_bytes():
    rig = farm(group(1), group(2), dead_bytes=1)
    die(rig)
    assert ask(rig, "dead").data == []


def test_the_dead_can_be_chosen_by_function_and_job():
    rig = Rig()
    client = rig.client()
    rig.host(slots=64, window=64)
    rig.say(client, m.JobOpen(1, "nightly"))
    rig.submit(client, group(1, job=1), group(2))
    die(rig)
    assert [row["id"] for row in ask(rig, "dead", job="nightly").data] == [task(1)]
    assert len(ask(rig, "dead", function="work").data) == 2
    assert ask(rig, "dead", function="other").data == []
    assert len(ask(rig, "dead", limit=1).data) == 1


def test_who_is_not_dead_cannot_be_had():
    rig = farm(group(1))
    assert "not among the dead" in ask(rig, "dead_task", id=task()).error
    assert "not a task id" in ask(rig, "dead_task", id="x").error


def test_an_order_names_so_many_at_most():
    rig = farm(group(1))
    assert "at a time" in ask(rig, "drop_dead", ids=[task()] * 1001).error


def test_a_record_that_went_while_it_was_read_is_said_to_be_gone():
    rig = farm(group(1))
    die(rig)
    rig.take()
    rig.say(rig.peers["alice"], m.Query(5, "dead_task", {"id": task()}))
    rig.say(rig.peers["alice"], m.Query(6, "drop_dead", {"ids": [task()]}))
    rig.commit()
    rig.answer_loads()
    answers = {answer.request: answer for answer in rig.of(m.Answer)}
    assert answers[6].data == 1
    assert "not among the dead that are kept any more" in answers[5].error


def test_a_lost_host_is_evidence_with_attempt_and_time():
    rig = farm(group(1, template=m.Template(max_losses=0)))
    (grant,) = rig.grants(rig.peers["host"])
    rig.say(rig.peers["host"], m.Beat(running=[(rig.epoch, grant.lease, 1, 1)]))
    rig.sleep(40, rig.peers["host"])
    (attempt,) = ask(rig, "task", id=task()).data["attempts"]
    assert (attempt["cause"], attempt["attempt"], attempt["host"]) == ("host_lost", 1, "host")
    assert attempt["seconds"] > 29


def lose_many(count=4, payload=b"many", **settings):
    """A packed task of which no item may run twice, and whose host is lost."""
    rig = farm(packed(1, count, payload, template=m.Template(max_losses=0)), **settings)
    rig.drop(rig.peers["host"])
    rig.sleep(40)
    assert rig.ledger.open_tasks == 0
    return rig


def called(rig, counter):
    """What is needed to submit the like of a dead task."""
    found = ask(rig, "dead_task", id=task(counter)).data["group"]
    return msgspec.msgpack.decode(found, type=m.Group)


def test_items_that_die_together_keep_their_arguments_once():
    rig = lose_many(payload=b"m" * 5000)
    for _ in range(2):
        assert sum(len(data) for data in rig.disk.records.values()) < 15_000  # with the submission
        rows = ask(rig, "dead").data
        assert [row["id"] for row in rows] == [task(i) for i in (1, 2, 3, 4)]
        assert all(row["bytes"] > 5000 for row in rows)
        for counter in (1, 4):
            again = called(rig, counter)
            assert (again.first, again.count, again.start) == (counter, 1, counter - 1)
            assert (again.packed, again.payloads) == (True, [b"m" * 5000])
            call = msgspec.msgpack.decode(ask(rig, "call", id=task(counter)).data["group"])
            assert call[3] == [b"m" * 5000]
            [attempt] = ask(rig, "task", id=task(counter)).data["attempts"]
            assert attempt["cause"] == "host_lost"
        rig.reload()
        rig.client()


def test_arguments_go_with_the_last_of_those_who_have_them():
    rig = lose_many()
    rig.say(rig.peers["alice"], m.Taken(9))
    rig.sleep(5)
    assert ask(rig, "drop_dead", ids=[task(1), task(3)]).data == 2
    rig.commit()
    rig.reload()
    rig.client()
    assert [row["id"] for row in ask(rig, "dead").data] == [task(2), task(4)]
    assert called(rig, 4).payloads == [b"many"]
    assert ask(rig, "drop_dead", ids=[task(2)]).data == 1
    rig.commit()
    assert len(records(rig, r.Arguments)) == 1
    assert ask(rig, "drop_dead", ids=[task(4)]).data == 1
    rig.commit()
    assert (records(rig, r.Arguments), records(rig, r.Buried)) == ([], [])
    assert len(rig.disk.functions) == 0


def test_arguments_of_the_dead_are_counted_once():
    rig = lose_many(payload=b"m" * 5000, dead_bytes=6000)
    assert len(ask(rig, "dead").data) == 4
    rig = lose_many(payload=b"m" * 5000, dead_bytes=4000)
    assert ask(rig, "dead").data == []
    assert records(rig, r.Arguments) == []
    rig = lose_many(dead_tasks=3)
    assert [row["id"] for row in ask(rig, "dead").data] == [task(i) for i in (2, 3, 4)]


def test_arguments_of_tasks_that_run_again_go():
    rig = farm(packed(1, 3, template=m.Template(max_losses=0)))
    (grant,) = rig.grants(rig.peers["host"])
    end = ended(grant, Ending.LOST, failure=failure())
    rig.report(rig.peers["host"], ended=[end], commit=False)
    kinds = [type(r.decode_record(change[2])) for change in rig.pending if change[0] == "append"]
    assert kinds == [r.Arguments, *[r.Buried] * 3, r.Finished]
    rig.reload(commit=2)
    rig.commit()
    assert (records(rig, r.Arguments), records(rig, r.Buried)) == ([], [])
    rig.client()
    assert ask(rig, "dead").data == []
