"""Clients against a farm in a thread: everything that needs a coordinator but no processes."""

import asyncio
import concurrent.futures
import functools
import gc
import itertools
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import weakref

import pytest

import farm
from farm.client import backlog, cancelling, watch
from farm.errors import ConfigError
from farm.model import Token
from farm.payload import dump_call, dump_function
from farm.protocol.messages import Function, Group, Rejected
from farm.task import TaskContext, set_source
from tests.integration.fake_farm import FakeFarm


@pytest.fixture
def folder():
    path = tempfile.mkdtemp(prefix="f-", dir="/tmp")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def fake(folder):
    fake = FakeFarm(folder).start()
    yield fake
    fake.stop()


@pytest.fixture
def client(fake):
    client = farm.Client(fake.address)
    yield client
    fake.release()
    client.shutdown(cancel_futures=True)


def double(x):
    return 2 * x


def fail(x):
    raise ValueError(x)


def fail_at_seven(x):
    return double(x) if x != 7 else fail(x)


class Unpicklable:
    def __reduce__(self):
        raise TypeError("no")


# ---------------------------------------------------------------- submit


def test_submit_and_result(client):
    assert client.submit(double, 4).result(10) == 8
    assert client.submit(lambda *, y: y + 1, y=1).result(10) == 2


def test_many_submits_from_many_threads(client):
    def some(start):
        return [client.submit(double, start + i) for i in range(500)]

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        futures = [f for fs in threads.map(some, range(0, 2000, 500)) for f in fs]
    assert [f.result(10) for f in futures] == [2 * i for i in range(2000)]
    assert len({f.id for f in futures}) == 2000


def test_exceptions_arrive(client):
    with pytest.raises(ValueError, match="3"):
        client.submit(fail, 3).result(10)


def test_what_cannot_travel_fails_its_own_future_only(client):
    bad, worse = client.submit(double, Unpicklable()), client.submit(Unpicklable().__reduce__)
    good = client.submit(double, 1)
    assert isinstance(bad.exception(10), farm.PayloadError)
    assert isinstance(worse.exception(10), farm.PayloadError)
    assert bad.done()
    assert good.result(10) == 2
    assert len({bad.id, worse.id, good.id}) == 3


def test_futures_work_with_the_standard_library(client):
    futures = [client.submit(double, i) for i in range(20)]
    done, rest = concurrent.futures.wait(futures, 10)
    assert not rest
    assert {f.result() for f in done} == {2 * i for i in range(20)}
    assert set(concurrent.futures.as_completed(futures, 10)) == set(futures)


def test_run_in_executor_and_await(client):
    async def main():
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(client, double, 2) + await client.submit(double, 3)

    assert asyncio.run(main()) == 10


def test_callbacks_may_submit_and_block(client):
    results, done = [], threading.Event()

    def again(future):
        results.append(client.submit(double, future.result()).result(10))
        done.set()

    client.submit(double, 1).add_done_callback(again)
    assert done.wait(10)
    assert results == [4]


def test_nothing_finished_is_kept(client):
    argument = Thing()
    gone = weakref.ref(argument)
    future = client.submit(type, argument)
    assert future.result(10) is Thing
    del argument
    gc.collect()
    assert gone() is None
    assert not client.connection._waiting._futures


# ---------------------------------------------------------------- cancel


def test_cancel_asks_the_farm(fake, client):
    fake.held = True
    future = client.submit(double, 1)
    assert future.cancel()
    assert future.cancelled()
    assert len(fake.cancelled) == 1
    done = client.submit(double, 2)
    fake.release()
    assert done.result(10) == 4
    assert not done.cancel()


def test_a_finalizer_on_the_io_thread_cancels_without_waiting(fake, client, monkeypatch):
    monkeypatch.setattr(cancelling, "CANCEL_SECONDS", 3600)
    fake.held = True
    future, job = client.submit(double, 4), client.submit_many(double, [5])
    client.connection._after(lambda _: future.cancel())
    client.connection._after(lambda _: job.cancel())
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(10)
    with pytest.raises(concurrent.futures.CancelledError):
        next(iter(job)).result(10)


