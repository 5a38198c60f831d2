"""The commands that look into one task, with a farm that is a few lines."""

import json

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
