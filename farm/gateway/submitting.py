"""From a request to tasks that the farm has accepted."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from time import monotonic
from typing import Any, NamedTuple

import msgspec

from farm.client.backlog import Lane
from farm.client.future import Future
from farm.client.options import Settings, merge
from farm.client.relay import Relay
from farm.digest import blake2b
from farm.errors import (
    ArgumentError,
    Busy,
    ConfigError,
    FarmError,
    KeyConflict,
    PayloadError,
    UnknownFunction,
)
from farm.gateway.callers import Callers
from farm.gateway.problems import Problem, busy, busy_if_away
from farm.gateway.schemas import Call, JobRequest, TaskRequest
from farm.gateway.settings import GatewaySettings
from farm.model import DEFAULT_QUEUE, Payload, TaskId
from farm.named import NamedCall, Signature, call_text
from farm.payload import FunctionPayload, dump_call, dump_function
from farm.protocol.parts import TaskKey
from farm.registry import find, registered

__all__ = ["KEY_CHARS_MAX", "Asker", "Submitting"]

ACCEPT_SECONDS = 5.0
"""How long the farm may take to accept a task; then it is withdrawn, and the caller comes again."""
FULL_SECONDS = 1.0
"""For how long a queue that has refused is not asked again."""
LARGE_BYTES = 1 << 16
"""Arguments above this size are packed beside the event loop."""
KEY_CHARS_MAX = 150
"""Of an ``Idempotency-Key``; what it is among all keys has the caller's name before it."""
NOT_HERE = {
    "block": "a request never waits for room",
    "name": "jobs have names: POST /v1/jobs",
    "idempotency_key": "it is the header Idempotency-Key",
}
"""Options that make no sense in a request, and why."""


class Asker(NamedTuple):
    """Who asks, and what stands beside the body: the queue and the idempotency key, or nothing."""

    caller: str
    queue: str = ""
    key: str = ""