def test_shutdown_cancels_what_has_not_begun(fake):
    fake.held = True
    client = farm.Client(fake.address)
    futures = [client.submit(double, i) for i in range(1000)]
    client.shutdown(cancel_futures=True)
    assert all(f.cancelled() for f in futures)


# ---------------------------------------------------------------- options, jobs


def test_options_travel_and_views_share_the_connection(fake, client):
    view = client.options(priority=3, time_limit="2s").options(retries=1)
    assert view.submit(double, 1).result(10) == 2
    template = fake.groups[-1].template
    assert (template.priority, template.time_limit, template.retries) == (3, 2.0, 1)
    assert client.options(priority=0).submit(double, 1).result(10) == 2
    assert fake.groups[-1].template.explicit == ("priority",)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"prioritty": 1}, TypeError),
        ({"priority": "high"}, ConfigError),
        ({"retries": -1}, ValueError),
        ({"time_limit": "soon"}, ValueError),
        ({"durable": 1}, ValueError),
        ({"name": " "}, ValueError),
    ],
)
def test_wrong_options_are_refused(client, options, error):
    with pytest.raises(error, match=next(iter(options))):
        client.options(**options)


def test_named_submits_join_one_job_that_shutdown_seals(fake):
    with farm.Client(fake.address) as client:
        for i in range(3):
            client.options(name="sums").submit(double, i)
        client.options(name="others").submit(double, 1)
    assert fake.jobs == {1: "sums", 2: "others"}
    assert fake.sealed == {1: 3, 2: 1}


def test_shutdown_is_not_over_before_the_farm_knows_which_jobs_are_complete(fake):
    client = farm.Client(fake.address)
    assert client.options(name="sums").submit(double, 1).result(10) == 2
    fake.stop()
    client.shutdown(wait=False)
    assert not client._connection.join(0.2)
    fake.start()
    client.shutdown()
    assert fake.sealed == {1: 1}


def test_a_seal_without_an_answer_is_said_in_the_log(fake, monkeypatch, caplog):
    monkeypatch.setattr("farm.client.loop.SEAL_SECONDS", 0.1)
    fake.heeds_seals = False
    with farm.Client(fake.address) as client:
        client.options(name="sums").submit(double, 1)
    assert "complete" in caplog.text
    assert "sums" in caplog.text


def test_submit_many_is_a_job(fake, client):
    job = client.options(name="many").submit_many(double, iter(range(100)))
    assert len(job) == 100
    assert [f.result(10) for f in job] == [2 * i for i in range(100)]
    assert job.progress == (100, 100, 0, 0)
    assert (job.name, job.state) == ("many", "sealed")
    assert job.cancel() == 0
    fake.wait(lambda fake: fake.sealed == {1: 100})


def test_submit_many_cancels_what_it_submitted_if_the_iterable_raises(fake, client):
    fake.held = True

    def items():
        yield 1
        yield 2
        raise KeyError

    with pytest.raises(KeyError):
        client.submit_many(double, items())
    fake.wait(lambda fake: len(fake.cancelled) == 2)


def test_job_cancel(fake, client):
    fake.held = True
    job = client.submit_many(double, range(50))
    assert job.cancel() == 50
    assert job.progress.cancelled == 50


def test_attach_to_a_task_and_a_job_from_another_client(fake, client):
    job = client.options(name="mine").submit_many(double, range(5))
    first = next(iter(job))
    assert first.result(10) == 0
    with farm.Client(fake.address) as other:
        assert other.future(first.id).result(10) == 0
        found = other.job("mine")
        assert [f.result(10) for f in found] == [0, 2, 4, 6, 8]
        assert found.id == job.id
        with pytest.raises(farm.UnknownTask, match="nothing"):
            other.job("nothing")
        with pytest.raises(farm.UnknownTask):
            other.future("0" * 32 + "-7").result(10)
        with pytest.raises(ValueError, match="task id"):
            other.future("seven")


def test_a_future_of_ones_own_is_the_same(fake, client):
    fake.held = True
    future = client.submit(double, 1)
    assert client.future(future.id) is future


