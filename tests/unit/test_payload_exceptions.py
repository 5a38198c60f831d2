"""Exceptions as bytes and back: what they are, what they say, and where they came from."""

import gc
import subprocess
import sys
import threading
import traceback
import weakref

import pytest

from farm import errors, payload
from farm._payload_exceptions import DEPTH_MAX, RemoteTraceback


def travel(exc):
    return payload.load_exception(payload.dump_exception(exc)[0])


def raised(function, *args):
    try:
        function(*args)
    except BaseException as exc:  # noqa: BLE001 -- that is what is wanted
        return exc
    raise AssertionError("nothing was raised")


def remote_of(exc):
    while exc.__cause__ is not None:
        exc = exc.__cause__
    return exc


class Plain(Exception):
    pass


class Odd(Exception):
    def __init__(self, code, *, reason):
        super().__init__(f"code {code}")
        self.code = code
        self.reason = reason


class Doubling(Exception):
    def __init__(self, text):
        super().__init__(f"<{text}>")


class Reducing(Exception):
    def __init__(self, *, a):
        super().__init__(a)
        self.a = a

    def __reduce__(self):
        return _reducing, (self.a,)


def _reducing(a):
    return Reducing(a=a)


class Hostile(Exception):
    def __reduce__(self):
        raise RuntimeError("no")

    def __str__(self):
        raise RuntimeError("no")

    @property
    def __notes__(self):
        raise RuntimeError("no")


class OddGroup(ExceptionGroup):
    def __new__(cls, message, members, *, code):
        self = super().__new__(cls, message, members)
        self.code = code
        return self

    def __init__(self, message, members, *, code):
        super().__init__(message, members)


def fail():
    raise Plain("boom", 7)


def chained():
    try:
        fail()
    except Plain as exc:
        raise KeyError("k") from exc


def in_context():
    try:
        fail()
    except Plain:
        raise KeyError("k")  # noqa: B904


def suppressed():
    try:
        fail()
    except Plain:
        raise KeyError("k") from None


def test_type_args_notes_and_attributes_arrive():
    exc = raised(fail)
    exc.add_note("look here")
    exc.extra = [1]
    data, name, message, _ = payload.dump_exception(exc)
    assert name == f"{__name__}.Plain"
    assert message == "('boom', 7)"
    back = payload.load_exception(data)
    assert type(back) is Plain
    assert back.args == ("boom", 7)
    assert back.__notes__ == ["look here"]
    assert back.extra == [1]


def test_the_remote_traceback_is_the_last_cause():
    back = travel(raised(fail))
    assert isinstance(back.__cause__, RemoteTraceback)
    assert 'raise Plain("boom", 7)' in str(back.__cause__)
    shown = "".join(traceback.format_exception(back))
    assert "in fail" in shown
    assert "direct cause" in shown


def test_a_cause_is_kept_before_the_remote_traceback():
    back = travel(raised(chained))
    assert type(back) is KeyError
    assert type(back.__cause__) is Plain
    assert back.__context__ is back.__cause__
    assert back.__suppress_context__
    assert isinstance(back.__cause__.__cause__, RemoteTraceback)
    assert "in chained" in str(remote_of(back))


def test_a_context_is_kept():
    back = travel(raised(in_context))
    assert type(back.__context__) is Plain
    assert not back.__suppress_context__
    assert isinstance(back.__cause__, RemoteTraceback)
    back = travel(raised(suppressed))
    assert type(back.__context__) is Plain
    assert back.__suppress_context__


def test_an_endless_chain_is_cut():
    first, second = Plain(1), Plain(2)
    first.__cause__, second.__cause__ = second, first
    back = travel(first)
    depth = 0
    while back.__cause__ is not None:
        back = back.__cause__
        depth += 1
    assert depth == DEPTH_MAX + 1
    assert isinstance(back, RemoteTraceback)


def test_an_exception_that_travels_twice_keeps_both_tracebacks():
    def again():
        raise travel(raised(fail))

    back = travel(raised(again))
    assert isinstance(back.__cause__, RemoteTraceback)
    assert isinstance(back.__cause__.__cause__, RemoteTraceback)
    assert "in fail" in str(back.__cause__)
    assert "in again" in str(back.__cause__.__cause__)


