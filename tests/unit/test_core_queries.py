"""Questions about the farm: plain answers, and an error for what makes no sense."""

import sys

import pytest

from farm.errors import ProtocolError
from farm.model import Ending, TaskId
from farm.protocol import messages as m
from farm.protocol.codec import decoder, encode
from tests.unit.core_harness import Rig, ended, group, key, session_id

ALICE = session_id("alice")


def ask(rig, what, **arguments):
    rig.say(rig.peers["alice"], m.Query(1, what, arguments))
    (answer,) = rig.of(m.Answer)
    return answer


def farm(*groups):
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.submit(client, *groups)
    return rig, host, rig.grants(host)


def test_the_status_counts_tasks_hosts_and_room():
    rig, _, _ = farm(group(1, 6))
    data = ask(rig, "status").data
    assert data["tasks"] == {"queued": 2, "leased": 4}
    assert (data["hosts"], data["slots"], data["sessions"]) == (1, 4, 1)
    assert data["limits"]["open_tasks"] == 6
    assert data["journal"]["behind"] == 0


def test_hosts_say_what_they_hold():
    rig, host, (grant,) = farm(group(1, 6))
    rig.say(host, m.Beat(running=[key(grant, hi=2)], load={"cpu": 0.5}))
    (row,) = ask(rig, "hosts").data
    assert (row["name"], row["held"], row["running"], row["load"]) == ("host", 4, 2, {"cpu": 0.5})


def test_jobs_and_their_counts():
    rig = Rig()
    client = rig.client()
    rig.say(client, m.JobOpen(1, "census"))
    rig.submit(client, group(1, 6, job=1))
    (row,) = ask(rig, "jobs").data
    assert (row["name"], row["total"], row["counts"]) == ("census", 6, {"queued": 6})


def job_of_six():
    """A job of six tasks, of which the host has four and has ended the second."""
    rig = Rig()
    client, host = rig.client(), rig.host()
    rig.say(client, m.JobOpen(1, "census"))
    rig.submit(client, group(1, 4, job=1), group(5, 2, job=1))
    (grant,) = rig.grants(host)
    rig.report(host, window=0, ended=[ended(grant, lo=1, hi=2)])
    return rig, client, host, grant


def test_one_job_says_how_far_it_is_and_whether_it_is_over():
    rig, client, host, grant = job_of_six()
    row = ask(rig, "job", id="census").data
    assert (row["total"], row["open"], row["over"]) == (6, 5, False)
    assert row["runs"] == [(ALICE, 1, 6)]
    rig.say(client, m.JobSeal(1, 6))
    assert ask(rig, "job", id=row["id"]).data["over"] is False
    rig.report(host, number=2, window=0, ended=[ended(grant, hi=1), ended(grant, lo=2)])
    rig.say(client, m.Cancel(9, [(ALICE, 5, 2)]))
    rig.commit()
    assert ask(rig, "job", id=row["id"]).data["over"] is True
    assert "no job 'consus'" in ask(rig, "job", id="consus").error


def test_the_tasks_of_a_job_come_in_order_from_anywhere():
    rig, *_ = job_of_six()
    rows = ask(rig, "job_tasks", id="census").data
    assert [(row["index"], row["count"], row["state"]) for row in rows] == [
        (0, 1, "leased"),
        (1, 1, "succeeded"),
        (2, 2, "leased"),
        (4, 2, "queued"),
    ]
    rows = ask(rig, "job_tasks", id="census", start=3, limit=2).data
    assert [(row["index"], row["id"], row["count"]) for row in rows] == [
        (3, str(TaskId(ALICE, 4)), 1),
        (4, str(TaskId(ALICE, 5)), 1),
    ]
    assert ask(rig, "job_tasks", id="census", start=6).data == []


def test_how_tasks_ended_is_told_also_when_their_owner_has_the_outcome():
    rig, client, host, grant = job_of_six()
    failed = ended(grant, Ending.EXCEPTION, lo=2, hi=3)
    rig.report(host, number=2, window=0, ended=[failed])
    rig.say(client, m.Taken(2))
    rig.commit()
    rows = ask(rig, "job_tasks", id="census", limit=4).data
    assert [row["state"] for row in rows] == ["leased", "succeeded", "failed", "leased"]
    counts = ask(rig, "job", id="census").data["counts"]
    assert counts == {"queued": 2, "leased": 2, "succeeded": 1, "failed": 1}