def test_a_task_that_is_asked_for_after_the_end_is_not_waited_for(fake):
    client = farm.Client(fake.address)
    task = client.submit(double, 1).id
    client.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        client.future(task).result(10)
    broken = farm.Client(fake.address)
    broken.connection.give_up(farm.FarmError("given up"))
    assert broken.connection.join(10)
    with pytest.raises(farm.FarmError, match="given up"):
        broken.future(task).result(10)


def test_query(client):
    assert client.query("status") == {"hosts": 1, "slots": 2}
    with pytest.raises(farm.FarmError, match="what"):
        client.query("weather")


# ---------------------------------------------------------------- map


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda client: client.query("status", about=object()), "about"),
        (lambda client: client.query("status", number=1 << 70), "number"),
        (lambda client: client.query("status", large="x" * (65 << 20)), "too large"),
        (lambda client: client.query(b"status"), "status"),
        (lambda client: client.job(7), "7"),
        (lambda client: client.job(b"name"), "name"),
    ],
)
def test_a_question_that_cannot_travel_harms_nobody_else(client, ask, said):
    with pytest.raises((TypeError, ConfigError), match=said):
        ask(client)
    assert client.submit(double, 1).result(10) == 2


def test_a_job_may_be_asked_for_by_a_text_of_another_class(client):
    class Text(str):
        __slots__ = ()

    job = client.options(name="a").submit_many(double, [1, 2])
    assert [future.result(10) for future in client.job(Text("a"))] == [2, 4]
    assert client.job(Text(job.name)).name == "a"


def test_a_call_that_runs_again_leaves_before_the_tasks_that_were_submitted_after_it(client, fake):
    connection, free = client.connection, threading.Event()
    connection.submit_again(*_call(abs, -1)).result(10)
    connection._backlog.before(lambda _now: free.wait(10))  # the thread is at something else
    again = connection.submit_again(*_call(abs, -2))
    after = client.submit(abs, -3)
    free.set()
    assert (again.result(10), after.result(10)) == (2, 3)
    firsts = [group.first for group in fake.groups]
    assert firsts == sorted(firsts), "the farm thinks that it knows what is below a later floor"


def test_nothing_runs_again_after_the_end(fake):
    with farm.Client(fake.address) as client:
        pass
    with pytest.raises(RuntimeError, match="after shutdown"):
        client.connection.submit_again(*_call(abs, -1))


def _call(fn, *args):
    """A call as the farm keeps it when its task is dead."""
    function, payload = dump_function(fn), dump_call(args, {}, None)
    group = Group(1, 1, function.hash, [payload], len(payload), job=7)
    return group, Function(function.hash, function.name, function.data)


def test_map_gives_results_in_order(client):
    assert list(client.map(double, range(10_000))) == [2 * i for i in range(10_000)]
    assert list(client.map(pow, [2, 3, 4], [1, 2])) == [2, 9]
    assert list(client.map(double, [])) == []
    assert list(client.map(double)) == []


def test_map_packs_more_items_into_later_tasks(fake, client):
    list(client.map(double, range(5000)))
    sizes = [group.count for group in fake.groups]
    assert sizes[0] == 1
    assert max(sizes) >= 8


def test_map_over_what_is_no_iterable_leaves_nothing_behind(fake):
    client = farm.Client(fake.address)
    for iterables in ([5], [[1], 5]):
        with pytest.raises(TypeError):
            client.map(double, *iterables)
    client.shutdown()
    assert client.connection.has_ended


def test_map_with_a_chunksize(fake, client):
    assert sorted(client.map(double, range(10), chunksize=4, ordered=False)) == [
        2 * i for i in range(10)
    ]
    assert [group.count for group in fake.groups] == [4, 4, 2]


def test_map_raises_in_the_items_place_and_cancels_the_rest(fake, client):
    results = client.map(fail_at_seven, range(20), chunksize=5)
    assert list(itertools.islice(results, 7)) == [2 * i for i in range(7)]
    with pytest.raises(ValueError, match="7"):
        next(results)
    assert list(results) == []