@pytest.mark.parametrize(
    "exc",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        StopIteration(4),
        OSError(2, "gone", "file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ImportError("no", name="n", path="p"),
        errors.Busy("full", 2.5),
        errors.TaskError("a", "b", "c"),
        errors.WorkerLost("gone"),
        Odd(5, reason="why"),
        Doubling("a"),
        Reducing(a=4),
    ],
)
def test_exceptions_of_all_kinds_arrive_as_they_were(exc):
    back = travel(exc)
    assert type(back) is type(exc)
    assert str(back) == str(exc)
    assert back.args == exc.args
    assert vars(back) == vars(exc)
    for name in ("code", "errno", "filename", "value", "name", "path", "start"):
        assert getattr(back, name, None) == getattr(exc, name, None)


def test_a_local_exception_type_arrives_as_itself():
    class Local(ValueError):
        pass

    assert type(travel(Local("x"))) is Local


def test_a_group_arrives_with_each_member_as_it_was():
    lost = Plain(threading.Lock())
    odd = OddGroup("in", [Odd(1, reason=2)], code=9)
    group = ExceptionGroup("several", [raised(chained), lost, odd])
    group.add_note("note")
    back = travel(group)
    assert type(back) is ExceptionGroup
    assert back.message == "several"
    assert back.__notes__ == ["note"]
    first, second, third = back.exceptions
    assert type(first.__cause__) is Plain
    assert isinstance(second, errors.TaskError)
    assert type(third) is OddGroup
    assert third.code == 9
    assert type(third.exceptions[0]) is Odd
    assert isinstance(travel(BaseExceptionGroup("b", [SystemExit(1)])).exceptions[0], SystemExit)


def test_a_huge_group_is_cut_and_says_so():
    back = travel(ExceptionGroup("many", [Plain(i) for i in range(1_000)]))
    assert len(back.exceptions) < 300
    assert "more exceptions of this group did not travel" in back.__notes__[0]


def test_one_that_cannot_be_pickled_arrives_as_task_error_with_its_chain():
    def both():
        try:
            fail()
        except Plain as exc:
            error = Plain(threading.Lock())
            error.add_note("kept")
            raise error from exc

    back = travel(raised(both))
    assert type(back) is errors.TaskError
    assert back.type_name == f"{__name__}.Plain"
    assert "the task raised" in str(back)
    assert "unlocked" in str(back)
    assert "in both" in back.traceback
    assert back.__notes__ == ["kept"]
    assert type(back.__cause__) is Plain


def test_the_worst_exception_still_arrives():
    data, name, message, _ = payload.dump_exception(Hostile())
    assert name == f"{__name__}.Hostile"
    assert isinstance(payload.load_exception(data), errors.TaskError)
    assert "Hostile" in message


def test_many_large_exceptions_are_no_larger_than_a_payload_may_be():
    said = [ValueError(b"%d" % n * (7 << 20)) for n in range(10)]
    data = payload.dump_exception(ExceptionGroup("many", said))[0]
    assert len(data) <= payload.PAYLOAD_BYTES_MAX
    group = payload.load_exception(data)
    assert [type(one) for one in group.exceptions] == [ValueError] * 4 + [errors.TaskError] * 6
    assert [one.args for one in group.exceptions[:4]] == [one.args for one in said[:4]]


def test_a_huge_message_is_shortened():
    data, _, message, _ = payload.dump_exception(Plain("x" * (9 << 20)))
    assert len(message) < 3_000
    assert len(data) < 1 << 17
    assert isinstance(payload.load_exception(data), errors.TaskError)


def test_text_that_is_no_unicode_arrives():
    assert "udc80" in str(remote_of(travel(Plain("\udc80"))))


def test_a_type_that_does_not_exist_here_arrives_as_task_error(tmp_path):
    (tmp_path / "only_there.py").write_text("class Gone(ValueError):\n    pass\n")
    code = (
        "from farm import payload; import only_there\n"
        "print(payload.dump_exception(only_there.Gone('why'))[0].hex())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    back = payload.load_exception(bytes.fromhex(done.stdout))
    assert type(back) is errors.TaskError
    assert back.type_name == "only_there.Gone"
    assert "why" in str(back)
    assert "No module named 'only_there'" in str(back)


@pytest.mark.parametrize("garbage", [b"", b"garbage", payload.dump_value((1, 2))])
def test_garbage_is_a_task_error(garbage):
    assert type(payload.load_exception(garbage)) is errors.TaskError


def test_nothing_is_kept_alive():
    class Thing:
        pass

    thing = Thing()
    gone = weakref.ref(thing)

    def f(held):
        raise Plain("x")

    exc = raised(f, thing)
    back = travel(exc)
    del exc, thing
    gc.collect()
    assert gone() is None
    assert back.__traceback__ is None
