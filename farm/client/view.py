"""Submitting with options: what a client and the views of it have in common."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic
from typing import Any, ParamSpec, TypeVar, Unpack

from farm.client.backlog import Lane
from farm.client.connection import Connection
from farm.client.future import Future
from farm.client.job import Job, OwnTasks
from farm.client.mapping import MapSettings, items_of, map_results
from farm.client.options import Settings, merge
from farm.errors import ConfigError, PayloadError
from farm.model import Options, Payload
from farm.payload import (
    PAYLOAD_BYTES_MAX,
    FunctionPayload,
    body_of,
    check_size,
    dump_call,
    dump_function,
)
from farm.protocol.messages import Function, TaskKey
from farm.uploads import Upload, current_upload, pack

__all__ = ["View"]

P = ParamSpec("P")
T = TypeVar("T")

LANES_MAX = 64
"""Functions that a view remembers, to have tasks of the same one travel together."""


class View:
    """Submits to a farm with certain options. Views of one client share its connection.

    Tasks that are submitted one by one through a view with a ``name`` join one job of that name,
    which is complete when the client is shut down; ``map`` and ``submit_many`` make their own.
    """

    _connection: Connection

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        owner: object,
        upload: Upload | None = None,
    ) -> None:
        self._connection = connection
        self._sharing = connection.sharing
        self._settings = settings
        self._upload = upload
        self._owner = owner  # the client lives as long as its views
        self._lanes: dict[bytes, Lane] = {}  # by function, for tasks submitted one by one

    def options(self, **options: Unpack[Options]) -> "View":
        """The same farm with other options; those not named stay as they are here.

        ``priority`` (a greater one goes first), ``retries`` after an exception, ``backoff`` before
        the first retry, ``max_losses`` of its worker, ``time_limit``, ``durable``, ``name`` of the
        job, ``result_ttl``, ``expires`` if not begun, ``delay``, ``queue``, ``concurrency_key`` of
        tasks of which the queue lets few run at a time, ``unique`` and ``idempotency_key``: a task
        with a key that another has, while that is pending or for a day, ends as that does and
        does not run; and ``block``: whether to wait, or raise ``Busy``, when the farm or the queue
        is full. Durations are seconds, ``timedelta`` or ``"30s"``.
        """
        settings = merge(self._settings, options)
        return View(self._connection, settings, self._owner or self, self._upload)

    def upload(self, path: str | os.PathLike[str], *, exclude: Sequence[str] = ()) -> "View":
        """The same farm, whose workers have the modules in a folder for tasks that come this way.

        The folder is read now; a package goes in under its name, any other folder by what is in
        it. Its modules come before those of the host, for these tasks and for what they submit,
        and are gone from a worker soon after its last such task. Left out are ``.git`` and all
        else that begins with a dot, ``__pycache__``, virtual environments, ``node_modules``, and
        what ``exclude`` names, as ``["data", "*.csv"]``. Raises ``ConfigError`` if it is too much:
        64 MiB in 10,000 files, 16 MiB packed.
        """
        return View(self._connection, self._settings, self._owner or self, pack(path, exclude))

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` on the farm.

        Waits while the farm is full, or raises ``Busy`` if ``block=False``. What cannot travel
        makes the future fail with ``PayloadError``.
        """
        try:
            lane, payload, key = self._pack(fn, args, kwargs)
        except PayloadError as error:
            return self._connection.failed(error.with_traceback(None))
        return self._connection.submit(lane, payload, key, block=self._settings.block)

    async def submit_async(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """``submit`` for coroutines: waits for room without blocking the event loop.

        Returns the future once the task is on its way, to be awaited in turn. Raises ``Busy`` if
        ``block=False`` and the farm is full. A coroutine that is cancelled here has submitted
        nothing.
        """
        # Slow to import, and where there is an event loop it has been.
        from farm.client.awaiting import Awaiter  # noqa: PLC0415

        try:
            lane, payload, key = self._pack(fn, args, kwargs)
        except PayloadError as error:
            return self._connection.failed(error.with_traceback(None))
        if not self._settings.block:
            return self._connection.submit(lane, payload, key, block=False)
        while True:
            room = Awaiter()
            future = self._connection.submit_or_wait(lane, payload, key, room.add_result)
            if future is not None:
                return future
            await room

    def _pack(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Lane, Payload, TaskKey | None]:
        """A call as it travels; raises ``PayloadError`` if it cannot."""
        function = dump_function(fn)
        if (upload := self._upload or current_upload()) is not None:
            function = _with_upload(function, upload)
        lane = self._lanes.get(function.hash) or self._add_lane(function)
        payload = dump_call(args, kwargs, self._sharing.blobs)
        if len(payload) > PAYLOAD_BYTES_MAX:
            check_size(len(payload), "the argument list")
        return lane, payload, self._key(fn, args, kwargs) if self._settings.key else None

    def _key(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> TaskKey | None:
        """The key of a call, if it is to have one; raises ``PayloadError`` or ``ConfigError``."""
        option = self._settings.key
        if option is None:
            return None
        body = b"" if option.unique else body_of(fn, args, kwargs)
        return TaskKey(option.text(args, kwargs), option.unique, body)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
    ) -> Iterator[T]:
        """The results of ``fn`` for the items of the iterables, as the built-in ``map`` has them.

        Items are packed into tasks of ``chunksize``, by default of about 50 ms of work. The
        iterables may be infinite: they are read as results are taken, at most ``buffersize`` items
        ahead if it is given. ``ordered=False`` gives results as they come. Closing the iterator
        cancels the rest; ``TimeoutError`` is raised ``timeout`` seconds after the call.
        """
        if (option := self._settings.key) is not None:
            raise ConfigError(
                f"{option.option}: map packs many items into one task, so they have no keys; use "
                f"submit_many with {option.option}=a function that makes a key of an item"
            )
        if chunksize is not None and chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None:
            if not isinstance(buffersize, int):
                raise TypeError("buffersize must be an integer or None")
            if buffersize < 1:
                raise ValueError("buffersize must be None or > 0")
        deadline = None if timeout is None else monotonic() + timeout
        settings = MapSettings(chunksize, buffersize, deadline, ordered, self._settings.block)
        items = items_of(iterables)
        connection, job = self._connection, 0

        def ended() -> None:
            if connection.forked:  # it goes on where it was begun
                return
            if job:
                connection.seal_job(job)
            connection.map_ended()

        connection.map_begun()
        try:
            job = connection.open_job(self._settings.name) if self._settings.name else 0
            lane = self._lane_of_map(fn, job)
        except BaseException:
            ended()
            raise
        return map_results(connection, lane, items, settings, ended)

    def submit_many(self, fn: Callable[[Any], T], iterable: Iterable[Any], /) -> Job[T]:
        """Run ``fn(item)`` for each item, as one job; consumes the iterable before it returns.

        If the iterable raises, what was submitted is cancelled. With ``unique`` or
        ``idempotency_key``, which must be a function here, each item has the key that it makes of
        it: whoever runs the same ingest again gets the outcomes of the first time.
        """
        if (option := self._settings.key) is not None and isinstance(option.key, str):
            raise ConfigError(
                f"{option.option} is {option.key!r}, the same for every item, which would make one "
                "task of them all; give a function that makes a key of an item"
            )
        connection = self._connection
        name = self._settings.name or ""
        job = connection.open_job(name)
        futures: list[Future[T]] = []
        lane: Lane | None = None
        try:
            for item in iterable:
                try:
                    function = self._dump(fn)
                    if lane is None or lane.function.hash != function.hash:
                        lane = self._lane(function, job)
                    payload = dump_call((item,), {}, self._sharing.blobs)
                    check_size(len(payload), "the item")
                    key = self._key(fn, (item,), {})
                except PayloadError as error:
                    futures.append(connection.failed(error.with_traceback(None)))
                else:
                    block = self._settings.block
                    futures.append(connection.submit(lane, payload, key, block=block))
        except BaseException:
            connection.cancels.tasks(connection.own_runs(futures))
            raise
        finally:
            connection.seal_job(job)
        return Job(connection.job_id(job), name, OwnTasks(futures), connection.cancels.job)

    def _dump(self, fn: Callable[..., Any]) -> FunctionPayload:
        """A function as it travels, with what was uploaded; raises ``PayloadError``."""
        function = dump_function(fn)
        upload = self._upload or current_upload()
        return function if upload is None else _with_upload(function, upload)

    def _lane(self, function: FunctionPayload, job: int) -> Lane:
        message = Function(function.hash, function.name, function.data)
        lane = Lane(message, self._settings.template, job)
        self._connection.check_queue(lane.queue)
        return lane

    def _lane_of_map(self, fn: Callable[..., Any], job: int) -> Lane | PayloadError:
        """What the tasks of a map have in common, or why there will be none."""
        try:
            return self._lane(self._dump(fn), job)
        except PayloadError as error:
            return error.with_traceback(None)

    def _add_lane(self, function: FunctionPayload) -> Lane:
        if len(self._lanes) >= LANES_MAX:
            self._lanes.clear()
        name = self._settings.name
        job = self._connection.named_job(name) if name else 0
        lane = self._lanes[function.hash] = self._lane(function, job)
        return lane


def _with_upload(function: FunctionPayload, upload: Upload) -> FunctionPayload:
    digest, data = upload.wrap(function.hash, function.data)
    return FunctionPayload(digest, function.name, data)