def test_map_reads_an_infinite_iterable_as_needed(client):
    results = client.map(double, itertools.count())
    assert list(itertools.islice(results, 1000)) == [2 * i for i in range(1000)]
    results.close()


def test_map_reads_no_more_than_its_buffer(fake, client):
    numbers = itertools.count()
    results = client.map(double, numbers, buffersize=4)
    assert next(numbers) == 4
    assert next(results) == 0
    assert next(numbers) == 6
    results.close()


def test_map_submits_before_it_is_iterated_and_cancels_when_forgotten(fake, client):
    fake.held = True
    results = client.map(double, range(10), chunksize=1)
    fake.wait(lambda fake: len(fake.groups) == 10)
    del results
    gc.collect()
    fake.wait(lambda fake: len(fake.cancelled) == 10)


def test_map_that_comes_too_late(fake, client):
    fake.held = True
    with pytest.raises(TimeoutError):
        next(client.map(double, range(3), timeout=0.01))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"chunksize": 0}, ValueError),
        ({"buffersize": 0}, ValueError),
        ({"buffersize": "1"}, TypeError),
    ],
)
def test_map_refuses_wrong_counts(client, wrong, error):
    with pytest.raises(error):
        client.map(double, [1], **wrong)


def test_map_of_what_cannot_travel(client):
    items = [1, 2, Unpicklable(), 4]
    results = client.map(double, items, chunksize=4)
    assert [next(results), next(results)] == [2, 4]
    with pytest.raises(farm.PayloadError):
        next(results)
    with pytest.raises(farm.PayloadError):
        next(client.map(Unpicklable().__reduce__, [1, 2]))


def test_map_goes_on_after_shutdown(fake):
    with farm.Client(fake.address) as client:
        results = client.map(double, range(2000))
    assert list(results) == [2 * i for i in range(2000)]
    assert client.connection.join(10)


def test_no_map_begins_after_shutdown_though_the_client_has_not_ended(fake):
    fake.held = True
    client = farm.Client(fake.address)
    future = client.submit(double, 1)
    client.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        client.map(double, [1, 2])
    fake.release()
    assert future.result(10) == 2
    assert client.connection.join(10)
    assert [group.count for group in fake.groups] == [1]


def test_a_map_that_does_not_come_about_does_not_keep_the_client(fake):
    class Interrupting:
        def __reduce__(self):
            raise KeyboardInterrupt

    fake.queues = ["default"]
    with farm.Client(fake.address) as client:
        with pytest.raises(ConfigError, match="no queue 'other'"):
            client.options(queue="other", name="job").map(double, [1])
        with pytest.raises(KeyboardInterrupt):
            client.options(name="job").map(functools.partial(double, Interrupting()), [1])
    assert client.connection.has_ended
    assert fake.sealed == {1: 0, 2: 0}


def test_map_keeps_no_results(client):
    for value in client.map(make, range(4)):
        gone = weakref.ref(value)
        del value
        gc.collect()
        assert gone() is None


class Thing:
    pass


def make(_):
    return Thing()


def test_an_iterable_that_raises(client):
    def items():
        yield 1
        raise KeyError("items")

    with pytest.raises(KeyError, match="items"):
        client.map(double, items(), chunksize=2)


# ---------------------------------------------------------------- the farm is full, or away


def test_submit_waits_for_room_and_busy_says_when(fake, monkeypatch):
    monkeypatch.setattr(backlog, "TASKS_MAX", 10)
    fake.credit = 0
    client = farm.Client(fake.address)
    futures = [client.submit(double, i) for i in range(10)]
    with pytest.raises(farm.Busy) as busy:
        client.options(block=False).submit(double, 1)
    assert busy.value.retry_after > 0
    with pytest.raises(farm.Busy):
        client.options(block=False).map(double, range(3))
    thread = threading.Thread(target=lambda: futures.append(client.submit(double, 10)))
    thread.start()
    fake.grant(100)
    thread.join(10)
    assert [f.result(10) for f in futures] == [2 * i for i in range(11)]
    client.shutdown()


