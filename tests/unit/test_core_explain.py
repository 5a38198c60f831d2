"""Why a task is where it is, and what the farm remembers of one that is gone."""

import pytest

from farm.model import Ending, TaskId
from farm.protocol import messages as m
from tests.unit.core_harness import Rig, ended, group, key, session_id

ALICE = session_id("alice")


def ask(rig, what, **arguments):
    rig.say(rig.peers["alice"], m.Query(1, what, arguments))
    while rig.loads:
        rig.answer_loads()
    (answer,) = rig.of(m.Answer)
    return answer


def explain(rig, counter):
    answer = ask(rig, "explain", id=str(TaskId(ALICE, counter)))
    assert not answer.error
    return answer.data


def why(rig, counter):
    return "; ".join(explain(rig, counter)["why"])


def finish(rig, host, grants, *, take=True):
    rig.report(host, ended=[ended(grant, epoch=rig.epoch) for grant in grants])
    if take:
        rig.say(rig.peers["alice"], m.Taken(10_000))
        rig.commit()
        rig.sleep(1)


def test_a_task_waits_for_a_host():
    rig = Rig()
    rig.submit(rig.client(), group(1, 3))
    assert why(rig, 1) == "no host is connected"
    assert explain(rig, 1)["state"] == "queued"


def test_a_task_waits_behind_others_for_credit_on_these_hosts():
    rig = Rig()
    client, _ = rig.client(), rig.host(slots=2, window=2)
    rig.submit(client, group(1, 10), group(11, 1, template=m.Template(priority=5)))
    row = explain(rig, 8)
    assert row["ahead"] == 6
    assert row["why"][0] == "6 tasks of its queue default go first"
    assert "no host has room" in row["why"][1]
    assert row["hosts"] == [{"name": "host", "says": "is busy: it holds 2 tasks, with 2 slots"}]


def test_a_task_waits_for_its_delay_or_expires():
    rig = Rig()
    client = rig.client()
    template = m.Template(delay=60.0, expires=90.0)
    rig.submit(client, group(1, template=template))
    rig.sleep(20)
    assert why(rig, 1) == ("it was submitted to start 60 s later, in 40.0 s; it expires in 70.0 s")


def test_a_task_waits_to_be_tried_again_and_says_after_which_error():
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1, template=m.Template(retries=3, backoff=100.0)))
    (grant,) = rig.grants(host)
    failure = m.Failure("exception", "no such file", type_name="OSError")
    rig.report(host, ended=[ended(grant, Ending.EXCEPTION, failure=failure)])
    assert why(rig, 1) == (
        "its attempt 1 failed (OSError: no such file); it is tried again in 50.0 s, as retry 1 of 3"
    )


def test_a_task_runs_on_a_host_since():
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1))
    (grant,) = rig.grants(host)
    assert "has not been reported to run" in why(rig, 1)
    rig.report(host, started=[(rig.epoch, grant.lease, 1, 1)])
    rig.sleep(5)
    assert why(rig, 1) == "it runs on host host since 5.0 s"
    rig.sleep(20, host)
    assert "in 10.0 s its lease ends" in why(rig, 1)


def test_a_task_that_was_lost_says_so_while_it_waits():
    rig = Rig()
    client, host = rig.client(), rig.host(slots=1, window=1)
    rig.submit(client, group(1))
    (grant,) = rig.grants(host)
    failure = m.Failure("signal", "killed by SIGSEGV", "host", -11)
    rig.report(host, window=0, ended=[ended(grant, Ending.LOST, failure=failure)])
    assert "its last attempt ended early: killed by SIGSEGV" in why(rig, 1)
    assert "no host has room" in why(rig, 1)


def test_after_a_restart_it_waits_for_the_hosts_of_before():
    rig = Rig()
    rig.host()
    rig.submit(rig.client("bob"), group(1))
    client = rig.client()
    rig.submit(client, group(1, 20))
    rig.reload()
    rig.client()
    assert "waits for the hosts that it had before" in why(rig, 20)


def test_how_a_task_ended_as_long_as_it_is_kept():
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1, template=m.Template(result_ttl=100.0)))
    finish(rig, host, rig.grants(host), take=False)
    rig.sleep(7)
    assert why(rig, 1).startswith("it succeeded on host host, 7 s ago, after it ran 0.001 s")
    assert "its owner has not taken the result yet" in why(rig, 1)
    rig.say(client, m.Taken(10))
    rig.commit()
    assert "kept for other readers" in why(rig, 1)


def test_how_a_task_ended_that_is_gone():
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1, 4))
    finish(rig, host, rig.grants(host))
    rig.reload()
    rig.client()
    row = explain(rig, 3)
    assert (row["state"], row["host"], row["function"]) == ("succeeded", "host", "work")
    assert "delivered to its owner" in row["why"][-1]


@pytest.mark.parametrize("counter", [1, 7])
def test_of_what_was_never_accepted_nothing_is_known(counter):
    rig = Rig()
    rig.client()
    answer = ask(rig, "explain", id=str(TaskId(ALICE, counter)))
    assert "the farm has no task" in answer.error
    assert "is not a task id" in ask(rig, "explain", id="x").error


def test_a_question_about_a_page_that_goes_meanwhile_is_answered():
    rig = Rig(history_ttl=100.0)
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1))
    finish(rig, host, rig.grants(host))
    rig.say(client, m.Query(1, "explain", {"id": str(TaskId(ALICE, 1))}))
    assert rig.loads
    rig.sleep(200)
    rig.take()
    rig.answer_loads()
    (answer,) = rig.of(m.Answer)
    assert answer.data["state"] == "gone"


def test_the_past_lists_tasks_that_are_gone_the_last_first():
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.say(client, m.JobOpen(1, "nightly"))
    for first, job in ((1, 0), (5, 0)):
        rig.submit(client, group(first, 4, job=job))
        finish(rig, host, rig.grants(host))
        rig.sleep(5)
    rows = ask(rig, "history").data
    assert [(row["count"], row["state"]) for row in rows] == [(4, "succeeded")] * 2
    assert rows[0]["id"].endswith("-5")
    assert len(ask(rig, "history", limit=1).data) == 1
    assert ask(rig, "history", state="failed").data == []
    assert ask(rig, "history", job="nightly").data == []


def test_the_past_knows_jobs_that_are_gone():
    rig = Rig(result_ttl=50.0)
    client, host = rig.client(), rig.host()
    rig.say(client, m.JobOpen(1, "nightly"))
    rig.submit(client, group(1, 4, job=1))
    rig.say(client, m.JobSeal(1, 4))
    finish(rig, host, rig.grants(host))
    rig.sleep(100)
    assert ask(rig, "jobs").data == []
    (job,) = ask(rig, "history", by_job=True).data
    assert (job["name"], job["total"], job["counts"]) == ("nightly", 4, {"succeeded": 4})
    assert [row["count"] for row in ask(rig, "history", job="nightly").data] == [4]


def test_which_attempt_was_the_last_is_known_after_a_restart_and_when_the_task_is_gone():
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1))
    for number in (1, 2):
        (grant,) = rig.grants(host)
        rig.report(host, number=number, returned=[key(grant)])
    finish(rig, host, rig.grants(host), take=False)
    assert explain(rig, 1)["attempt"] == 3
    rig.reload()
    client = rig.client()
    assert explain(rig, 1)["attempt"] == 3
    rig.answer_loads()
    rig.say(client, m.Taken(10_000))
    rig.commit()
    rig.sleep(1)
    answer = explain(rig, 1)
    assert (answer["state"], answer["attempt"]) == ("succeeded", 3)
