"""Farm futures are the standard library's futures, to everybody who uses them."""

import concurrent.futures as cf
import contextlib
import gc
import os
import pickle
import subprocess
import sys
import threading
import weakref
from concurrent.futures import (
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    ThreadPoolExecutor,
    as_completed,
    wait,
)

import pytest

from farm import payload
from farm.client import future as future_module
from farm.client.callbacks import CallbackThread
from farm.client.future import Future, Origin, Progress, fail, mark_running, set_progress, settle
from farm.client.settling import Watch
from farm.errors import (
    Delivered,
    Expired,
    FarmError,
    MemoryLimitExceeded,
    PayloadError,
    TaskError,
    TimeLimitExceeded,
    UnknownTask,
    WorkerLost,
)
from farm.model import Ending, TaskId
from farm.protocol.parts import Failure, Result

SESSION = b"s" * 16
SOON = 30.0  # seconds: a bound that is met only when something hangs


class Unloadable:
    def __setstate__(self, state):
        raise ZeroDivisionError("while unpickling")

    def __getstate__(self):
        return {"a": 1}


class Counted:
    loads = 0

    def __reduce__(self):
        return Counted.load, ()

    @classmethod
    def load(cls):
        cls.loads += 1
        return cls()


@pytest.fixture
def origin():
    made = Origin(SESSION, lambda future, wait: False, CallbackThread(), None)
    yield made
    assert made.callbacks.close(SOON)


@pytest.fixture
def future(origin):
    return Future(origin, 1)


def run(futures, ending, payloads, **fields):
    return list(futures), Result(SESSION, 1, len(futures), ending, payloads, **fields)


def returns(*futures, values=None):
    values = [f"value {i}" for i in range(len(futures))] if values is None else values
    settle([run(futures, Ending.OK, [payload.dump_value(value) for value in values])])


def raises(future, exc):
    settle([run([future], Ending.EXCEPTION, [payload.dump_exception(exc)[0]])])


def ends(future, ending, failure=None):
    settle([run([future], ending, [], failure=failure)])


def later(function, *args):
    """Call a function when this thread has begun to wait, or a moment before."""
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


# ---------------------------------------------------------------- life


def test_a_future_lives_pending_running_finished(future):
    assert isinstance(future, cf.Future)
    assert (future.done(), future.running(), future.cancelled()) == (False, False, False)
    assert "pending" in repr(future)
    mark_running([None, future])
    assert (future.done(), future.running(), future.cancelled()) == (False, True, False)
    assert "running" in repr(future)
    returns(None, future)
    assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
    mark_running([future])
    assert not future.running()
    assert future.exception() is None
    assert future.result() == "value 1"
    assert "returned str" in repr(future)


def test_it_knows_its_id_and_progress(future):
    assert future.id == str(TaskId(SESSION, 1))
    assert future.progress is None
    set_progress(future, 3, 4, "almost")
    assert future.progress == Progress(done=3, total=4, note="almost")
    assert future.id in repr(future)


def test_an_exception_is_raised_with_its_remote_traceback(future):
    raises(future, KeyError("k"))
    assert type(future.exception()) is KeyError
    with pytest.raises(KeyError) as caught:
        future.result()
    assert caught.value is future.exception()
    assert "KeyError" in str(caught.value.__cause__)
    assert "raised KeyError" in repr(future)


def test_result_waits_no_longer_than_asked(future):
    for timeout in (0, -1, 0.01):
        with pytest.raises(TimeoutError):
            future.result(timeout)
        with pytest.raises(TimeoutError):
            future.exception(timeout=timeout)
    assert future._watch.sleepers == []


def test_result_waits_for_the_outcome(origin):
    futures = [Future(origin, i) for i in range(3)]
    results = []
    threads = [later(lambda f=f: results.append(f.result(SOON))) for f in futures for _ in "abc"]
    returns(*futures)
    for thread in threads:
        thread.join(SOON)
    assert sorted(results) == sorted(["value 0", "value 1", "value 2"] * 3)


def test_the_first_outcome_counts(future):
    returns(future, values=["first"])
    returns(future, values=["second"])
    ends(future, Ending.LOST)
    fail([future], FarmError)
    assert future.result() == "first"


