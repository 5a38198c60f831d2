"""Farm futures can be awaited, by themselves and through asyncio."""

import asyncio
import gc
import threading
import weakref

import pytest

from farm import payload
from farm.client.awaiting import Awaiter
from farm.client.callbacks import CallbackThread
from farm.client.future import Future, Origin, settle
from farm.model import Ending
from farm.protocol.parts import Result

SESSION = b"s" * 16
SOON = 30.0  # seconds: a bound that is met only when something hangs


@pytest.fixture
def asked():
    return []


@pytest.fixture
def origin(asked):
    def cancel(future, wait):
        asked.append(wait)
        return False

    made = Origin(SESSION, cancel, CallbackThread(), None)
    yield made
    assert made.callbacks.close(SOON)


def end(ending, *futures, values=()):
    payloads = [payload.dump_value(value) for value in values]
    if ending is Ending.EXCEPTION:
        payloads = [payload.dump_exception(value)[0] for value in values]
    settle([(futures, Result(SESSION, 1, len(futures), ending, payloads))])


def elsewhere(function, *args, **kwargs):
    """Have another thread call this; to be joined from inside a loop."""
    thread = threading.Thread(target=function, args=args, kwargs=kwargs)
    thread.start()
    return thread


def test_awaiting_gives_results_and_exceptions(origin):
    futures = [Future(origin, i) for i in range(300)]
    bad = Future(origin, 301)

    async def main():
        async def all_of_them():
            return await asyncio.gather(*futures), await asyncio.gather(bad, return_exceptions=True)

        task = asyncio.ensure_future(all_of_them())
        await asyncio.sleep(0)
        for i in range(0, 300, 100):
            elsewhere(end, Ending.OK, *futures[i : i + 100], values=range(i, i + 100)).join(SOON)
        elsewhere(end, Ending.EXCEPTION, bad, values=[KeyError(1)]).join(SOON)
        return await asyncio.wait_for(task, SOON)

    values, errors = asyncio.run(main())
    assert values == list(range(300))
    assert type(errors[0]) is KeyError


def test_awaiting_what_is_over_returns_at_once(origin):
    future = Future(origin, 1)
    end(Ending.OK, future, values=["v"])

    async def main():
        return await future

    assert asyncio.run(main()) == "v"


def test_awaiting_a_cancelled_task_is_a_cancellation(origin):
    future = Future(origin, 1)

    async def main():
        thread = elsewhere(end, Ending.CANCELLED, future)
        with pytest.raises(asyncio.CancelledError):
            await future
        thread.join(SOON)

    asyncio.run(main())


def test_a_cancelled_awaiter_asks_to_cancel_without_waiting(origin, asked):
    future = Future(origin, 1)

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.01)

    asyncio.run(main())
    assert asked == [False]
    assert not future.done()
    assert future._watch.waiters == []


def test_cancel_never_blocks_a_running_loop(origin, asked):
    future = Future(origin, 1)

    async def main():
        return future.cancel()

    assert asyncio.run(main()) is False
    assert not future.cancel()
    assert asked == [False, True]


def test_wrap_future_and_run_in_executor_work(origin):
    futures = [Future(origin, 1), Future(origin, 2)]

    async def main():
        wrapped = list(map(asyncio.wrap_future, futures))
        elsewhere(end, Ending.OK, futures[0], values=["v"])
        elsewhere(end, Ending.EXCEPTION, futures[1], values=[KeyError(1)])
        return await asyncio.wait_for(asyncio.gather(*wrapped, return_exceptions=True), SOON)

    value, error = asyncio.run(main())
    assert value == "v"
    assert type(error) is KeyError


def test_an_outcome_after_the_loop_was_closed_is_no_error(origin):
    future = Future(origin, 1)

    async def wait():
        await future

    loop = asyncio.new_event_loop()
    task = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    end(Ending.OK, future, values=["v"])
    assert future.result() == "v"
    task._log_destroy_pending = False


def test_a_loop_that_was_closed_before_it_looked_is_let_go_of():
    def woken_too_late():
        async def wait():
            return Awaiter()

        loop = asyncio.new_event_loop()
        awaiter = loop.run_until_complete(wait())
        awaiter.add_result()
        loop.close()
        return weakref.ref(loop)

    loops = [woken_too_late() for _ in range(4)]
    gc.collect()
    assert [loop() for loop in loops[:-1]] == [None] * 3


def test_a_snapshot_tells_what_asyncio_asks_for(origin):
    future, failed, cancelled = (Future(origin, i) for i in range(3))
    assert future._get_snapshot() == (False, False, None, None)
    end(Ending.OK, future, values=["v"])
    assert future._get_snapshot() == (True, False, "v", None)
    end(Ending.EXCEPTION, failed, values=[KeyError(1)])
    assert type(failed._get_snapshot()[3]) is KeyError
    end(Ending.CANCELLED, cancelled)
    assert cancelled._get_snapshot() == (True, True, None, None)
