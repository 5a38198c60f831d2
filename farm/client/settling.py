"""How farm futures end: many at a time, without waiting for anybody.

One lock for all futures guards their states. It is held for a moment at a time and never while
code of users runs, so no thread can hold up the IO thread.

The standard library locks futures by holding their ``_condition`` while it looks at several of
them. Here that holds back changes instead: an outcome that arrives meanwhile is kept, and takes
effect when the last holder lets go. So nobody who sets an outcome ever waits.
"""
# ruff: noqa: SLF001 -- this is the inner half of Future

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures._base import FINISHED, PENDING, RUNNING
from typing import TYPE_CHECKING, Any, Protocol

from farm.client.logs import KeptOutput
from farm.client.outcomes import Given, Outcome, is_error, outcomes_of

if TYPE_CHECKING:
    from farm.client.callbacks import CallbackThread
    from farm.client.future import Future
    from farm.protocol.parts import Result

__all__ = [
    "LOCK",
    "NO_HOLD",
    "NO_WAITERS",
    "Hold",
    "Waiter",
    "Watch",
    "fail",
    "finish",
    "mark_running",
    "settle",
]

Callback = Callable[[Any], object]
Sleeper = threading.Lock
"""A thread waits until it is released; an Event would cost ten times as much."""
_kept = KeptOutput()

LOCK = threading.RLock()
"""Guards the states and watches of all farm futures.

Re-entrant, because a finalizer may run in the middle of anything and ask a future something.
"""
# The thread that holds it at a fork does not exist in the child.
os.register_at_fork(after_in_child=LOCK._at_fork_reinit)  # type: ignore[attr-defined]


class Waiter(Protocol):
    """What the standard library, and we, put in wait for a future."""

    def add_result(self, future: Any) -> None:
        """The future returned."""

    def add_exception(self, future: Any) -> None:
        """The future raised."""

    def add_cancelled(self, future: Any) -> None:
        """The future was cancelled."""


class Watch:
    """Who waits for a future that is not over. Bounded by the threads and tasks that wait."""

    __slots__ = ("arrived", "callbacks", "holds", "sleepers", "waiters")

    def __init__(self) -> None:
        # Mostly somebody is in one of them only, so the lists are made when they are needed.
        self.waiters: list[Waiter] | None = None
        self.sleepers: list[Sleeper] | None = None
        self.callbacks: list[Callback] | None = None
        self.holds = 0
        self.arrived: tuple[str, Outcome | None] | None = None

    def add_sleeper(self) -> Sleeper:
        """What this thread can sleep on; with the lock held."""
        sleeper = threading.Lock()
        sleeper.acquire()
        if self.sleepers is None:
            self.sleepers = [sleeper]
        else:
            self.sleepers.append(sleeper)
        return sleeper

    def sleep(self, sleeper: Sleeper, seconds: float | None) -> None:
        """Wait until woken, or for so long at most."""
        woken = False
        try:
            if seconds is None:
                woken = sleeper.acquire()
            else:
                woken = sleeper.acquire(timeout=min(max(seconds, 0.0), threading.TIMEOUT_MAX))
        finally:
            if not woken:  # it is too late, or a signal has interrupted it
                with LOCK:
                    if self.sleepers and sleeper in self.sleepers:
                        self.sleepers.remove(sleeper)

    def wake(self) -> None:
        """Wake all sleepers, for good; with the lock held."""
        sleepers, self.sleepers = self.sleepers, None
        for sleeper in sleepers or ():
            sleeper.release()


class Hold:
    """Stands for the condition of a future: while it is held, the future does not change."""

    __slots__ = ("_future",)

    def __init__(self, future: "Future[Any]") -> None:
        self._future = future

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> bool:
        """Hold the future as it is; never blocks, and others may hold it, too."""
        with LOCK:
            # One that is over cannot change: nothing to hold, so nothing to let go below.
            if not self._future.done():
                self._future._watched().holds += 1
        return True

    def release(self) -> None:
        """Let go; what arrived for the future takes effect if nobody else holds it."""
        future = self._future
        ended: list[_Ended] = []
        with LOCK:
            if not future.done():
                watch = future._watched()
                watch.holds -= 1
                if watch.arrived and not watch.holds:
                    _end(future, *watch.arrived, ended)
        if ended:
            _tell(ended)


