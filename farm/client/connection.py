"""A client's connection, for callers of any thread; its IO thread is ``loop.py``."""

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from copy import copy
from itertools import count
from typing import Any

from farm.client import waits
from farm.client.attached import AttachedJob
from farm.client.backlog import Lane
from farm.client.callbacks import CallbackThread
from farm.client.cancelling import Cancelling
from farm.client.endings import error_at
from farm.client.flow import USUAL, Flow
from farm.client.future import Future, Origin, fail
from farm.client.loop import Loop, shut_down
from farm.client.mapping import Chunk
from farm.client.nest import Nest
from farm.client.questions import check_question
from farm.client.replies import Reply
from farm.client.slots import SlotCount
from farm.client.waiting import Waiting, runs_of
from farm.errors import ConfigError, FarmError, UnknownTask
from farm.model import Payload, TaskId, job_id
from farm.protocol import messages as m
from farm.transport import Credentials

__all__ = ["Connection"]

_FORKED = (
    "this client belongs to the process that this one was forked from; make a client of your own "
    "after the fork"
)
_all: "weakref.WeakSet[Connection]" = weakref.WeakSet()


class Connection:
    """One session, served by one daemon thread.

    ``may_block`` says whether a submit in this thread may wait for room. ``on_epoch`` is called on
    the IO thread with each new epoch of the coordinator, ``on_ended`` once when that thread ends;
    ``nest``: the tasks of this process submit others. ``epoch_seen`` is the highest epoch so far.
    ``cancels`` ends tasks; ``sharing`` says where large payloads are written.
    """

    error_at = staticmethod(error_at)

    def __init__(
        self,
        credentials: Credentials,
        python: str,
        *,
        may_block: Callable[[], bool] = lambda: True,
        on_epoch: Callable[[int], object] | None = None,
        on_ended: Callable[[], object] | None = None,
        nest: Nest | None = None,
        flow: Flow = USUAL,
    ) -> None:
        self.address = credentials.address
        self.forked = False
        self.callbacks = CallbackThread()
        self.cancels = Cancelling(
            lambda send: self._ask(lambda request, now: send(request, self._loop.session, now)),
            lambda: self.has_ended or self.forked,
            self.is_current_thread,
        )
        identity = os.urandom(16), os.urandom(16), os.urandom(16)
        self._session = identity[0]
        self._waiting = Waiting(self._origin(self._session))
        self._loop = Loop(
            credentials,
            flow.session(python, waits_for_room=nest is None),
            flow.messages_hwm,
            identity,
            waiting=self._waiting,
            may_block=may_block,
            on_epoch=on_epoch,
            on_ended=on_ended,
            nest=nest,
        )
        self._backlog = self._loop.backlog
        self.hand_over = self._backlog.hand_over
        self.sharing, self.keep = self._loop.sharing, self._loop.sharing.keep
        self._job_numbers = count(1)
        self._named: dict[str, int] = {}  # bounded by the names that the user gives
        self._named_lock = threading.Lock()
        self.slots = SlotCount(lambda hear: self._query("status", {}, hear)).latest
        self._thread = threading.Thread(target=self._loop.run, name="farm-client", daemon=True)
        _all.add(self)
        self._thread.start()

    @property
    def epoch_seen(self) -> int:
        """The highest epoch of a coordinator so far."""
        return self._loop.epoch_seen

    @property
    def trouble(self) -> str:
        """Why there is no connection, if there is none."""
        return self._loop.line.trouble

    @property
    def error(self) -> FarmError | None:
        """Why the connection broke for good, if it did."""
        return self._loop.error

    @property
    def has_ended(self) -> bool:
        """Whether nothing goes on here any more."""
        return self._loop.ended.is_set()

    @property
    def is_shut(self) -> bool:
        """Whether it takes no more tasks."""
        return self._backlog.shut is not None

    @property
    def has_maps(self) -> bool:
        """Whether a map's results are still being taken."""
        return self._loop.maps > 0

    def is_current_thread(self) -> bool:
        """Whether this is the IO thread, which must not wait for itself."""
        return threading.current_thread() is self._thread

    def wait_opened(self, timeout: float) -> bool:
        """Wait for the first welcome, or the refusal that ``error`` has then."""
        return self._loop.opened.wait(timeout)

    # ------------------------------------------------------------ tasks

    def submit(
        self, lane: Lane, payload: Payload, key: m.TaskKey | None = None, *, block: bool
    ) -> Future[Any]:
        """Submit a task; waits for room, or raises ``Busy``."""
        future: Future[Any] = self._backlog.put(lane, payload, self._waiting.new, key, block=block)
        return future

    def submit_or_wait(
        self, lane: Lane, payload: Payload, key: m.TaskKey | None, notify: Callable[[], object]
    ) -> Future[Any] | None:
        """Submit a task; None if there is no room: ``notify`` is called when there may be."""
        future: Future[Any] | None
        future = self._backlog.put_or_wait(lane, payload, self._waiting.new, notify, key)
        return future

    def submit_again(self, group: m.Group, function: m.Function) -> Future[Any]:
        """Submit a task as another session did once, as a new one of this session."""
        self._check_process()
        # Whoever asks for this wants it to run: it is not to be told how the last one ended.
        group.keys, group.job = tuple(key for key in group.keys if key.unique), 0

        def register(counter: int) -> Future[Any]:
            group.first = counter
            return self._waiting.new(counter)

        # In its turn: what is below the floor of a later task, the farm would think it knows.
        submit = lambda now: self._loop.session.submit([group], [function], now)  # noqa: E731
        future: Future[Any] = self._backlog.before(submit, register)
        return future

    def failed(self, error: Exception) -> Future[Any]:
        """The future of a task that cannot even be submitted."""
        future: Future[Any] = Future(self._waiting.origin, self._backlog.skip())
        future.set_exception(error)
        return future

    def put_chunk(self, lane: Lane, payload: Payload, chunk: Chunk, *, block: bool) -> bool:
        """Submit a chunk of a map; False if there is no room and it may not wait."""

        def register(first: int) -> None:
            self._waiting.add_chunk(chunk, first)

        return self._backlog.put_packed(lane, payload, chunk.count, register, block=block)

    def drop_chunks(self, chunks: list[Chunk]) -> None:
        """Cancel chunks, without waiting to hear whether it worked."""
        for chunk in chunks:
            chunk.dropped = True
        if not self.forked:
            self.cancels.tasks([(self._session, chunk.first, chunk.count) for chunk in chunks])

    def map_begun(self) -> None:
        """A map will submit more as its results are taken: the connection stays until its end."""
        if self._backlog.shut is not None:
            raise self._backlog.shut()
        self._after(lambda _: self._loop.count_maps(1))

    def map_ended(self) -> None:
        """A map will submit nothing more."""
        self._after(lambda _: self._loop.count_maps(-1))

    def check_queue(self, name: str) -> None:
        """Raise ``ConfigError`` if the farm has told which queues it has, and this is none."""
        known = self._loop.session.queues
        if known and name not in known:
            from difflib import get_close_matches  # noqa: PLC0415 - for the message only

            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
            raise ConfigError(f"there is no queue {name!r}; {hint}")

    def busy(self, lane: Lane) -> Exception:
        """What is raised when there is no room for such tasks and no waiting."""
        return self._backlog.busy(lane.queue)

    def own_runs(self, futures: Sequence[Future[Any]]) -> list[m.TaskRun]:
        """The tasks of futures of this session, as runs."""
        return runs_of(self._session, futures)

    def _origin(self, session: bytes) -> Origin:
        return Origin(session, self.cancels.future, self.callbacks, self.query)

    # ------------------------------------------------------------ jobs, others' tasks, questions

    def open_job(self, name: str) -> int:
        """Begin a job; its number."""
        number = next(self._job_numbers)
        self._check_process()
        self._backlog.before(lambda now: self._loop.session.open_job(number, name, now))
        return number

    def named_job(self, name: str) -> int:
        """The number of the open job of this name that the client's own submits join."""
        with self._named_lock:
            number = self._named.get(name)
            if number is None:
                number = self._named[name] = self.open_job(name)
            return number

    def seal_job(self, number: int) -> None:
        """No more tasks will join the job."""
        self._after(lambda now: self._seal(number, now))

    def _seal(self, number: int, now: float) -> None:
        self._loop.session.seal_job(number, self._loop.job_tasks.pop(number, 0), now)

    def job_id(self, number: int) -> str:
        """The id of one of our jobs."""
        return job_id(self._session, number)

    def attach_task(self, task: TaskId) -> Future[Any]:
        """A future for any task: ours if it is on the way, else one that follows it."""
        if task.session == self._session and (found := self._waiting.find(task.counter)):
            return found
        future: Future[Any] = Future(self._origin(task.session), task.counter)

        def follow(request: int, now: float) -> None:
            self._waiting.follow(future, task.session)
            self._loop.session.attach(request, [(*task, 1)], "", now)

        def hear(info: m.JobInfo) -> None:
            if info.error:
                self._waiting.fail_followed([(*task, 1)], info.error)

        if (error := self._ask(follow, hear).error) is not None:
            fail([future], lambda _: copy(error))
        return future

    def attach_job(self, job: str, timeout: float) -> AttachedJob:
        """Follow a job by id or name; raises ``UnknownTask`` if there is none."""
        attached = AttachedJob(self._origin, self._waiting.follow)
        reply = self._ask(
            lambda request, now: self._loop.session.attach(request, [], job, now),
            attached.learn,
            lasting=True,
        )
        info = self._wait(reply, timeout)
        if info.error:
            raise UnknownTask(info.error)
        return attached

    def query(self, what: str, arguments: dict[str, Any], timeout: float) -> Any:
        """Ask a question about the farm; raises ``FarmError`` if it is wrong."""
        return self._data(self._query(what, arguments, None), timeout)

    def _data(self, reply: Reply, timeout: float) -> Any:
        answer = self._wait(reply, timeout)
        if answer.error:
            raise FarmError(answer.error)
        return answer.data

    def drain_host(self, host: str, timeout: float) -> Any:
        """Have a host finish what it has and leave; raises ``FarmError`` if it is not there."""

        def ask(request: int, now: float) -> None:
            self._loop.session.ask(m.DrainHost(request, host), now)

        return self._data(self._ask(ask), timeout)

    def _query(
        self, what: str, arguments: dict[str, Any], hear: Callable[[Any], None] | None
    ) -> Reply:
        check_question(what, arguments)
        return self._ask(
            lambda request, now: self._loop.session.query(request, what, arguments, now), hear
        )

    def _ask(
        self,
        send: Callable[[int, float], None],
        hear: Callable[[Any], None] | None = None,
        *,
        lasting: bool = False,
    ) -> Reply:
        """Have ``send(request, now)`` called on the IO thread, and ``hear`` with the answer."""
        reply = self._loop.replies.expect(hear, lasting=lasting)
        if not self._after(lambda now: send(reply.request, now)):
            reply.set(None, self.error or RuntimeError("the client was shut down"))
        return reply

    def _wait(self, reply: Reply, timeout: float) -> Any:
        answer = reply.wait(timeout)
        if answer is None:
            raise ConnectionError(
                f"the farm at {self.address} did not answer within {timeout:g} s"
                + (f": {self.trouble}" if self.trouble else "")
            )
        return answer

    # ------------------------------------------------------------ the end

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until no task is on the way; whether none is."""
        loop = self._loop
        idle = lambda: not (loop.session.open or len(loop.backlog))  # noqa: E731
        return waits.wait(self._wait_until, idle, timeout)

    def wait_acknowledged(self, timeout: float | None = None) -> bool:
        """Wait until the farm has accepted every task; whether it has."""
        loop = self._loop
        return self._wait_until(
            lambda: not (loop.session.unacknowledged or len(loop.backlog)), timeout
        )

    def _wait_until(self, done: Callable[[], bool], timeout: float | None) -> bool:
        event = threading.Event()
        if not self._after(lambda _: self._loop.waits.append((done, event))):
            return True
        return event.wait(timeout)

    @property
    def submitted(self) -> int:
        """A number that is greater after each task that was submitted."""
        return self._backlog.next_counter

    def shut(self) -> None:
        """Take no more tasks, but for maps that have begun; what was taken goes on."""
        self._backlog.shut = shut_down
        self.seal_named()

    def seal_named(self) -> None:
        """No more tasks will join the jobs that single submits have joined."""
        with self._named_lock:
            numbers = list(self._named.values())
            self._named.clear()
        for number in numbers:
            self.seal_job(number)

    def leave(self) -> None:
        """End when nothing is on the way any more and no map goes on; at once, after a fork."""
        if not self.forked:
            self.shut()
            self._after(lambda _: setattr(self._loop, "leaving", True))

    def end(self, *, at_once: bool = False) -> None:
        """End now: what is on the way stays with the farm, whoever waits here gets an error."""
        self.shut()
        self._after(lambda _: setattr(self._loop, "done" if at_once else "ending", True))

    def give_up(self, error: FarmError) -> None:
        """End now, and have everything that waits fail with this error."""
        self._after(lambda _: setattr(self._loop, "fatal", error))

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end of the IO thread; whether it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _after(self, command: Callable[[float], None]) -> bool:
        """Have the IO thread call this after all that was submitted; False if it has ended."""
        self._check_process()
        return self._backlog.after(command)

    def _check_process(self) -> None:
        if self.forked:
            raise RuntimeError(_FORKED)


def _after_fork() -> None:
    for connection in list(_all):
        connection.forked = True
        connection._backlog.after_fork(lambda: RuntimeError(_FORKED))  # noqa: SLF001 - our own
    _all.clear()


os.register_at_fork(after_in_child=_after_fork)