def test_the_standard_setters_work(origin):
    future = Future(origin, 1)
    assert future.set_running_or_notify_cancel()
    with pytest.raises(RuntimeError):
        future.set_running_or_notify_cancel()
    future.set_result(4)
    assert future.result() == 4
    for again in (future.set_result, future.set_exception):
        with pytest.raises(cf.InvalidStateError):
            again(None)
    other = Future(origin, 2)
    error = ValueError("x")
    other.set_exception(error)
    assert other.exception() is error


def test_a_future_cannot_be_pickled_and_says_what_to_do(future):
    with pytest.raises(TypeError, match=r"client\.future\(id\)"):
        pickle.dumps(future)
    with pytest.raises(PayloadError, match=r"argument 1: cannot pickle .*client\.future\(id\)"):
        payload.dump_call((future,), {})


def test_its_type_can_be_subscripted():
    assert Future[int].__origin__ is Future


# ---------------------------------------------------------------- opening


def test_a_result_is_unpickled_once_by_whoever_asks_first(future):
    Counted.loads = 0
    returns(future, values=[Counted()])
    assert Counted.loads == 0
    gate = threading.Barrier(8)
    results = []

    def ask():
        gate.wait(SOON)
        results.append(future.result(SOON))

    threads = [later(ask) for _ in range(8)]
    for thread in threads:
        thread.join(SOON)
    assert len(set(map(id, results))) == 1
    assert Counted.loads == 1


def test_others_wait_while_a_result_is_being_unpickled(future, monkeypatch):
    opening, go_on = threading.Event(), threading.Event()

    def load(cls):
        opening.set()
        assert go_on.wait(SOON)
        return "slow"

    monkeypatch.setattr(Counted, "load", classmethod(load))
    returns(future, values=[Counted()])
    results = []
    threads = [later(lambda: results.append(future.result(SOON)))]
    assert opening.wait(SOON)
    threads += [later(lambda: results.append(future.result(SOON))) for _ in range(3)]
    go_on.set()
    for thread in threads:
        thread.join(SOON)
    assert results == ["slow"] * 4


def test_asking_for_a_result_while_unpickling_it_is_an_error(future, monkeypatch):
    def load(cls):
        return future.result()

    monkeypatch.setattr(Counted, "load", classmethod(load))
    returns(future, values=[Counted()])
    with pytest.raises(PayloadError, match="while unpickling it"):
        future.result(SOON)


def test_an_interrupt_while_unpickling_leaves_the_result_to_the_next(future, monkeypatch):
    def interrupted(cls):
        raise KeyboardInterrupt

    returns(future, values=[Counted()])
    with monkeypatch.context() as patch:
        patch.setattr(Counted, "load", classmethod(interrupted))
        with pytest.raises(KeyboardInterrupt):
            future.result()
    assert isinstance(future.result(), Counted)


def test_who_waits_for_another_that_is_interrupted_opens_the_result_itself(future, monkeypatch):
    opening, waiting = threading.Event(), threading.Event()

    def load(cls):
        if opening.is_set():
            return "opened"
        opening.set()
        assert waiting.wait(SOON)
        raise KeyboardInterrupt

    def interrupted():
        with pytest.raises(KeyboardInterrupt):
            future.result(SOON)

    def sleep(watch, *arguments):
        waiting.set()
        return plain(watch, *arguments)

    plain = Watch.sleep
    monkeypatch.setattr(Counted, "load", classmethod(load))
    monkeypatch.setattr(Watch, "sleep", sleep)
    returns(future, values=[Counted()])
    results = []
    threads = [later(interrupted)]
    assert opening.wait(SOON)
    threads.append(later(lambda: results.append(future.result(SOON))))
    for thread in threads:
        thread.join(SOON)
    assert results == ["opened"]


def test_a_result_that_cannot_be_unpickled_is_the_futures_exception(future):
    returns(future, values=[Unloadable()])
    error = future.exception()
    assert type(error) is PayloadError
    assert "while unpickling" in str(error)
    assert future.id in error.__notes__[-1]
    with pytest.raises(PayloadError):
        future.result()


@pytest.mark.parametrize("values", [[1, "a", None], [[1], {"a": 1}, Counted()]])
def test_packed_values_reach_their_futures(origin, values):
    futures = [Future(origin, i) for i in range(3)]
    packed = payload.dump_values(values)
    settle([run([futures[0], None, futures[2]], Ending.OK, [packed], packed=True)])
    assert type(futures[2].result()) is type(values[2])
    assert futures[0].result() == values[0]
    assert not futures[1].done()