class _NoHold:
    """Stands for the condition of a future that is over: it cannot change anyway."""

    __slots__ = ()

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *_: object) -> None:
        pass

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class _NoWaiters(list[Waiter]):
    """Stands for the waiters of a future that is over: nobody will be told anything."""

    __slots__ = ()

    def append(self, _waiter: Waiter) -> None:
        pass

    def remove(self, _waiter: Waiter) -> None:
        pass


NO_HOLD = _NoHold()
"""The condition of every future that is over."""
NO_WAITERS = _NoWaiters()
"""The waiters of every future that is over."""


def settle(ended: "Iterable[tuple[Sequence[Future[Any] | None], Result]]") -> None:
    """Give futures their outcomes; never blocks, and runs no code of users.

    Each result comes with the futures of its run, in order, None where nobody waits any more.
    Futures that are over already are left as they are.
    """
    watched: list[_Ended] = []
    for futures, result in ended:
        state, outcomes = outcomes_of(result)
        with LOCK:
            if result.output:
                _kept.keep(futures, result.output)
            for future, outcome in zip(futures, outcomes, strict=False):
                if future is None:
                    continue
                if future._watch is not None:
                    _end(future, state, outcome, watched)
                elif future._state is PENDING or future._state is RUNNING:
                    future._outcome = outcome
                    future._state = state
    if watched:
        _tell(watched)


def fail(futures: "Iterable[Future[Any]]", error: Callable[[str], BaseException]) -> None:
    """Fail futures with ``error(task id)``, one for each, made here and now."""
    for future in futures:
        if not future.done():
            finish(future, FINISHED, Given(None, error(future.id)))


def mark_running(futures: "Iterable[Future[Any] | None]") -> None:
    """Workers have begun these tasks."""
    with LOCK:
        for future in futures:
            if future is not None and future._state is PENDING:
                future._state = RUNNING


def finish(future: "Future[Any]", state: str, outcome: Outcome | None) -> None:
    """Give one future its outcome, unless it has one."""
    ended: list[_Ended] = []
    with LOCK:
        _end(future, state, outcome, ended)
    if ended:
        _tell(ended)


_Ended = tuple["Future[Any]", bool, "list[Waiter] | None", list[Callback] | None]
# A future that has just ended, whether it is known to have failed, and whom to tell.


def _end(future: "Future[Any]", state: str, outcome: Outcome | None, ended: list[_Ended]) -> None:
    """Let an outcome take effect: at once, or when nobody holds the future any more.

    With the lock held. Those to be told of are added to ``ended``.
    """
    if future._state is not PENDING and future._state is not RUNNING:
        return
    watch = future._watch
    if watch is not None and watch.holds:
        watch.arrived = watch.arrived or (state, outcome)
        return
    future._outcome = outcome
    future._state = state
    if watch is not None:
        # Whoever comes from now on sees that it is over, and does not wait.
        future._watch = None
        if watch.waiters or watch.callbacks:
            ended.append((future, is_error(outcome), watch.waiters, watch.callbacks))
        watch.wake()


def _tell(ended: list[_Ended]) -> None:
    """Tell the waiters of futures that have ended, and have their callbacks run."""
    due: dict[CallbackThread, list[tuple[Callback, Any]]] = {}
    for future, failed, waiters, callbacks in ended:
        for waiter in waiters or ():
            if future.cancelled():
                waiter.add_cancelled(future)
            elif failed:
                waiter.add_exception(future)
            else:
                waiter.add_result(future)
        if callbacks:
            calls = due.setdefault(future._origin.callbacks, [])
            calls += [(callback, future) for callback in callbacks]
    for thread, calls in due.items():
        thread.post(calls)