class Submitting:
    """Checks requests and submits them. What it remembers is bounded by the functions there are."""

    def __init__(self, relay: Relay, callers: Callers, settings: GatewaySettings) -> None:
        self._relay = relay
        self._callers = callers
        self._settings = settings
        self._functions: dict[str, tuple[FunctionPayload, Signature]] = {}
        # Of queues that have refused: until when nobody asks again, when to come back, and why.
        self._full: dict[str, tuple[float, float, str]] = {}
        # Tasks that are not over: those that the farm has, by the caller in whose quota they count,
        # which bounds them; and those that it is asked not to have, bounded by the credit.
        self._pending: dict[Future[Any], str] = {}
        self._withdrawn: set[Future[Any]] = set()

    @property
    def pending(self) -> int:
        """How many tasks are followed that the farm has."""
        return len(self._pending)

    @property
    def in_doubt(self) -> bool:
        """Whether it is not known yet what became of a task that was withdrawn."""
        return bool(self._withdrawn)

    def hand_over(self, other: "Submitting") -> None:
        """Have another session see when the tasks of this one, which ends, are over."""
        for future in list(self._pending):
            caller = self._pending.pop(future, None)
            if caller is not None:  # it has not ended meanwhile, in another thread
                other.follow(TaskId.parse(future.id), caller)

    def follow(self, task: TaskId, caller: str) -> None:
        """Count a task of another session until it is over, as if it were of this one."""
        self._count(self._relay.future(task), caller)

    def _count(self, future: Future[Any], caller: str) -> None:
        """Count a task of a caller, which has been reserved, until it is over."""
        self._pending[future] = caller
        future.add_done_callback(self._over)

    def _over(self, future: Future[Any]) -> None:
        """A task that the farm had is over, or this session is."""
        caller = self._pending.pop(future, None)
        if caller is not None:
            self._callers.release(caller)

    def _withdraw(self, futures: list[Future[Any]], *, keyed: bool = False) -> None:
        for future in futures:
            self._withdrawn.add(future)
            future.add_done_callback(self._withdrawn.discard)
        self._relay.withdraw(futures, keyed=keyed)

    def check_room(self, queue: str, caller: str) -> None:
        """Raise the ``Problem`` that keeps a caller from submitting now; see ``Admission``."""
        if not self._relay.connected:
            raise busy(f"the farm cannot be reached now: {self._relay.trouble}")
        self._check_queue(queue)
        self._callers.check(caller)

    def _check_queue(self, queue: str) -> None:
        full = self._relay.room(queue)
        if full is not None:
            raise busy(str(full), full.retry_after)
        if queue in self._full:
            until, back, why = self._full[queue]
            if (now := monotonic()) < until:
                raise busy(why, back - now)
            del self._full[queue]

    def _note_full(self, queue: str, full: Busy) -> Problem:
        """A queue has refused: who asks within a moment is told the same, and is not read."""
        now = monotonic()
        self._full[queue] = now + FULL_SECONDS, now + full.retry_after, str(full)
        return busy(str(full), full.retry_after)

    def functions(self) -> list[tuple[str, str, Signature]]:
        """The functions that can be run: name, summary, signature."""
        return [(one.name, one.summary, self._find(one.name)[1]) for one in registered()]

    async def task(self, request: TaskRequest, asker: Asker) -> str:
        """Submit one task; its id. Raises ``Problem``."""
        call = Call(request.args, request.kwargs)
        [task] = await self._submit(request, [("", call)], asker, None)
        return task

    async def job(self, request: JobRequest, asker: Asker) -> tuple[str, int]:
        """Submit a job; its id, and how many tasks it has. Raises ``Problem``."""
        calls = _calls(request, self._settings.max_items)
        [job] = await self._submit(request, calls, asker, request.name or "")
        return job, len(calls)

    async def _submit(
        self,
        request: TaskRequest | JobRequest,
        calls: Sequence[tuple[str, Call]],
        asker: Asker,
        name: str | None,
    ) -> list[str]:
        """Submit calls, each with what its fields are called; with a ``name``, as one job.

        Returns the ids of the tasks, or that of the job.
        """
        function, signature = self._find(request.function)
        settings = self._options(request.options, asker.queue)
        texts = [_text(signature, *call) for call in calls]
        keys = _keys(settings, asker, request.function, texts, job=name is not None)
        if sum(map(len, texts)) > LARGE_BYTES:  # files are written
            payloads = await asyncio.to_thread(self._payloads, texts)
        else:
            payloads = self._payloads(texts)
        try:
            lane = self._relay.lane(function, settings)
        except ConfigError as error:
            raise Problem(422, str(error), field="options.queue") from None
        self._check_queue(lane.queue)
        if len(calls) > 1:
            await self._check_room_for(len(calls), lane.queue)
        self._callers.reserve(asker.caller, len(calls))
        number, job = 0, ""
        try:
            if name is not None:
                number, job = self._relay.open_job(name)
                lane = lane._replace(job=number)
            ids = await self._accepted(lane, payloads, keys, asker.caller)
        except BaseException:
            self._callers.release(asker.caller, len(calls), ended=False)
            raise
        finally:
            if number:
                self._relay.seal_job(number)
        return [job] if job else ids

    def _payloads(self, texts: Sequence[bytes]) -> list[Payload]:
        return [self._relay.keep(_packed(text)) for text in texts]

    async def _check_room_for(self, tasks: int, queue: str) -> None:
        """Raise the ``Problem`` that keeps a queue from taking so many tasks as a whole."""
        with busy_if_away():
            rows = await self._relay.query("queues")
        for row in rows:
            most = row["policy"]["max_tasks"]
            if row["name"] != queue or most is None:
                continue
            if tasks > most:
                why = f"there are {tasks} tasks, and queue {queue} takes {most}: send fewer"
                raise Problem(413, why)
            more = row["open_tasks"] + tasks - most
            if more > 0:
                why = f"queue {queue} has room for {tasks - more} of {tasks} tasks"
                raise busy(why, more / row["service_rate"] if row["service_rate"] else 5.0)

    async def _accepted(
        self, lane: Lane, payloads: list[Payload], keys: list[TaskKey], caller: str
    ) -> list[str]:
        """Submit payloads and wait until the farm has them; the ids of the tasks."""
        try:
            futures = self._relay.submit(lane, payloads, keys)
        except Busy as full:
            raise busy(str(full), full.retry_after) from None
        try:
            await self._relay.accepted(futures, lane.queue, ACCEPT_SECONDS)
        except Busy as full:
            self._withdraw(futures, keyed=bool(keys))
            raise self._note_full(lane.queue, full) from None
        except BaseException:
            self._withdraw(futures, keyed=bool(keys))
            raise
        refusals = [error for one in futures if (error := self._relay.refusal(one))]
        if refusals:
            if len(futures) > 1:
                self._withdraw(futures)
            raise _refused(refusals[0])
        for future in futures:
            self._count(future, caller)
        return [future.id for future in futures]

    def _find(self, name: str) -> tuple[FunctionPayload, Signature]:
        try:
            function = find(name).function
        except UnknownFunction as error:
            raise Problem(422, str(error), field="function") from None
        known = self._functions.get(name)
        if known is None:
            made = dump_function(NamedCall(name)), Signature(function)
            known = self._functions[name] = made
        return known

    def _options(self, said: Mapping[str, Any], queue: str) -> Settings:
        """The options of a request, checked one by one to name the one that is wrong."""
        said = _with_moments(said)
        for key, value in said.items():
            field = f"options.{key}"
            if key in NOT_HERE:
                raise Problem(422, f"{key} is no option here: {NOT_HERE[key]}", field=field)
            try:
                merge(Settings(), {key: value})  # type: ignore[misc]
            except (TypeError, ConfigError) as error:
                raise Problem(422, str(error), field=field) from None
        named = said.get("queue")
        if queue and named not in {None, queue}:
            raise Problem(
                422, f"the address says {queue!r}, the body {named!r}", field="options.queue"
            )
        kept = {"result_ttl": self._settings.result_ttl}
        options: Any = {**kept, **said, "queue": queue or named or DEFAULT_QUEUE}
        try:
            return merge(Settings(), options)
        except ConfigError as error:
            raise Problem(422, str(error), field="options") from None


