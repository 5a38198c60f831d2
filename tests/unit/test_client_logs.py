"""Reading and following what tasks print, on the client's side."""

import pytest

from farm.client import logs
from farm.client.logs import AttemptLogs, Tail, fetch_logs
from farm.errors import FarmError, UnknownTask


def row(attempt, output, *, start=0, over=True):
    return {
        "attempt": attempt,
        "host": "h",
        "cause": "",
        "output": output,
        "start": start,
        "over": over,
        "why": "",
    }


def told(tail, *rows):
    return [data for _, data in tail.take({"attempts": rows})]


def refuse(*_):
    raise FarmError("gone")


def test_the_farm_is_asked_and_else_what_is_known_here_is_told():
    rows = {"attempts": [row(1, b"a\xff"), row(2, b"b", over=False)]}
    found = fetch_logs(lambda *_: rows, "1-1", None)
    assert [str(one) for one in found] == ["a\\xff", "b"]
    assert [one.over for one in found] == [True, False]
    assert fetch_logs(refuse, "1-1", b"mine") == [AttemptLogs(0, "", "mine")]
    assert fetch_logs(refuse, "1-1", b"") == []
    with pytest.raises(UnknownTask, match="gone"):
        fetch_logs(refuse, "1-1", None)


def test_a_tail_tells_what_is_new_and_nothing_twice():
    tail = Tail()
    assert told(tail, row(1, b"one", over=False)) == [b"one"]
    assert (tail.attempt, tail.since) == (1, 3)
    assert told(tail, row(1, b"two", start=3, over=False)) == [b"two"]
    assert told(tail, row(1, b"", start=6, over=False)) == []
    assert told(tail, row(1, b"onetwothree"), row(2, b"x", over=False)) == [b"three", b"x"]
    assert (tail.attempt, tail.since) == (2, 1)
    assert told(tail, row(1, b"onetwothree"), row(2, b"xyz")) == [b"yz"]


def test_a_tail_begins_again_where_the_output_does():
    tail = Tail()
    told(tail, row(1, b"abc", over=False))
    assert told(tail, row(1, b"", start=1, over=False)) == []  # an item before it took the rest
    assert tail.since == 0
    assert told(tail, row(1, b"d", over=False)) == [b"d"]


class Holder:
    _output = b""


def test_futures_keep_the_youngest_output(monkeypatch):
    monkeypatch.setattr(logs, "KEPT_BYTES", 1_000)
    kept, futures = logs.KeptOutput(), [Holder() for _ in range(6)]
    kept.keep([futures[0], None, futures[1]], b"x" * 100)
    assert [one._output for one in futures[:3]] == [b"x" * 100, b"x" * 100, b""]
    for future in futures[2:]:
        kept.keep([future], b"y" * 50)
    assert [one._output for one in futures[:2]] == [None, None]
    assert {one._output for one in futures[3:]} == {b"y" * 50}
    kept.keep([], b"nobody waits for it")


def test_output_that_was_forgotten_everywhere_is_unknown():
    with pytest.raises(UnknownTask):
        fetch_logs(refuse, "1-1", None)