def test_tasks_by_state_and_age():
    rig, _, _ = farm(group(1, 6))
    assert [(x["count"], x["state"]) for x in ask(rig, "tasks").data] == [
        (2, "queued"),
        (4, "leased"),
    ]
    assert [x["count"] for x in ask(rig, "tasks", state="running").data] == [4]
    assert ask(rig, "tasks", longer_than=5).data == []
    rig.sleep(6)
    assert len(ask(rig, "tasks", longer_than=5).data) == 2
    assert len(ask(rig, "tasks", limit=1).data) == 1


def test_one_task_with_its_evidence():
    rig, host, (grant,) = farm(group(1, 1))
    rig.report(host, ended=[ended(grant, Ending.LOST)])
    row = ask(rig, "task", id=str(TaskId(ALICE, 1))).data
    assert (row["state"], row["attempt"], row["losses"]) == ("leased", 2, 1)
    (grant,) = rig.grants(host) or [grant]
    rig.say(rig.peers["alice"], m.Taken(9))


@pytest.mark.parametrize(
    ("what", "arguments", "text"),
    [
        ("nothing", {}, "there is no query"),
        ("tasks", {"state": "asleep"}, "there is no state"),
        ("tasks", {"limit": "many"}, "many"),
        ("tasks", {"limit": float("inf")}, "infinity"),
        ("tasks", {"limit": float("nan")}, "NaN"),
        ("tasks", {"longer_than": [1]}, "list"),
        ("tasks", {"state": ["queued"]}, "there is no state"),
        ("task", {}, "is not a task id"),
        ("task", {"id": 7}, "is not a task id"),
        ("task", {"id": str(TaskId(b"?" * 16, 7))}, "no task"),
    ],
)
def test_a_question_that_makes_no_sense_is_answered_with_an_error(what, arguments, text):
    rig, _, _ = farm(group(1, 1))
    answer = ask(rig, what, **arguments)
    assert text in answer.error
    assert answer.data is None


def test_a_delivered_task_is_said_to_be():
    rig, host, (grant,) = farm(group(1, 1))
    rig.report(host, ended=[ended(grant)])
    rig.say(rig.peers["alice"], m.Taken(1))
    rig.sleep(1)
    rig.take()
    assert "delivered" in ask(rig, "task", id=str(TaskId(ALICE, 1))).error


def test_hosts_say_what_enforces_memory_limits():
    for says in ("cgroup v2", ""):
        rig = Rig()
        rig.client()
        rig.host(memory_limits=says)
        assert ask(rig, "hosts").data[0]["memory_limits"] == says


def test_hosts_say_why_they_take_nothing():
    rig, host, _ = farm(group(1, 9))
    rig.report(host, window=0, trouble="the disk is full")
    (row,) = ask(rig, "hosts").data
    assert (row["window"], row["trouble"]) == (0, "the disk is full")
    why = ask(rig, "explain", id=str(TaskId(ALICE, 9))).data["hosts"]
    assert why == [{"name": "host", "says": "takes nothing now: the disk is full"}]
    rig.report(host, number=2)
    assert ask(rig, "hosts").data[0]["trouble"] == ""


@pytest.mark.parametrize("what", ["job", "history", "pause_queue"])
def test_whatever_is_read_is_answered_however_many_lists_are_in_lists(what):
    """What can just be read may be too deep to be said."""
    rig, _, _ = farm()
    (frame,) = encode(0, m.Query(1, what, dict.fromkeys(("id", "job", "name"), "?")))
    read, heard = decoder("from_client"), 0
    for depth in range(sys.getrecursionlimit(), 0, -1):
        deep = b"\x91" * depth + b"\x90"
        try:
            _, message = read.decode([frame.replace(b"\xa1?", deep)])
        except ProtocolError:
            continue
        rig.core.receive(rig.peers["alice"], message, rig.now)
        assert len(rig.of(m.Answer)) == 1
        heard += 1
        if heard == 20:
            break
    assert heard == 20