def test_coroutines_wait_for_room_while_their_loop_goes_on(fake, monkeypatch):
    monkeypatch.setattr(backlog, "TASKS_MAX", 4)
    fake.credit = 0

    async def main():
        submitting = [asyncio.ensure_future(client.submit_async(double, i)) for i in range(10)]
        bad = await client.submit_async(threading.Lock().acquire)
        assert isinstance(bad.exception(), farm.PayloadError)
        await asyncio.wait(submitting[:4])
        with pytest.raises(farm.Busy):
            await client.options(block=False).submit_async(double, 1)
        submitting[9].cancel()
        fake.grant(100)
        futures = await asyncio.gather(*submitting[:9])
        with pytest.raises(asyncio.CancelledError):
            await submitting[9]
        return await asyncio.gather(*futures)

    with farm.Client(fake.address) as client:
        assert asyncio.run(main()) == [2 * i for i in range(9)]
        assert sum(group.count for group in fake.groups) == 9


def test_a_submit_in_a_task_does_not_wait_for_room(fake, monkeypatch):
    monkeypatch.setattr(backlog, "TASKS_MAX", 2)
    fake.credit = 0
    with farm.Client(fake.address) as client:
        client.submit(double, 0)
        client.submit(double, 1)
        set_source(lambda: TaskContext("id", 0, 1, Token(1, 1), None, report=print))
        try:
            with pytest.raises(farm.Busy):
                client.submit(double, 2)
        finally:
            set_source(None)
        fake.grant(100)


def test_a_farm_that_goes_away_and_comes_back(fake, client):
    fake.held = True
    futures = [client.submit(double, i) for i in range(50)]
    fake.wait(lambda fake: fake.groups)
    fake.stop()
    futures += [client.submit(double, i) for i in range(50, 100)]
    assert not futures[0].done()
    fake.held = False
    fake.start()
    fake.do(fake._work)
    assert [f.result(20) for f in futures] == [2 * i for i in range(100)]
    assert client.connection.epoch_seen == fake.epoch


def test_refused_for_good(fake, client):
    fake.refuse = "too_large"
    with pytest.raises(farm.PayloadError, match="because"):
        client.submit(double, 1).result(10)
    fake.refuse = "python"
    with pytest.raises(farm.FarmError, match="because"):
        client.submit(double, 1).result(10)
    with pytest.raises(farm.FarmError, match="because"):
        list(client.map(double, range(3)))


def test_rejected_later_everything_fails(fake, client):
    fake.held = True
    future = client.submit(double, 1)
    fake.wait(lambda fake: fake.groups)
    fake.stop()
    fake.reject = Rejected("version", "too old for this")
    fake.start()
    with pytest.raises(farm.FarmError, match="too old"):
        future.result(20)
    with pytest.raises(farm.FarmError, match="too old"):
        client.submit(double, 1)


def test_a_wait_for_hosts_is_explained(fake, client, caplog, monkeypatch):
    monkeypatch.setattr(watch, "WAIT_SECONDS", 0.05)
    fake.held = True
    fake.hosts = 0
    told = threading.Event()
    handler = logging.Handler()
    handler.emit = lambda record: "no hosts connected" in record.getMessage() and told.set()
    logging.getLogger("farm.client").addHandler(handler)
    try:
        client.submit(double, 1)
        assert told.wait(10)
    finally:
        logging.getLogger("farm.client").removeHandler(handler)


# ---------------------------------------------------------------- addresses, the end


def test_no_farm_there(folder):
    with pytest.raises(ConnectionError, match="nobody"):
        farm.Client(f"ipc://{folder}/nobody", connect_timeout=0.2)


def test_a_wrong_address_is_refused_at_once():
    with pytest.raises(ConnectionError, match="not an address"):
        farm.Client("farm-host:7070", connect_timeout=1000)


def test_a_farm_that_refuses(fake):
    fake.reject = Rejected("version", "speaks another protocol")
    with pytest.raises(ConnectionError, match="another protocol"):
        farm.Client(fake.address)


def test_the_address_may_come_from_the_environment(fake, monkeypatch):
    monkeypatch.setenv("FARM_ADDRESS", fake.address)
    with farm.Client() as client:
        assert client.address == fake.address


