"""The future of a task: a ``concurrent.futures.Future``, made for hundreds of thousands at a time.

It promises all that the standard library's does, to its users and to ``wait``, ``as_completed``
and ``asyncio``, and costs a tenth: an outcome arrives as bytes from the IO thread, and is
unpickled, once, by the first thread that asks for it; locks and lists are made when somebody
waits. ``farm.client.settling`` has the inner half: how futures end.
"""

import os
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, InvalidStateError
from concurrent.futures import Future as StandardFuture
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar

from farm.client import waits
from farm.client.callbacks import CallbackThread, run_callback
from farm.client.logs import AttemptLogs, Query, fetch_logs
from farm.client.outcomes import Given, Outcome, drop_value, open_outcome
from farm.client.settling import (
    LOCK,
    NO_HOLD,
    NO_WAITERS,
    Hold,
    Waiter,
    Watch,
    fail,
    finish,
    mark_running,
    settle,
)
from farm.model import Duration, TaskId, seconds

__all__ = [
    "STOP_SECONDS",
    "Future",
    "Origin",
    "Progress",
    "fail",
    "mark_running",
    "set_progress",
    "settle",
]

T = TypeVar("T")

STOP_SECONDS = 5.0
"""How long a task that is stopped has to clean up, unless somebody says otherwise."""


class Progress(NamedTuple):
    """How far a running task says it is."""

    done: float
    total: float
    note: str


class _Cancel(Protocol):
    def __call__(
        self, future: "Future[Any]", wait: bool, grace: float | None = None, /
    ) -> bool: ...


class Origin:
    """What the futures of one session share.

    ``query(what, arguments, timeout)`` asks the farm something.
    ``cancel(future, wait)`` asks the farm to cancel a task and says whether it has: at once if
    that can be decided here; otherwise, if ``wait`` is true, after a few seconds at most, and if
    not, it sends the request and says no. With a grace as third argument it stops the task, and
    says whether that is so.
    """

    __slots__ = ("callbacks", "cancel", "process", "query", "session")

    def __init__(
        self,
        session: bytes,
        cancel: _Cancel,
        callbacks: CallbackThread,
        query: Query,
    ) -> None:
        self.session = session
        self.query = query
        self.cancel = cancel
        self.callbacks = callbacks
        self.process = os.getpid()


