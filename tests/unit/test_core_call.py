"""The call of a task, told as long as it is kept."""

import msgspec
import pytest

from farm.model import Ending, TaskId
from farm.protocol import messages as m
from farm.protocol.parts import Failure, Template
from tests.unit.core_harness import F, Rig, ended, group, packed, session_id

ALICE = session_id("alice")
KEPT = Template(result_ttl=100.0)


def ask(rig, what="call", counter=1):
    rig.take()
    rig.say(rig.peers["alice"], m.Query(7, what, {"id": str(TaskId(ALICE, counter))}))
    rig.answer_loads()
    ((_, answer),) = [one for one in rig.take() if isinstance(one[1], m.Answer)]
    return answer


def call(rig, counter):
    answer = ask(rig, counter=counter)
    assert not answer.error
    found = msgspec.msgpack.decode(answer.data["group"], type=m.Group)
    assert (found.first, found.count, found.function) == (counter, 1, F.hash)
    return found


def farm(*groups, **settings):
    rig = Rig(**settings)
    rig.client()
    host = rig.host()
    rig.submit(rig.peers["alice"], *groups)
    return rig, host, rig.grants(host)


def test_a_task_that_is_there_has_its_call_and_function():
    rig, _, _ = farm(group(1, 6))
    assert call(rig, 1).payloads == [b"p1"]
    assert call(rig, 6).payloads == [b"p6"]
    assert ask(rig, "function").data == {"hash": F.hash, "name": "work", "data": F.data}
    for what in ("call", "function"):
        assert "has no task" in ask(rig, what, 9).error


@pytest.mark.parametrize("restart", [False, True])
def test_one_that_failed_has_it_from_the_store(restart):
    rig, host, (grant,) = farm(group(1, 3, template=KEPT))
    failure = Failure("exception", "no")
    ends = [ended(grant, Ending.EXCEPTION, lo=i, hi=i + 1, failure=failure) for i in range(3)]
    rig.report(host, ended=ends)
    rig.say(rig.peers["alice"], m.Taken(1))
    rig.commit()
    if restart:
        rig.reload()
        rig.client()
    assert call(rig, 2).payloads == [b"p2"]


def test_an_item_of_a_packed_task_is_cut_out():
    rig, host, (grant,) = farm(packed(1, 4, start=10, template=KEPT))
    rig.report(host, ended=[m.Ended(10, grant.lease, 1, 1, 2, Ending.OK, [b"two"], 3, True)])
    assert (call(rig, 2).packed, call(rig, 2).start) == (True, 11)
    rig.report(
        host, number=2, ended=[m.Ended(10, grant.lease, 1, 3, 2, Ending.OK, [b"x"], 1, True)]
    )
    found = call(rig, 4)
    assert (found.packed, found.start, found.payloads) == (True, 13, [b"many"])


def test_a_dead_task_has_its_own():
    rig, host, (grant,) = farm(group(1, 1, template=Template(max_losses=0)))
    lost = ended(grant, Ending.LOST, failure=Failure("exit", "gone"))
    rig.report(host, ended=[lost])
    rig.say(rig.peers["alice"], m.Taken(1))
    rig.sleep(5)
    assert call(rig, 1).payloads == [b"p1"]
    assert ask(rig, "function").data["data"] == F.data


def test_what_is_gone_is_said_to_be():
    rig, host, (grant,) = farm(group(1, 1, template=Template(durable=False)))
    rig.report(host, ended=[ended(grant)])
    assert "not durable" in ask(rig).error
    rig, host, (grant,) = farm(group(1, 1))
    rig.report(host, ended=[ended(grant)])
    rig.say(rig.peers["alice"], m.Taken(1))
    rig.sleep(5)
    assert "not kept" in ask(rig).error


def test_survivors_of_a_rewritten_record_have_theirs():
    rig = Rig(grant_tasks=1)
    rig.client()
    host = rig.host(slots=20, window=20)
    rig.submit(rig.peers["alice"], group(1, 20))
    others = [one for one in rig.grants(host) if one.first != 2]
    rig.report(host, ended=[ended(one) for one in others])
    rig.say(rig.peers["alice"], m.Taken(1))
    rig.sleep(5)
    assert call(rig, 2).payloads == [b"p2"]
    assert "not kept" in ask(rig, counter=3).error
