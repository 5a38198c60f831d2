"""A client for programs that pass calls and results on, as bytes and from an event loop.

Promises: nothing here blocks the loop, and nothing is unpickled. Whoever stops waiting cancels
nothing. What cannot be done now raises: ``Busy`` where the farm has no room, ``ConnectionError``
where it cannot be reached.
"""
# ruff: noqa: SLF001 -- this is a second face of Connection, and of Future

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Any
from weakref import WeakValueDictionary

from farm.client.awaiting import Awaiter
from farm.client.backlog import Lane
from farm.client.connection import Connection
from farm.client.flow import USUAL
from farm.client.future import Future
from farm.client.loop import Loop
from farm.client.options import Settings
from farm.client.outcomes import Failed, Given, Outcome
from farm.client.replies import Reply
from farm.client.settling import LOCK
from farm.errors import Busy, FarmError
from farm.identity import Identity
from farm.model import Payload, TaskId
from farm.payload import FunctionPayload
from farm.protocol.messages import CancelReply, Function, TaskRun
from farm.protocol.parts import TaskKey
from farm.transport import Credentials, token_said

__all__ = ["Failed", "Outcome", "Relay"]

LATE_SECONDS = 1.0
"""When to come back if the farm has not said so."""
ANSWER_SECONDS = 10.0
"""How long the farm may take to answer a question."""


