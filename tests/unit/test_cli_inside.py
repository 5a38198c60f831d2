"""The commands that look into one task, with a farm that is a few lines."""

import json

import msgspec
import pytest

import farm
from farm.client.future import Future, Origin
from farm.errors import FarmError
from farm.payload import dump_call, dump_function
from farm.protocol.messages import Group
from tests.unit.test_cli import TASK, answers, cli  # noqa: F401 -- cli is a fixture

STACK = {
    "id": TASK,
    "host": "north",
    "attempt": 2,
    "running_seconds": 90.0,
    "stack": "Thread 1:\n  File x\n",
}


def test_a_stack_is_printed_and_where_it_comes_from(cli):  # noqa: F811
    code, out, err = cli("stack", TASK, prepare=answers(stack=STACK))
    assert (code, out) == (0, "Thread 1:\n  File x\n")
    assert "On host north since 1 min 30 s, attempt 2" in err
    assert json.loads(cli("stack", "--json", TASK, prepare=answers(stack=STACK))[1]) == STACK
    assert cli("stack", "nothing", prepare=answers(stack=STACK))[0] == 2


def logs(*rows, over=True):
    keys = ("attempt", "host", "output", "cause", "over")
    attempts = [dict(zip(keys, row, strict=True)) | {"start": 0, "why": ""} for row in rows]
    return {"id": TASK, "state": "leased", "over": over, "attempts": attempts}


def with_logs(answer):
    def prepare(client):
        client.answers["logs"] = answer
        future = Future(Origin(b"s" * 16, None, None, lambda *_: answer), 1)
        client.future = lambda _: future

    return prepare


def test_logs_are_printed_by_attempt(cli):  # noqa: F811
    two = logs((1, "north", b"one\n", "exit", True), (2, "south", b"two\n", "", True))
    code, out, err = cli("logs", TASK, prepare=with_logs(two))
    assert (code, out) == (0, "one\ntwo\n")
    assert "Attempt 1 on host north, ended by exit:" in err
    rows = json.loads(cli("logs", "--json", TASK, prepare=with_logs(two))[1])
    assert [row["text"] for row in rows] == ["one\n", "two\n"]


def test_no_output_is_said(cli):  # noqa: F811
    code, out, err = cli("logs", TASK, prepare=with_logs(logs((1, "north", b"", "", True))))
    assert (code, out, err) == (0, "", "It has printed nothing.\n")


def test_logs_are_followed_to_the_end(cli):  # noqa: F811
    code, out, _ = cli("logs", "-f", TASK, prepare=with_logs(logs((1, "h", b"a\nb", "", True))))
    assert (code, out) == (0, "a\nb")
    assert cli("logs", "-f", "--json", TASK, prepare=with_logs(logs()))[0] == 2


def divide(top, bottom):
    print("dividing")  # noqa: T201
    assert farm.current_task().id == TASK
    return top / bottom


def with_call(*args):
    payload, function = dump_call(args, {}), dump_function(divide)
    group = Group(42, 1, function.hash, [payload], len(payload))
    found = {"hash": function.hash, "name": function.name, "data": function.data}
    return answers(call={"id": TASK, "group": msgspec.msgpack.encode(group)}, function=found)


def test_a_call_is_made_again_and_its_result_printed(cli):  # noqa: F811
    code, out, err = cli("replay", TASK, prepare=with_call(6, 3))
    assert (code, out) == (0, "dividing\n2.0\n")
    assert "Calling" in err
    with pytest.raises(RuntimeError):
        farm.current_task()


def test_what_it_raises_is_shown_from_its_own_frames_on(cli):  # noqa: F811
    code, out, err = cli("replay", TASK, prepare=with_call(6, 0))
    assert (code, out) == (1, "dividing\n")
    assert "in divide" in err
    assert "replay.py" not in err
    assert "ZeroDivisionError: division by zero" in err


def test_the_debugger_is_entered_where_it_raised(cli, monkeypatch):  # noqa: F811
    entered = []
    monkeypatch.setattr("pdb.post_mortem", entered.append)
    assert cli("replay", "--pdb", TASK, prepare=with_call(6, 3))[0] == 0
    assert entered == []
    assert cli("replay", "--pdb", TASK, prepare=with_call(6, 0))[0] == 1
    assert entered[0].tb_frame.f_locals["bottom"] == 0


def test_a_call_that_is_gone_has_an_exit_code_of_its_own(cli):  # noqa: F811
    code, _, err = cli("replay", TASK, prepare=answers(call=FarmError("not kept any more")))
    assert code == 5
    assert "not kept any more" in err