def test_a_packed_value_that_cannot_be_unpickled_fails_alone(origin):
    futures = [Future(origin, i) for i in range(3)]
    packed = payload.dump_values([[1], Unloadable(), [2]])
    settle([run(futures, Ending.OK, [packed], packed=True)])
    assert type(futures[1].exception()) is PayloadError
    assert [futures[0].result(), futures[2].result()] == [[1], [2]]


def test_the_bytes_of_a_packed_result_go_when_all_is_read(origin):
    futures = [Future(origin, i) for i in range(2)]
    settle([run(futures, Ending.OK, [payload.dump_values([[1], [2]])], packed=True)])
    values = futures[0]._outcome[0]
    assert futures[0].result() == [1]
    assert values._values[0] is None
    assert futures[1].result() == [2]
    assert values._values == []
    assert values._data == b""


class Interrupted:
    """A lock; Ctrl-C comes when it is let go of for the ``nth`` time, as it may with any."""

    def __init__(self, lock, nth):
        self.lock, self.left = lock, nth

    def __enter__(self):
        return self.lock.__enter__()

    def __exit__(self, *args):
        self.lock.__exit__(*args)
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("of_all", [True, False])
def test_an_interrupt_while_a_packed_value_is_taken_loses_nothing(origin, monkeypatch, nth, of_all):
    futures = [Future(origin, 1), Future(origin, 2)]
    data = payload.dump_values([5, 6])
    settle([run(futures, Ending.OK, [data], packed=True)])
    place, name = (future_module, "LOCK") if of_all else (futures[0]._outcome[0], "_lock")
    lock = Interrupted(getattr(place, name), nth)
    with monkeypatch.context() as patch:
        patch.setattr(place, name, lock)
        with contextlib.suppress(KeyboardInterrupt):
            futures[0].result(SOON)
    assert [future.result(SOON) for future in futures] == [5, 6]


def test_a_result_of_the_wrong_length_fails_its_futures(origin):
    futures = [Future(origin, i) for i in range(6)]
    settle([run(futures[:2], Ending.OK, [payload.dump_values([1, 2, 3])], packed=True)])
    settle([run(futures[2:4], Ending.OK, [b"", b"", b""])])
    settle([run(futures[4:], Ending.EXCEPTION, [])])
    assert [type(future.exception()) for future in futures[:4]] == [PayloadError] * 4
    assert [type(future.exception()) for future in futures[4:]] == [TaskError] * 2


# ---------------------------------------------------------------- endings


@pytest.mark.parametrize(
    ("ending", "kind", "words"),
    [
        (Ending.LOST, WorkerLost, "the worker process died"),
        (Ending.TIME_LIMIT, TimeLimitExceeded, "raise time_limit"),
        (Ending.MEMORY_LIMIT, MemoryLimitExceeded, "more memory than its limit"),
        (Ending.EXPIRED, Expired, "when it expired"),
        (Ending.UNKNOWN, UnknownTask, "knows no such task"),
        (Ending.DELIVERED, Delivered, "result_ttl"),
        (Ending.BROKEN, cf.BrokenExecutor, "no worker could be started"),
        (Ending.EXCEPTION, TaskError, "raised an exception"),
    ],
)
def test_each_ending_is_an_exception_that_says_what_happened_to_what(future, ending, kind, words):
    ends(future, ending)
    with pytest.raises(kind, match=words) as caught:
        future.result()
    assert future.id in str(caught.value)


def test_the_evidence_is_told(future):
    text = "its worker on host h was killed by SIGSEGV while running f"
    ends(future, Ending.LOST, Failure("signal", text, "h", -11, losses=3))
    assert f"{text}, 3 times; it is not run again" in str(future.exception())


def test_failing_futures_makes_an_error_for_each(origin):
    futures = [Future(origin, i) for i in range(2)]
    fail(futures, lambda task: FarmError(f"no {task}"))
    assert [str(future.exception()) for future in futures] == [f"no {f.id}" for f in futures]


# ---------------------------------------------------------------- cancelling


def test_cancel_asks_the_farm():
    asked = []
    answers = iter([False, True])

    def cancel(future, wait):
        asked.append((future, wait))
        return next(answers)

    future = Future(Origin(SESSION, cancel, CallbackThread(), None), 1)
    mark_running([future])  # a hint: it may be waiting again, so only the farm knows
    assert not future.cancel()
    assert not future.cancelled()
    assert future.cancel()
    assert asked == [(future, True)] * 2
    assert future.cancel()
    assert len(asked) == 2
    assert future.cancelled()
    assert future.done()
    assert not future.set_running_or_notify_cancel()
    assert "cancelled" in repr(future)
    for ask in (future.result, future.exception):
        with pytest.raises(cf.CancelledError):
            ask()
    returns(future)
    assert future.cancelled()