def test_submit_after_shutdown(fake):
    client = farm.Client(fake.address)
    client.shutdown()
    client.shutdown()
    for call in (client.submit, client.map, client.submit_many):
        with pytest.raises(RuntimeError, match="after shutdown"):
            call(double, [1])


def test_what_cannot_travel_is_not_taken_after_shutdown_either(fake):
    client = farm.Client(fake.address)
    client.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        client.submit(double, Unpicklable())
    with pytest.raises(RuntimeError, match="after shutdown"):
        asyncio.run(client.submit_async(double, Unpicklable()))


@pytest.mark.parametrize("cancel", [False, True])
def test_a_task_that_is_being_submitted_while_the_client_is_shut_down_is_its_last(
    fake, monkeypatch, cancel
):
    fake.held = cancel
    client = farm.Client(fake.address)
    waiting = client.connection._waiting
    new = waiting.new

    def shut_meanwhile(counter):
        client.shutdown(wait=False, cancel_futures=cancel)
        client.connection.join(0.2)  # as a thread that is slow to go on
        return new(counter)

    monkeypatch.setattr(waiting, "new", shut_meanwhile)
    future = asyncio.run(client.submit_async(double, 1))
    if cancel:
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(10)
    else:
        assert future.result(10) == 2
    assert client.connection.join(10)


def test_shutdown_without_waiting_lets_the_work_end(fake):
    fake.held = True
    client = farm.Client(fake.address)
    future = client.submit(double, 1)
    client.shutdown(wait=False)
    assert not future.done()
    fake.release()
    assert future.result(10) == 2
    assert client.connection.join(10)


def test_a_forgotten_client_closes_itself(fake):
    client = farm.Client(fake.address)
    connection = client.connection
    future = client.submit(double, 1)
    del client
    gc.collect()
    assert future.result(10) == 2
    assert connection.join(10)


def test_a_view_keeps_its_client(fake):
    view = farm.Client(fake.address).options(priority=1).options(retries=1)
    gc.collect()
    assert view.submit(double, 1).result(10) == 2


def test_shutdown_waits_for_callbacks(fake):
    said = []
    with farm.Client(fake.address) as client:
        for i in range(20):
            client.submit(double, i).add_done_callback(lambda one: said.append(one.result()))
    assert said == [2 * i for i in range(20)]


def test_a_supervisor_is_told_and_stopped(fake):
    calls = []

    class Supervisor:
        def stop(self):
            calls.append("stop")

        def note_epoch(self, epoch):
            calls.append(epoch)

    with farm.Client(fake.address, connect_timeout=5, supervisor=Supervisor()):
        pass
    assert calls == [fake.epoch, "stop"]


def test_after_a_fork_the_client_says_so(fake, client):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            client.shutdown()
            client.submit(double, 1)
        except RuntimeError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    assert b"forked" in os.read(read, 1000)
    os.waitpid(pid, 0)
    os.close(read)
    assert client.submit(double, 1).result(10) == 2


def said_in_a_child(action):
    """What an action says in a forked child to the function that it is given."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            action(lambda text: os.write(write, text.encode()))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        text = said.read()
    os.waitpid(pid, 0)
    return text


def test_an_interrupt_in_a_forked_child_stays_an_interrupt(fake):
    def interrupted(say):
        try:
            with client:
                signal.raise_signal(signal.SIGINT)
        except (KeyboardInterrupt, RuntimeError) as error:
            say(type(error).__name__)

    with farm.Client(fake.address) as client:
        assert said_in_a_child(interrupted) == "KeyboardInterrupt"
        assert client.submit(double, 1).result(10) == 2


def test_a_map_that_is_forgotten_in_a_forked_child_is_none_of_its_business(fake, client):
    fake.held = True
    maps = [client.options(name="job").map(double, range(3), chunksize=1)]

    def forget(say):
        sys.unraisablehook = lambda told: say(repr(told.exc_value))
        maps.clear()
        gc.collect()

    assert said_in_a_child(forget) == ""
    fake.release()
    assert list(maps.pop()) == [0, 2, 4]
