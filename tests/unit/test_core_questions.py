"""Questions that hosts answer: passed on, and answered whatever becomes of the host."""

from farm.core import questions
from farm.model import TaskId
from farm.protocol import messages as m
from tests.unit.core_harness import Rig, ended, group, session_id

ALICE = session_id("alice")


def ask(rig, what="stack", counter=1, **arguments):
    id_ = str(TaskId(ALICE, counter))
    rig.say(rig.peers["alice"], m.Query(7, what, {"id": id_, **arguments}))


def running(**settings):
    """A farm with one running task, and its grant."""
    rig = Rig(**settings)
    client, host = rig.client(), rig.host()
    rig.submit(client, group(1, 1))
    (grant,) = rig.grants(host)
    rig.take()
    return rig, host, grant


def asked(rig):
    """The one question passed on, and nothing else."""
    ((_, message),) = rig.take()
    assert isinstance(message, m.Ask)
    return message


def answer(rig):
    ((peer, message),) = [one for one in rig.take() if isinstance(one[1], m.Answer)]
    assert (peer, message.request) == (rig.peers["alice"], 7)
    return message


def test_a_host_is_asked_and_its_answer_passed_on():
    rig, host, grant = running()
    ask(rig)
    question = asked(rig)
    assert (question.what, question.lease, question.counter) == ("stack", grant.lease, 1)
    rig.say(host, m.Told(question.request, b"File x"))
    assert answer(rig).data["stack"] == "File x"
    rig.say(host, m.Told(question.request, b"again"))
    assert rig.take() == []
    assert rig.ledger.counters["stale"] == 1


def test_what_a_host_cannot_tell_is_an_error():
    rig, host, _ = running()
    ask(rig)
    rig.say(host, m.Told(asked(rig).request, b"", 0, "it has ended"))
    assert answer(rig).error == "it has ended"


def test_a_task_that_does_not_run_has_no_stack():
    rig, host, grant = running()
    rig.report(host, ended=[ended(grant)])
    rig.take()
    ask(rig)
    assert "does not run" in answer(rig).error


def test_a_host_that_is_gone_answers_nobody_and_nobody_waits():
    rig, host, _ = running()
    ask(rig)
    rig.drop(host)
    assert "host host is gone" in answer(rig).error
    ask(rig)
    assert "last heard" in answer(rig).error
    assert not len(rig.core.questions)


def test_a_host_that_came_back_does_not_answer_what_its_old_connection_was_asked():
    rig, _, grant = running()
    ask(rig)
    question = asked(rig)
    claim = m.Claim(10, grant.lease, grant.attempt, grant.session, 1, 1, True)
    again = rig.host(claims=[claim])
    assert "is gone" in answer(rig).error
    rig.say(again, m.Told(question.request, b"late"))
    assert rig.take() == []


def test_a_host_that_says_nothing_is_waited_for_so_long():
    rig, host, _ = running()
    ask(rig)
    asked(rig)
    rig.sleep(questions.ANSWER_SECONDS - 1)
    assert rig.of(m.Answer) == []
    rig.sleep(2)
    assert "did not answer within" in answer(rig).error
    assert rig.ledger.host_of(host)


def test_another_host_does_not_answer_for_it():
    rig, host, _ = running()
    other = rig.host("other")
    ask(rig)
    question = asked(rig)
    rig.say(other, m.Told(question.request, b"lies"))
    assert rig.take() == []
    rig.say(host, m.Told(question.request, b"truth"))
    assert answer(rig).data["stack"] == "truth"


def test_no_more_wait_than_can(monkeypatch):
    monkeypatch.setattr(questions, "ASKED_MAX", 1)
    rig, host, _ = running()
    ask(rig)
    question = asked(rig)
    ask(rig)
    assert "too many" in answer(rig).error
    rig.say(host, m.Told(question.request, b"x"))
    assert answer(rig).data["stack"] == "x"