class Future(StandardFuture[T]):
    """The future result of a task; awaitable, too.

    ``id`` names the task in other processes. Reading the result consumes nothing.
    """

    # On the class, so that a new future costs two attributes.
    _state = PENDING
    _outcome: Outcome | int | None = None  # not opened yet; an int: the thread that opens it
    _result: T | None = None
    _exception: BaseException | None = None
    _watch: Watch | None = None
    _progress: Progress | None = None
    _output: bytes | None = b""  # the end of what the last attempt wrote, if that is known

    def __init__(self, origin: Origin, counter: int) -> None:
        self._origin = origin
        self._counter = counter

    def __repr__(self) -> str:
        said = {PENDING: "pending", RUNNING: "running", FINISHED: "finished"}
        text = said.get(self._state, "cancelled")
        if self._state == FINISHED and self._outcome is None:
            raised = self._exception is not None
            value = self._exception if raised else self._result
            text += f" {'raised' if raised else 'returned'} {type(value).__name__}"
        return f"<{type(self).__name__} of task {self.id}: {text}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle {self!r}: send its result(), or its id and client.future(id) there"
        )

    @property
    def id(self) -> str:
        """The task's id."""
        return str(TaskId(self._origin.session, self._counter))

    @property
    def counter(self) -> int:
        """The task's number in its session."""
        return self._counter

    @property
    def progress(self) -> Progress | None:
        """What the task said last of its progress, or None."""
        return self._progress

    def logs(self) -> list[AttemptLogs]:
        """What each attempt of the task has printed, the first first: the last 64 KiB of it.

        Asks the farm, which has it as long as the outcome; after that only the output of the last
        attempt is known, and only here, for the youngest 64 MiB of all. Tasks that ran in one
        slice share their output. Raises ``UnknownTask`` if nobody knows it any more.
        """
        return fetch_logs(self._origin.query, self.id, self._output if self.done() else None)

    # ------------------------------------------------ as in the standard library

    def done(self) -> bool:
        """Whether the task is over, cancelled or not."""
        return self._state is not PENDING and self._state is not RUNNING

    def running(self) -> bool:
        """Whether the task was handed to a worker and is not over."""
        return self._state is RUNNING

    def cancelled(self) -> bool:
        """Whether the task was cancelled."""
        return self._state is CANCELLED_AND_NOTIFIED

    def cancel(self) -> bool:
        """Cancel the task unless a worker has begun it; whether it is cancelled, and never ran.

        A task that has begun once and waits to be tried again is stopped: this is False then, as
        ``cancelled()`` will be, and ``result()`` raises ``CancelledError`` all the same.
        Asks the farm, which takes a round trip; in an event loop it does not wait for the answer,
        and the future is cancelled a moment later if it can be.
        """
        if not self.done() and self._origin.cancel(self, not _in_event_loop()):
            finish(self, CANCELLED_AND_NOTIFIED, None)
            return self._state is not FINISHED  # pending: somebody holds it, for a moment
        return self.cancelled()

    def stop(self, grace: Duration = STOP_SECONDS) -> bool:
        """End the task, also while it runs; whether it is, or is being, ended by this.

        A task that waits is cancelled. In one that runs ``TaskStopped`` is raised, so that it can
        clean up; what has not ended after ``grace`` (0: at once) is ended with its worker and all
        that this has started. Whatever the task comes to from then on, ``result()`` raises
        ``CancelledError``, and nothing is tried again. Asks the farm, as ``cancel`` does; waits for
        its answer, but not for the end of the task.
        """
        within = seconds(grace, "grace")
        if self.done():
            return self.cancelled()
        return self._origin.cancel(self, not _in_event_loop(), within)

    def result(self, timeout: float | None = None) -> T:
        """The task's result, waiting ``timeout`` seconds at most; raises what the task raised."""
        if self._state is not FINISHED:
            self._wait(timeout)
        if self._outcome is not None:
            self._open()
        if self._exception is None:
            return self._result  # type: ignore[return-value]
        try:
            raise self._exception
        finally:
            self = None  # type: ignore[assignment] # noqa: PLW0642 -- or it is a reference cycle

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the task raised, or None, waiting ``timeout`` seconds at most."""
        if self._state is not FINISHED:
            self._wait(timeout)
        if self._outcome is not None:
            self._open()
        return self._exception

    def add_done_callback(self, fn: Callable[["Future[T]"], object]) -> None:
        """Have ``fn(future)`` called when the task is over: at once if it is, in this thread.

        Otherwise on the client's callback thread, in the order in which they were added.
        """
        with LOCK:
            if not self.done():
                watch = self._watched()
                if watch.callbacks is None:
                    watch.callbacks = [fn]
                else:
                    watch.callbacks.append(fn)
                return
        run_callback(fn, self)

    def set_running_or_notify_cancel(self) -> bool:
        """As in the standard library; for tests, and executors built on futures."""
        with LOCK:
            if self._state is PENDING:
                self._state = RUNNING
                return True
            if self._state is CANCELLED_AND_NOTIFIED:
                return False
        raise RuntimeError(f"{self!r} has begun already")

    def set_result(self, result: T) -> None:
        """As in the standard library; for tests, and executors built on futures."""
        if self.done():
            raise InvalidStateError(repr(self))
        finish(self, FINISHED, Given(result, None))

    def set_exception(self, exception: BaseException | None) -> None:
        """As in the standard library; for tests, and executors built on futures."""
        if self.done():
            raise InvalidStateError(repr(self))
        finish(self, FINISHED, Given(None, exception))

    # ------------------------------------------------ for asyncio

    def __await__(self) -> Generator[Any, None, T]:
        if not self.done():
            yield from self._landing()
        if self.cancelled():
            import asyncio  # noqa: PLC0415 -- slow to import, and here it has been

            raise asyncio.CancelledError
        return self.result()

    def _landing(self) -> Generator[Any, None, None]:
        from farm.client.awaiting import Awaiter  # noqa: PLC0415 -- imports asyncio

        awaiter = Awaiter()
        with LOCK:
            waiters = self._waiters  # only now: a future that is over has none
            waiters.append(awaiter)
            if self.done():
                return
        told = waits.will_wait()
        try:
            yield from awaiter.wait()
        except awaiter.Cancelled:
            # As asyncio does with the futures of other executors. The loop is not held up.
            if not self.done() and self._origin.cancel(self, False):
                finish(self, CANCELLED_AND_NOTIFIED, None)
            raise
        finally:
            if told is not None:
                waits.over(told)
            with LOCK:
                self._waiters.remove(awaiter)

    # ------------------------------------------------ what the standard library's functions use

    @property
    def _condition(self) -> Any:  # type: ignore[override]
        if self.done():
            return NO_HOLD
        self._check_process()
        return Hold(self)

    @property
    def _waiters(self) -> list[Waiter]:  # type: ignore[override]
        with LOCK:
            if self.done():
                return NO_WAITERS
            watch = self._watched()
            if watch.waiters is None:
                watch.waiters = waits.TellingList()
            return watch.waiters

    def _get_snapshot(self) -> tuple[bool, bool, T | None, BaseException | None]:
        """(done, cancelled, result, exception): what asyncio asks for since Python 3.14."""
        if self._state is FINISHED:
            exception = self.exception()
            return True, False, None if exception else self._result, exception
        return self.done(), self.cancelled(), None, None

    # ------------------------------------------------ inside

    def _watched(self) -> Watch:
        """Who waits; call it with the lock held."""
        watch = self._watch
        if watch is None:
            watch = self._watch = Watch()
        return watch

    def _wait(self, timeout: float | None) -> None:
        """Return when it is finished; raise if it is cancelled, or not finished in time."""
        if not self.done():
            self._check_process()
            with LOCK:
                watch = None if self.done() else self._watched()
                sleeper = watch and watch.add_sleeper()
            if watch is not None:
                waits.wait(watch.sleep, sleeper, timeout)
        if self._state is FINISHED:
            return
        if self._state is CANCELLED_AND_NOTIFIED:
            raise CancelledError
        raise TimeoutError

    def _check_process(self) -> None:
        if os.getpid() != self._origin.process:
            raise RuntimeError(
                f"{self!r} belongs to the process that this one was forked from, and only there "
                "its result arrives; make a client of your own after the fork"
            )

    def _open(self) -> None:
        """Make the outcome a result or an exception: once, in the first thread that asks."""
        me, mine = threading.get_ident(), False
        outcome: Outcome | int | None = None
        opened: Outcome | int | None = None
        try:
            with LOCK:
                outcome = self._outcome
                mine = outcome is not None and type(outcome) is not int
                if mine:
                    self._outcome = me
            if mine:
                self._result, self._exception = open_outcome(outcome, self)  # type: ignore[arg-type]
                opened, outcome = outcome, None
        finally:
            if mine:
                self._outcome = outcome  # kept if a KeyboardInterrupt came: the next one opens it
                if self._watch is not None:
                    with LOCK:
                        self._watch.wake()
        if not mine:
            self._wait_until_open(me)
        elif type(opened) is tuple:
            drop_value(opened)

    def _wait_until_open(self, me: int) -> None:
        while (outcome := self._outcome) is not None:
            if outcome == me:
                raise RuntimeError(f"{self!r} was asked for its result while unpickling it")
            if type(outcome) is not int:  # the other thread was interrupted, and opens it no more
                self._open()
                return
            with LOCK:
                watch = self._watched()
                sleeper = watch.add_sleeper()
            # The other thread looks for sleepers after it has opened the outcome: look again.
            if self._outcome == outcome:
                watch.sleep(sleeper, None)


def _made_in_order() -> None:
    """Teach the class the attributes of its instances: then these need no dictionary each."""
    future: Future[None] = Future.__new__(Future)
    for name in ("_origin", "_counter", "_outcome", "_state", "_result", "_exception", "_watch"):
        setattr(future, name, None)


_made_in_order()


def set_progress(future: Future[Any], done: float, total: float, note: str) -> None:
    """The task has said how far it is; for the client."""
    future._progress = Progress(done, total, note)  # noqa: SLF001 -- as in settling


def _in_event_loop() -> bool:
    asyncio = sys.modules.get("asyncio")  # imported here, it would slow down all who do without
    try:
        return asyncio is not None and asyncio.get_running_loop() is not None
    except RuntimeError:
        return False