class Relay:
    """A session of its own with a farm; it connects in the background.

    ``address``, ``token`` and ``keys`` as in ``Client``, but empty where they are not said.
    ``behalf``: for whom it is, of which only an admin's key is believed.
    """

    def __init__(
        self, address: str, token: str = "", keys: str = "", *, behalf: Identity | None = None
    ) -> None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        credentials = Credentials("client", address, token_said(token), keys=keys)
        self._connection = Connection(credentials, version, flow=USUAL._replace(behalf=behalf))
        self._loop = self._connection._loop
        # Tasks that are followed, as long as they are not over or somebody looks at them.
        self._followed: WeakValueDictionary[TaskId, Future[Any]] = WeakValueDictionary()

    @property
    def connected(self) -> bool:
        """Whether the farm can be reached now."""
        return self._loop.session.connected

    @property
    def error(self) -> FarmError | None:
        """Why this session is over, if it is so."""
        return self._connection.error

    @property
    def trouble(self) -> str:
        """Why there is no connection, if there is none."""
        return self._connection.trouble or "it has not answered yet"

    @property
    def numbers(self) -> dict[str, float]:
        """What waits here, as plain numbers."""
        session = self._loop.session
        tasks, size = session.unsent
        return {
            "unsent_tasks": tasks + len(self._loop.backlog),
            "unsent_bytes": size,
            "unacknowledged_tasks": session.unacknowledged,
            "open_tasks": len(self._connection._waiting._futures),
            "round_trip_seconds": session.round_trip or 0.0,
        }

    def close(self) -> None:
        """Leave; what was accepted goes on."""
        self._connection.end()
        self._connection.join()
        self._connection.callbacks.close()

    async def come(self, within: float) -> bool:
        """Wait until the farm can be reached; whether it can."""
        there = Awaiter()
        self._connection._after(lambda _: self._loop.waits.append((lambda: self.connected, there)))
        return await _in_time(there, within)

    async def over(self) -> None:
        """Wait until this session is over, by itself or closed; then ``error`` may say why."""
        over = Awaiter()
        if self._connection._after(lambda _: self._loop.waits.append((lambda: False, over))):
            await over

    # ------------------------------------------------------------ submitting

    def room(self, queue: str) -> Busy | None:
        """What submitting to a queue would raise now, or None if there is room."""
        backlog = self._loop.backlog
        return backlog.busy(queue) if backlog.lacks_room(queue) else None

    def lane(self, function: FunctionPayload, settings: Settings) -> Lane:
        """What tasks of a function with these settings have in common.

        Raises ``ConfigError`` for a queue that the farm does not have.
        """
        lane = Lane(Function(function.hash, function.name, function.data), settings.template, 0)
        self._connection.check_queue(lane.queue)
        return lane

    def open_job(self, name: str) -> tuple[int, str]:
        """Begin a job; its number in this session, and its id."""
        number = self._connection.open_job(name)
        return number, self._connection.job_id(number)

    def seal_job(self, number: int) -> None:
        """No more tasks will join the job."""
        self._connection.seal_job(number)

    def submit(
        self, lane: Lane, payloads: list[Payload], keys: Sequence[TaskKey] = ()
    ) -> list[Future[Any]]:
        """Submit tasks, all or none, with a key each or without; raises ``Busy``."""
        connection = self._connection
        return self._loop.backlog.put_all(lane, payloads, connection._waiting.new, keys)

    def keep(self, payload: bytes) -> Payload:
        """A payload as it is submitted: in a file if it is large."""
        return self._connection.keep(payload)

    async def accepted(self, futures: Sequence[Future[Any]], queue: str, within: float) -> None:
        """Return when the farm has these tasks of a queue, with adjacent counters, for good.

        Raises ``Busy`` if it has no room for them, or takes too long. One that was refused for
        good counts as had: its future is done.
        """
        known = Awaiter()
        check = _Acceptance(self._loop, queue, futures[0].counter, len(futures))
        self._connection._after(lambda _: self._loop.waits.append((check, known)))
        if not await _in_time(known, within) or not check.known:
            raise Busy(f"the farm did not accept it within {within:g} s", LATE_SECONDS)
        if check.busy is not None:
            raise check.busy

    def refusal(self, future: Future[Any]) -> FarmError | None:
        """Why the farm refused a task for good, if it did."""
        outcome = future._outcome if future.done() else None
        if isinstance(outcome, Given) and isinstance(outcome.exception, FarmError):
            return outcome.exception
        return None

    def withdraw(self, futures: Sequence[Future[Any]], *, keyed: bool = False) -> None:
        """Cancel tasks with adjacent counters that were not accepted, without waiting for it.

        If they are ``keyed``, only what the farm cannot have: the next with the same key is to
        find the outcome of what it may have, and not that this was cancelled.
        """
        if keyed:
            first, stop = futures[0].counter, futures[-1].counter + 1

            def take_back(_now: float) -> None:
                self._loop.session._cancel_fresh(first, stop)

            self._connection._after(take_back)
        else:
            self._connection.cancels.tasks(self._connection.own_runs(futures))

    # ------------------------------------------------------------ reading

    def future(self, task: TaskId) -> Future[Any]:
        """The future of any task; the same as long as it is not over."""
        future = self._followed.get(task)
        if future is None or future.done():
            future = self._followed[task] = self._connection.attach_task(task)
        return future

    async def ended(self, future: Future[Any], within: float) -> bool:
        """Wait until a task is over; whether it is."""
        if future.done() or within <= 0:
            return future.done()
        ended = Awaiter()
        with LOCK:
            waiters = future._waiters
            waiters.append(ended)
        try:
            return future.done() or await _in_time(ended, within)
        finally:
            with LOCK, suppress(ValueError):
                waiters.remove(ended)

    def outcome(self, future: Future[Any]) -> Outcome | None:
        """How a task ended that is over, unopened; None if it was cancelled before it began."""
        return None if future.cancelled() else future._outcome  # type: ignore[return-value]

    async def query(self, what: str, /, **arguments: Any) -> Any:
        """What the farm says about itself; raises ``FarmError`` if the question is wrong."""
        self._check_connected()
        answer = await self._answer(self._connection._query(what, arguments, None))
        if answer.error:
            raise FarmError(answer.error)
        return answer.data

    async def cancel(self, tasks: list[TaskRun], grace: float | None = None) -> CancelReply:
        """Cancel tasks that have not begun; with a ``grace``, in seconds, stop those that have."""
        self._check_connected()
        reply: CancelReply = await self._answer(self._connection.cancels.tasks(tasks, grace))
        return reply

    def _check_connected(self) -> None:
        if not self.connected:
            raise ConnectionError(f"the farm cannot be reached now: {self.trouble}")

    async def _answer(self, reply: Reply) -> Any:
        there = Awaiter()
        reply.then(there.set)
        if not await _in_time(there, ANSWER_SECONDS):
            raise ConnectionError(f"the farm did not answer within {ANSWER_SECONDS:g} s")
        return reply.wait(0)


class _Acceptance:
    """Whether it is known if tasks of the session have room; asked on the IO thread.

    What has none is taken back here, and not later, so that nothing runs that was refused; what
    was sent, and is not answered yet, is waited for.
    """

    def __init__(self, loop: Loop, queue: str, first: int, count: int) -> None:
        self.known = False
        self.busy: Busy | None = None
        self._loop = loop
        self._queue = queue
        self._next, self._stop = first, first + count

    def __call__(self) -> bool:
        session = self._loop.session
        outbox = session._outbox
        if self._queue in outbox.full or outbox.hold_until > monotonic():
            busy = self._loop.backlog.busy(self._queue)
            if session._cancel_fresh(self._next, self._stop):
                self.busy = busy
        while self._next < self._stop and not outbox.has(self._next):
            self._next += 1  # what was accepted stays so
        self.known = self._next == self._stop
        return self.known


async def _in_time(awaiter: Awaiter, within: float) -> bool:
    try:
        async with asyncio.timeout(within):
            await awaiter
    except TimeoutError:
        return False
    return True