def test_a_finished_future_cannot_be_cancelled(future):
    returns(future)
    assert not future.cancel()
    assert not future.cancelled()


def test_a_task_cancelled_by_somebody_else_is_cancelled(future):
    thread = later(ends, future, Ending.CANCELLED)
    with pytest.raises(cf.CancelledError):
        future.result(SOON)
    thread.join(SOON)
    assert future.cancelled()
    assert wait([future], SOON).done == {future}
    assert list(as_completed([future], SOON)) == [future]


def test_an_outcome_that_overtakes_the_answer_counts(origin):
    def cancel(future, wait):
        returns(future)
        return False

    future = Future(Origin(SESSION, cancel, CallbackThread(), None), 1)
    assert not future.cancel()
    assert future.result() == "value 0"


# ---------------------------------------------------------------- callbacks


def test_callbacks_run_in_order_on_one_other_thread(origin):
    futures = [Future(origin, i) for i in range(3)]
    calls, ran = [], threading.Event()

    def call(name):
        return lambda future: calls.append((name, future, threading.current_thread()))

    for future in futures:
        future.add_done_callback(call("a"))
        future.add_done_callback(call("b"))
    futures[2].add_done_callback(lambda _: ran.set())
    returns(*futures)
    assert ran.wait(SOON)
    assert [call[:2] for call in calls] == [(n, f) for f in futures for n in "ab"]
    assert {thread.name for _, _, thread in calls} == {"farm-callbacks"}


def test_a_callback_added_when_it_is_over_runs_at_once_here(future, caplog):
    calls = []
    returns(future)
    future.add_done_callback(lambda f: calls.append((f, threading.current_thread())))
    assert calls == [(future, threading.current_thread())]
    future.add_done_callback(lambda _: 1 / 0)
    assert "exception calling callback for" in caplog.text
    assert caplog.records[0].name == "concurrent.futures"


def test_a_task_that_was_stopped_is_not_said_never_to_have_run(future):
    ends(future, Ending.CANCELLED, Failure("stopped", "it was cancelled after it may have begun"))
    assert (future.done(), future.cancelled(), future.cancel()) == (True, False, False)
    with pytest.raises(CancelledError, match="may have begun"):
        future.result()


@pytest.mark.parametrize("exc", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_a_callback_that_raises_is_logged_and_the_next_one_runs(origin, future, caplog, exc):
    calls = []

    def bad(_):
        raise exc

    future.add_done_callback(bad)
    future.add_done_callback(calls.append)
    ends(future, Ending.CANCELLED)
    assert origin.callbacks.close(SOON)
    assert calls == [future]
    assert "exception calling callback for" in caplog.text


def test_a_callback_may_block_while_outcomes_go_on_arriving(origin):
    first, second = Future(origin, 1), Future(origin, 2)
    seen = []
    first.add_done_callback(lambda _: seen.append(second.result(SOON)))
    returns(first)
    returns(second, values=["later"])
    assert origin.callbacks.close(SOON)
    assert seen == ["later"]


def test_the_callback_thread_ends_and_begins_again(origin):
    for number in range(3):
        future = Future(origin, number)
        calls = []
        future.add_done_callback(calls.append)
        returns(future)
        assert origin.callbacks.close(SOON)
        assert calls == [future]
        assert origin.callbacks._thread is None


def test_a_callback_may_close_the_thread_that_runs_it(origin, future):
    closed = []
    future.add_done_callback(lambda _: closed.append(origin.callbacks.close()))
    returns(future)
    assert origin.callbacks.close(SOON)
    assert closed == [False]


# ---------------------------------------------------------------- wait and as_completed


def test_wait_and_as_completed_take_futures_of_all_executors(origin):
    futures = [Future(origin, i) for i in range(20)]
    go_on = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(go_on.wait, SOON) for _ in range(2)]
        mixed = [*futures[:10], *others, *futures[10:]]
        iterator = as_completed(mixed, SOON)
        returns(futures[3])
        assert next(iterator) is futures[3]
        go_on.set()
        thread = later(returns, *futures)
        assert set(iterator) == set(mixed) - {futures[3]}
        thread.join(SOON)
        assert wait(mixed, SOON) == (set(mixed), set())


