"""What tasks print: kept with their outcomes, told of every attempt, published without evidence."""

import pytest

from farm.model import Ending, TaskId
from farm.protocol import messages as m
from farm.protocol.parts import COUNTER_MAX, Failure, Template
from tests.unit.core_harness import Rig, ended, group, key, packed, session_id

ALICE = session_id("alice")


def ask(rig, counter=1, **arguments):
    """What is answered, or the question to the host."""
    rig.take()
    arguments["id"] = str(TaskId(ALICE, counter))
    rig.say(rig.peers["alice"], m.Query(7, "logs", arguments))
    rig.answer_loads()
    ((_, message),) = rig.take()
    return message


def printed(answer):
    assert not answer.error, answer
    return [(row["attempt"], row["output"], row["over"]) for row in answer.data["attempts"]]


def farm(*groups, **settings):
    rig = Rig(**settings)
    rig.client()
    host = rig.host()
    rig.submit(rig.peers["alice"], *groups)
    return rig, host, rig.grants(host)


def test_the_output_of_a_success_is_published_and_kept_with_it():
    rig, host, (grant,) = farm(group(1, 1, template=Template(result_ttl=100.0)))
    rig.report(host, ended=[ended(grant, output=b"hello\n")])
    (result,) = rig.results(rig.peers["alice"])
    assert (result.ending, result.output) == (Ending.OK, b"hello\n")
    rig.say(rig.peers["alice"], m.Taken(1))
    rig.commit()
    assert rig.ledger.result_bytes == len("r1") + len("hello\n")
    answer = ask(rig)
    assert printed(answer) == [(1, b"hello\n", True)]
    assert (answer.data["state"], answer.data["over"]) == ("delivered", True)
    rig.reload()
    rig.client(pending=[])
    assert rig.ledger.result_bytes == len("r1") + len("hello\n")
    assert printed(ask(rig)) == [(1, b"hello\n", True)]


def test_a_task_that_printed_nothing_has_nothing():
    rig, host, (grant,) = farm(group(1, 1))
    rig.report(host, ended=[ended(grant)])
    assert rig.results(rig.peers["alice"])[0].output == b""
    assert printed(ask(rig)) == [(1, b"", True)]


def test_every_attempt_is_told_in_order():
    rig, host, (grant,) = farm(group(1, 1, template=Template(retries=1, backoff=0.0)))
    failure = Failure("exception", "no", "host", attempt=1, output=b"first\n")
    rig.report(host, ended=[ended(grant, Ending.EXCEPTION, failure=failure)])
    (grant,) = rig.grants(host)
    question = ask(rig)
    assert (question.what, question.counter, question.since) == ("output", 1, 0)
    rig.say(host, m.Told(question.request, b"sec", 0))
    ((_, answer),) = rig.take()
    assert printed(answer) == [(1, b"first\n", True), (2, b"sec", False)]
    last = Failure("exception", "no", "host", attempt=2, output=b"second\n")
    rig.report(host, number=2, ended=[ended(grant, Ending.EXCEPTION, failure=last)])
    (result,) = rig.results(rig.peers["alice"])
    assert (result.output, result.failure.output) == (b"second\n", b"")
    assert printed(ask(rig)) == [(1, b"first\n", True), (2, b"second\n", True)]
    rig.reload()
    rig.client(pending=[(1, 1)])
    rig.answer_loads()
    (result,) = rig.results(rig.peers["alice"])
    assert (result.output, result.failure.output, result.attempts) == (b"second\n", b"", [])


def test_a_running_task_is_asked_from_where_the_reader_is():
    rig, host, (grant,) = farm(group(1, 1))
    question = ask(rig, attempt=1, since=40)
    assert (question.lease, question.since) == (grant.lease, 40)
    rig.say(host, m.Told(question.request, b"", 0, "it has just ended"))
    ((_, answer),) = rig.take()
    assert answer.data["attempts"][0]["why"] == "it has just ended"
    assert ask(rig, attempt=3, since=40).since == 0  # of another attempt


def test_a_dead_task_has_the_output_of_all_its_attempts():
    rig, host, (grant,) = farm(group(1, 1, template=Template(max_losses=1)))
    for number in (1, 2):
        failure = Failure("exit", "gone", "host", attempt=number, output=b"%d" % number)
        rig.report(host, number=number, ended=[ended(grant, Ending.LOST, failure=failure)])
        grant = next(iter(rig.grants(host)), grant)
    assert printed(ask(rig)) == [(1, b"1", True), (2, b"2", True)]


def test_items_of_a_packed_task_share_their_output():
    rig, host, (grant,) = farm(packed(1, 4))
    end = m.Ended(10, grant.lease, 1, 1, 4, Ending.OK, [b"all"], 3, True, output=b"of all")
    rig.report(host, ended=[end])
    assert printed(ask(rig, 3)) == [(1, b"of all", True)]


def test_what_never_ran_printed_nothing_and_who_is_unknown_is_an_error():
    rig = Rig()
    client = rig.client()
    rig.submit(client, group(1, 1))
    assert printed(ask(rig)) == []
    rig.say(client, m.Cancel(1, [(ALICE, 1, 1)]))
    rig.commit()
    assert printed(ask(rig)) == []
    assert "has no task" in ask(rig, 9).error


def test_what_is_not_durable_is_there_until_it_is_taken():
    rig, host, (grant,) = farm(group(1, 1, template=Template(durable=False)))
    rig.report(host, ended=[ended(grant, output=b"brief")])
    assert rig.results(rig.peers["alice"])[0].output == b"brief"
    assert printed(ask(rig)) == [(1, b"brief", True)]


@pytest.mark.parametrize("since", [1 << 63, 1e300])
def test_no_host_is_asked_for_what_comes_after_more_than_can_be_counted(since):
    rig, host, (grant,) = farm(group(1, 1))
    rig.report(host, started=[key(grant)])
    asked = ask(rig, since=since, attempt=1)
    assert (asked.what, asked.since) == ("output", COUNTER_MAX)
