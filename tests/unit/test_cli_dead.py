"""The commands about dead tasks, with a farm that is a few lines."""

import json

import msgspec
import pytest

from farm.cli import dead
from farm.client.dead import retry_dead
from farm.errors import FarmError
from farm.protocol.messages import Group
from tests.unit.test_cli import TASK, FakeClient, answers, cli, done  # noqa: F401 -- cli is a fixture

ROW = {
    "id": TASK,
    "function": "mod.f",
    "job": "nightly",
    "cause": "signal",
    "message": "its worker was killed",
    "host": "north",
    "losses": 4,
    "age_seconds": 90.0,
    "bytes": 10,
}
ATTEMPT = {
    "attempt": 4,
    "cause": "signal",
    "message": "its worker was killed",
    "host": "north",
    "code": -11,
    "type_name": "",
    "seconds": 0.5,
    "peak_bytes": 3 << 20,
    "traceback": "",
    "output": "".join(f"line {n}\n" for n in range(50)),
}
SHOWN = {**ROW, "state": "dead", "failure": "its worker was killed", "attempts": [ATTEMPT]}
GROUP = Group(42, 1, b"f" * 16, [b"call"], 4, job=7)
FUNCTION = {"hash": b"f" * 16, "name": "mod.f", "data": b"code"}


CRASHED = (
    """\
on its way
Fatal Python error: Segmentation fault

Current thread 0x01 (most recent call first):
  File "/home/ada/mod.py", line 4 in f
  File "/lib/farm_workers/worker.py", line 248 in _run_each
"""
    + "".join(f'  File "/lib/farm_workers/more.py", line {n} in more\n' for n in range(30))
    + """
Extension modules: msgspec._core (total: 1)
"""
)


@pytest.fixture
def naps(monkeypatch):
    """How long a command slept between its steps, on a clock that only sleeping moves."""
    slept = []
    monkeypatch.setattr(dead.time, "monotonic", lambda: sum(slept))
    monkeypatch.setattr(dead.time, "sleep", slept.append)
    return slept


def with_dead(client):
    """A farm with two dead tasks."""
    client.answers |= {
        "dead": [ROW, ROW | {"id": "0" * 31 + "1-43"}],
        "task": SHOWN,
        "dead_task": {"group": msgspec.msgpack.encode(GROUP)},
        "function": FUNCTION,
        "drop_dead": 1,
    }
    client.again = []

    def submit_again(group, function):
        client.again.append((group, function))
        return done("new")

    client.submit_again = submit_again
    client.wait_acknowledged = lambda *_: True


def test_they_are_listed_and_chosen(cli):  # noqa: F811
    code, out, _ = cli("dead", "list", "--job", "nightly", prepare=with_dead)
    assert code == 0
    assert "mod.f" in out
    assert "1 min 30 s ago" in out
    assert json.loads(cli("dead", "list", "--json", prepare=with_dead)[1])[0] == ROW
    assert cli("dead", "list", "-q", prepare=with_dead)[1].split() == [TASK, "0" * 31 + "1-43"]


def test_none_is_no_error(cli):  # noqa: F811
    code, out, err = cli("dead", "list", prepare=answers(dead=[]))
    assert (code, out, err) == (0, "", "No dead tasks.\n")


def test_where_a_task_crashed_is_shown_without_what_called_it(cli):  # noqa: F811
    shown = {**SHOWN, "attempts": [ATTEMPT | {"output": CRASHED}]}
    _, out, _ = cli("dead", "show", TASK, prepare=answers(task=shown))
    assert "on its way" in out
    assert "mod.py" in out
    assert "Extension modules" in out
    assert "farm_workers" not in out
    assert "more.py" in cli("dead", "show", "--full", TASK, prepare=answers(task=shown))[1]


def test_one_is_shown_with_the_end_of_its_output(cli):  # noqa: F811
    code, out, _ = cli("dead", "show", TASK, prepare=with_dead)
    assert code == 0
    assert "signal, on north, after 500 ms, peak memory 3.0 MiB, signal 11" in out
    assert "line 49" in out
    assert "line 5\n" not in out
    assert "line 5\n" in cli("dead", "show", TASK, "--full", prepare=with_dead)[1]
    assert json.loads(cli("dead", "show", TASK, "--json", prepare=with_dead)[1]) == SHOWN


def test_one_that_is_unknown_has_an_exit_code(cli):  # noqa: F811
    code, _, err = cli("dead", "show", TASK, prepare=answers(task=FarmError("no such task")))
    assert (code, err) == (5, "farm: no such task\n")
    assert cli("dead", "show", "x")[0] == 2


def test_one_is_submitted_again_and_then_dropped(cli):  # noqa: F811
    code, out, _ = cli("dead", "retry", TASK, "--json", prepare=with_dead)
    assert (code, json.loads(out)) == (0, [{"id": TASK, "retried_as": TASK}])
    client = FakeClient.made[-1]
    assert len(client.again) == 1
    assert client.asked[-1] == ("drop_dead", {"ids": [TASK]})


def test_all_are_submitted_again_at_a_bounded_rate(cli, naps):  # noqa: F811
    code, out, _ = cli("dead", "retry", "--all", "--rate", "2", prepare=with_dead)
    assert (code, len(out.split())) == (0, 2)
    assert naps == [0.0, 0.5]


def test_all_are_dropped(cli, naps):  # noqa: F811
    code, out, _ = cli("dead", "drop", "--all", "--rate", "1", prepare=with_dead)
    assert (code, out) == (0, "2 dropped\n")
    assert naps == [0.0, 1.0]


def test_dropping_what_is_not_there_is_an_error(cli):  # noqa: F811
    code, _, _ = cli("dead", "drop", TASK, prepare=answers(drop_dead=0))
    assert code == 5


@pytest.mark.parametrize("command", ["retry", "drop"])
def test_either_ids_or_all_must_be_said(cli, command):  # noqa: F811
    assert cli("dead", command, prepare=with_dead)[0] == 2
    assert cli("dead", command, TASK, "--all", prepare=with_dead)[0] == 2


def test_a_retry_keeps_the_dead_one_until_the_new_one_is_accepted():
    class Client:
        def __init__(self):
            self.asked, self.connection = [], self

        def query(self, what, **arguments):
            self.asked.append(what)
            return {"dead_task": {"group": msgspec.msgpack.encode(GROUP)}}.get(what, FUNCTION)

        def submit_again(self, group, function):
            assert (group, function.data) == (GROUP, b"code")
            return done("new")

        def wait_acknowledged(self, _seconds):
            return False

    client = Client()
    with pytest.raises(FarmError, match="has not accepted"):
        retry_dead(client, TASK)
    assert client.asked == ["dead_task", "function"]