def test_wait_for_the_first(origin):
    first, second = Future(origin, 1), Future(origin, 2)
    thread = later(returns, first)
    assert wait([first, second], SOON, FIRST_COMPLETED) == ({first}, {second})
    thread.join(SOON)
    assert wait([first, second], SOON, FIRST_COMPLETED) == ({first}, {second})
    assert wait([first, second], 0.01) == ({first}, {second})
    assert second._watch.waiters == []


def test_wait_for_the_first_exception(origin):
    futures = [Future(origin, i) for i in range(4)]
    returns(futures[0])

    def go_on():
        returns(futures[1])
        raises(futures[2], ValueError())

    thread = later(go_on)
    done, not_done = wait(futures, SOON, FIRST_EXCEPTION)
    thread.join(SOON)
    assert (done, not_done) == (set(futures[:3]), {futures[3]})
    assert wait(futures, SOON, FIRST_EXCEPTION).not_done == {futures[3]}


def test_as_completed_gives_up_in_time_and_leaves_nothing_behind(origin):
    done, pending = Future(origin, 1), Future(origin, 2)
    returns(done)
    found = []
    with pytest.raises(TimeoutError, match=r"1 \(of 2\) futures unfinished"):
        found.extend(as_completed([done, pending, done], 0.01))
    assert found == [done]
    assert pending._watch.waiters == []
    assert pending._watch.holds == 0


def test_as_completed_keeps_no_reference_to_what_it_yielded(origin):
    futures = [Future(origin, i) for i in range(3)]
    returns(*futures)
    for future in as_completed([futures.pop() for _ in range(3)]):
        gone = weakref.ref(future)
        del future
        gc.collect()
        assert gone() is None


def test_an_outcome_that_arrives_while_a_future_is_held_takes_effect_later(origin):
    future, calls = Future(origin, 1), []
    future.add_done_callback(calls.append)
    with future._condition, future._condition:
        returns(future)
        ends(future, Ending.CANCELLED)
        assert not future.done()
    assert future.result() == "value 0"
    assert origin.callbacks.close(SOON)
    assert calls == [future]


@pytest.mark.parametrize("count", [1, 10, 100, 300])
def test_many_threads_race_and_all_agree(origin, count):
    futures = [Future(origin, i) for i in range(count)]
    called, results = [], []
    gate = threading.Barrier(6)

    def read():
        gate.wait(SOON)
        results.append([future.result(SOON) for future in futures])

    def collect():
        gate.wait(SOON)
        assert wait(futures, SOON).not_done == set()
        results.append(sorted(f.result() for f in as_completed(futures, SOON)))

    def call():
        gate.wait(SOON)
        for future in futures:
            future.add_done_callback(called.append)

    def outcomes():
        gate.wait(SOON)
        for i in range(0, count, 10):
            some = futures[i : i + 10]
            returns(*some, values=range(i, i + len(some)))

    threads = [later(work) for work in (read, read, collect, collect, call, outcomes)]
    for thread in threads:
        thread.join(SOON)
    assert origin.callbacks.close(SOON)
    assert results == [list(range(count))] * 4
    assert sorted(map(id, called)) == sorted(map(id, futures))


# ---------------------------------------------------------------- what is kept, and where


def test_nothing_is_kept_of_a_future_that_was_dropped(origin):
    future = Future(origin, 1)
    future.add_done_callback(lambda _: None)
    returns(future, values=[[1]])
    assert origin.callbacks.close(SOON)
    assert future._watch is None
    gone = weakref.ref(future)
    del future
    gc.collect()
    assert gone() is None


FORKING = """
import os
from concurrent.futures import wait
from farm.client.callbacks import CallbackThread
from farm.client.future import Future, Origin

origin = Origin(b"s" * 16, lambda future, wait: False, CallbackThread(), None)
pending, done = Future(origin, 1), Future(origin, 2)
done.set_result("fine")
child = os.fork()
if child == 0:
    for ask in (pending.result, lambda: wait([pending]), lambda: print(done.result(), flush=True)):
        try:
            ask()
        except RuntimeError as error:
            print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def test_in_a_forked_child_a_pending_future_says_what_is_wrong():
    done = subprocess.run(
        [sys.executable, "-c", FORKING],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    first, second, third = done.stdout.splitlines()
    assert first == second
    assert "make a client of your own after the fork" in first
    assert third == "fine"