def _with_moments(said: Mapping[str, Any]) -> dict[str, Any]:
    """Options whose moments, texts in JSON, are what Python has for them."""
    options = dict(said)
    if isinstance(eta := options.get("eta"), str):
        try:
            options["eta"] = msgspec.convert(eta, datetime)
        except msgspec.ValidationError:
            why = f"eta is {eta!r}; write a moment with its zone, as 2030-01-31T09:00:00Z"
            raise Problem(422, why, field="options.eta") from None
    return options


def _calls(request: JobRequest, most: int) -> list[tuple[str, Call]]:
    """The calls of a job, each with what its fields are called; raises ``Problem``."""
    calls: list[tuple[str, Call]] = []
    field = "items"
    if isinstance(request.items, list):
        calls = [(f"items[{at}]", Call([item])) for at, item in enumerate(request.items)]
    if isinstance(request.arguments, list):
        field = "arguments"
        if isinstance(request.items, list):
            raise Problem(422, "there are items, too: give one of them", field=field)
        calls = [(f"arguments[{at}].", call) for at, call in enumerate(request.arguments)]
    if not calls:
        raise Problem(422, "a job has at least one task", field=field)
    if len(calls) > most:
        raise Problem(
            413,
            f"there are {len(calls)} tasks, and a job may have {most}: send several jobs",
            field=field,
        )
    return calls


def _text(signature: Signature, field: str, call: Call) -> bytes:
    """The arguments of a call as they travel; ``field`` is what they are called in the request."""
    try:
        signature.convert(call.args, call.kwargs)
    except ArgumentError as error:
        # Of an item, its one argument is the item.
        inner = error.field.removeprefix("args[0]") if field.startswith("items") else error.field
        raise Problem(422, error.message, field=field + inner) from None
    return call_text(call.args, call.kwargs)


def _packed(text: bytes) -> bytes:
    packed = dump_call((text,), {})
    assert isinstance(packed, bytes)  # noqa: S101 - it was given no files to be in
    return packed


def _keys(
    settings: Settings, asker: Asker, function: str, texts: Sequence[bytes], *, job: bool
) -> list[TaskKey]:
    """The keys of calls, if they are to have any: those of a job have its own, and a number.

    The same key of two callers is two keys.
    """
    unique, key, field = settings.key, asker.key, "Idempotency-Key"
    if unique is not None:
        if key or job:
            why = "a task has one key: leave out this, or Idempotency-Key"
            why = "unique would make one task of all of a job" if job else why
            raise Problem(422, why, field="options.unique")
        key, field = str(unique.key), "options.unique"
    if not key:
        return []
    if len(key) > KEY_CHARS_MAX or not key.isprintable():
        raise Problem(422, f"a key is {KEY_CHARS_MAX} characters at most, in a line", field=field)
    owned = f"http {asker.caller} {key}"
    if unique is not None:
        return [TaskKey(owned, unique=True)]
    return [
        TaskKey(f"{owned} {at}" if job else owned, body=_body_of(function, text))
        for at, text in enumerate(texts)
    ]


def _body_of(function: str, text: bytes) -> bytes:
    """The hash of a call, whatever the order of names in its objects."""
    sorted_text = msgspec.json.encode(msgspec.json.decode(text), order="sorted")
    return blake2b(function.encode() + b"\0" + sorted_text, digest_size=16).digest()


def _refused(error: FarmError) -> Problem:
    """What a refusal of the coordinator comes to."""
    if isinstance(error, KeyConflict):
        return Problem(409, str(error), field="Idempotency-Key")
    if isinstance(error, PayloadError):
        return Problem(413, str(error))
    if isinstance(error, ConfigError):
        return Problem(422, str(error), field="options")
    return busy(str(error), error.retry_after if isinstance(error, Busy) else 1.0)
