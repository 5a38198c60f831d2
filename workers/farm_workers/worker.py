"""The worker process: receives slices, runs their tasks one by one, says how they ended.

Promises: whatever a task raises is that task's outcome, ``SystemExit`` and ``KeyboardInterrupt``
included, and the rest of the slice goes on. The shared page says which item is running, written
before the item begins, so that the end of this process is the matter of one item only. Without
its agent the process ends.
"""

import contextlib
import os
import signal
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec

from farm.blobs import Blobs
from farm.errors import ConfigError, PayloadError
from farm.model import Blob, Payload, TaskId, Token
from farm.payload import SourceIsStale, load_call, load_function, open_items
from farm.protocol.messages import BATCH_BYTES
from farm.task import TaskContext, set_source
from farm_workers import soft_limit
from farm_workers.cgroups import Group
from farm_workers.channel import (
    READING,
    Failed,
    Folder,
    FunctionData,
    Note,
    Pipe,
    Ready,
    Retired,
    Setup,
)
from farm_workers.fuse import Fuse
from farm_workers.host_pace import SLICE_SECONDS
from farm_workers.host_slices import EXIT_PIPE, Slice
from farm_workers.host_slots import FUNCTIONS_PER_WORKER
from farm_workers.initializer import initialize
from farm_workers.memory import tree_bytes
from farm_workers.nested import Nested
from farm_workers.outcomes import Dumped, Outcomes, Raised, explained, payload_of, raised
from farm_workers.page import Page
from farm_workers.process_state import ProcessState
from farm_workers.retrying import must_end
from farm_workers.soft_limit import SoftLimit
from farm_workers.uploads import Uploads

if TYPE_CHECKING:
    from farm.client.client import Client

__all__ = ["EXIT_INITIALIZER", "run"]

EXIT_INITIALIZER = 3
"""The initializer raised, or a module could not be imported."""
PROGRESS_SECONDS = 0.1
"""A task's progress is sent no more often than this."""
LARGE_BYTES = 1 << 16
"""Payloads above this size are counted, and flushed before there are many."""
FEW = 64
"""A packed slice of more items is of tiny ones, and a call more for each would be felt."""
_OUR_FILES = {__file__, soft_limit.__file__}
_SMALL = frozenset({int, float, complex, bool, type(None)})
_ATOMS = _SMALL | {str, bytes}

Function = Callable[..., Any]


def run(pipe: Pipe, page: Page) -> int:
    """Be a worker until the agent closes the pipe; returns the exit code."""
    try:
        setup = pipe.get()
        if not isinstance(setup, Setup):
            return EXIT_PIPE
        try:
            initialize(setup)
        except BaseException as error:  # noqa: BLE001 -- whatever users' code raises
            _flush_prints()
            told = f"the initializer raised {type(error).__name__}: {error}"
            pipe.put(Failed(str(error) if type(error) is ConfigError else told))
            return EXIT_INITIALIZER
        state = ProcessState()  # the initializer's work is here to stay
        pipe.put(Ready())
        with closing(Worker(pipe, page, setup, state)) as worker:
            worker.serve()
    except EOFError:
        return 0
    except (OSError, ValueError, msgspec.MsgspecError):
        return EXIT_PIPE
    finally:
        _flush_prints()
    return 0


def _flush_prints() -> None:
    """What tasks printed appears when their slice is over; tasks may have closed the streams."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


class Worker:
    """Runs slices; one in each process."""

    def __init__(self, pipe: Pipe, page: Page, setup: Setup, state: ProcessState) -> None:
        self._pipe = pipe
        self._state = state
        self._restored_at = float("-inf")
        self._words, self._clock = page.words, time.monotonic_ns  # tasks may replace that one
        self._host = setup.host
        self._outcomes = outcomes = Outcomes(pipe, lambda: self._disowned)
        self._disowned = False
        # The last FUNCTIONS_PER_WORKER used, as the host counts them.
        self._functions: OrderedDict[bytes, FunctionData | Function] = OrderedDict()
        self._part: Slice | None = None
        self._context: TaskContext | None = None
        self._note: Note | None = None
        self._noted_at = 0.0
        self._urgent = False  # something is to be done after this item
        self._fresh = setup.initializer is None  # no code of users has run here, but of imports
        self._used = False  # tasks have run here
        self._retired = False
        self._large_bytes = 0  # of large payloads that wait
        self._soft_limit = SoftLimit(page.words)
        self._uploads = Uploads(setup.uploads)
        self._fuse = Fuse(Group(*setup.group) if setup.group else None)
        self._nested = Nested(setup, page.words, lambda: self._part, outcomes, self._soft_limit)
        set_source(self._current, self._client)
        os.register_at_fork(after_in_child=self._disown)

    def serve(self) -> None:
        """Run what comes, until the worker retires; raises when the pipe ends."""
        while not self._retired:
            message = self._uploads.next(self._pipe)
            if message is None:  # its modules are of an upload that nobody needs any more
                self._retired = True
                self._outcomes.say(Retired())
            elif isinstance(message, Slice):
                self._run(message)
                _flush_prints()
                self._outcomes.finish(more=self._pipe.waiting)
                self._restore(message)
            elif isinstance(message, FunctionData):
                self._functions[message.hash] = message
                self._functions.move_to_end(message.hash)
                if len(self._functions) > FUNCTIONS_PER_WORKER:
                    self._functions.popitem(last=False)
            elif isinstance(message, Folder):
                blobs = Blobs.for_results(message.root, message.own, message.prefix)
                self._outcomes.blobs = blobs
        self._outcomes.flush()

    def close(self) -> None:
        """Nothing runs here any more."""
        if not self._disowned:
            self._nested.close()
            self._uploads.close()

    def _is_too_large(self, part: Slice) -> bool:
        """Whether a task would have to pay for the memory, and processes, that others left here."""
        limit, used = part.memory_limit, self._used
        self._used, half = True, (limit or 0) // 2
        return limit is not None and used and tree_bytes(os.getpid(), half) > half

    def _restore(self, part: Slice) -> None:
        """Undo what a slice has done to this process."""
        if self._disowned:
            os._exit(0)
        now = self._clock() / 1e9
        if part.count > 1 and now < self._restored_at + SLICE_SECONDS and not part.devices:
            return
        self._restored_at = now
        if (why := self._state.restore()) and not self._retired:
            sys.stderr.write(f"farm: this worker is replaced: {why}\n")
            self._retired = True
            self._outcomes.say(Retired())

    def _run(self, part: Slice) -> None:
        self._outcomes.begin(part)
        if self._is_too_large(part):
            self._retire(part)
            return
        self._fuse.set(part.memory_limit)
        if part.devices:  # put back as all else that a task changes
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(part.devices)
        self._words[1] = self._clock()  # now: the function itself may be what kills
        self._words[0] = part.offset + 1
        if part.offset < self._words[2]:
            self._outcomes.skip(part.first)
            return
        try:
            try:
                function = self._function(part.function)
            except SourceIsStale:
                self._retire(part)
                return
            finally:
                self._fresh = False
            work, bare = self._open(part)
        except BaseException as error:  # noqa: BLE001 -- users' __setstate__ and modules
            self._outcomes.entries += [self._raised(error, part)] * part.count
            return
        if part.soft_time_limit is None:
            function = self._soft_limit.known(function, often=part.packed and part.count > FEW)
        else:
            function = self._soft_limit.wrap(function, part.soft_time_limit)
        self._context, self._part = None, part
        self._urgent = part.alone or part.limited
        self._noted_at = 0.0
        try:
            if part.packed:
                done = self._run_packed(part, function, work, bare=bare)
            else:
                done = self._run_each(part, function, work)
        finally:
            self._part = None
            self._soft_limit.done()
        self._end_notes()
        if done < part.count:
            self._outcomes.skip(part.first + done)

    def _open(self, part: Slice) -> tuple[list[Any], bool]:
        """The payloads or items of a slice, and whether the items are bare."""
        work: list[Any] = part.payloads
        blobs = self._outcomes.blobs
        if blobs is not None and Blob in set(map(type, work)):
            work = [blobs.secure(p, READING) if type(p) is Blob else p for p in work]
        if part.packed:
            return open_items(work[0], part.start, part.start + part.count)
        return work, False

    def _run_each(self, part: Slice, function: Function, payloads: list[Payload]) -> int:
        """One payload for each task; returns how many have run."""
        words, clock, load = self._words, self._clock, load_call
        dump = self._dump if part.memory_limit is None else self._dump_widely
        append = self._outcomes.entries.append
        for mark, data in enumerate(payloads, part.offset + 1):
            words[1] = clock()
            words[0] = mark
            if mark <= words[2]:
                return mark - part.offset - 1
            try:
                args, kwargs = load(data)
                append(dump(function(*args, **kwargs)))
            except BaseException as error:  # noqa: BLE001 -- whatever the task raises
                append(self._raised(error, part))
            if self._urgent:
                self._attend(part)
        return part.count

    def _run_packed(self, part: Slice, function: Function, items: list[Any], *, bare: bool) -> int:
        """Many items of one payload, ``bare`` as ``open_items`` says; returns how many have run.

        The clock, a fifth of what an item costs, is read for each only if there is a time limit.
        """
        words, append = self._words, self._outcomes.entries.append
        wide = part.memory_limit is not None  # what may be large is written beside the limit
        dump, atoms = (self._dump_widely, _SMALL) if wide else (self._dump, _ATOMS)
        timed, mark = part.limited, part.offset
        for args in items:
            mark += 1
            if timed:
                words[1] = self._clock()
            words[0] = mark
            if words[2] and mark <= words[2]:  # there is no limit, mostly
                return mark - part.offset - 1
            try:
                value = function(args) if bare else function(*args)
                if type(value) in atoms:
                    append(value)
                else:  # it may be changed by an item after this one
                    data = dump(value)
                    append(data if isinstance(data, Raised) else Dumped(data))
            except BaseException as error:  # noqa: BLE001 -- whatever the task raises
                append(self._raised(error, part))
            if self._urgent:
                self._attend(part)
        return part.count

    def _dump(self, value: Any) -> Payload | Raised:
        """The payload of a value, or why it has none."""
        data = payload_of(value, self._outcomes.blobs)
        if type(data) is Raised:
            return data._replace(final=self._part is None or must_end(PayloadError(), self._part))
        if len(data) > LARGE_BYTES:
            self._large_bytes += len(data)
            self._urgent = True
        return data

    def _dump_widely(self, value: Any) -> Payload | Raised:
        """The same after a task with a memory limit; its result may become a file in memory."""
        if self._outcomes.blobs is not None:
            self._fuse.widen()
        return self._dump(value)

    def _attend(self, part: Slice) -> None:
        """After an item: say what should not wait for the others."""
        if self._disowned:  # a child that a task forked came back from it
            _flush_prints()
            os._exit(0)
        self._nested.settle()
        if part.memory_limit is not None:
            self._weigh(part)
        self._urgent = at_once = part.alone or part.limited
        self._end_notes()
        if at_once or self._large_bytes > BATCH_BYTES:
            self._large_bytes = 0
            self._outcomes.flush()

    def _weigh(self, part: Slice) -> None:
        """After an item with a memory limit."""
        if self._fuse.is_blown:
            # Whatever it made of that: it ends as if the kernel had chosen this process.
            _flush_prints()
            os.kill(os.getpid(), signal.SIGKILL)
        if part.count > 1:
            self._fuse.set(part.memory_limit)  # for the next item

    # ------------------------------------------------------------ functions and errors

    def _function(self, digest: bytes) -> Function:
        """A function by its hash, loaded when first used."""
        known = self._functions[digest]
        self._functions.move_to_end(digest)
        self._uploads.enter(digest, known, fresh=self._fresh)
        if isinstance(known, FunctionData):
            known = load_function(known.data, fresh=self._fresh)
            self._functions[digest] = known
        return known

    def _retire(self, part: Slice) -> None:
        """This process is no place for a task: it needs a new one."""
        self._retired = True
        self._outcomes.say(Retired())  # first, or it would be given the task again
        self._outcomes.skip(part.first)

    def _raised(self, error: BaseException, part: Slice) -> Raised:
        """An exception without the worker's own frames at its beginning."""
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename in _OUR_FILES:
            trace = trace.tb_next
        BaseException.with_traceback(error, trace)  # one of a frozen class takes no attribute
        return raised(explained(error, self._host), final=must_end(error, part))

    # ------------------------------------------------------------ the task's view of itself

    def _current(self) -> TaskContext | None:
        part, context = self._part, self._context
        if part is None:
            return None
        at = self._words[0] - 1 - part.offset
        item = part.item + at
        if context is None or context.item != item:
            limit = part.time_limit
            began = time.time() - (self._clock() - self._words[1]) / 1e9
            context = self._context = TaskContext(
                str(TaskId(part.session, part.first + at)),
                item,
                part.attempt,
                Token(part.key[0], part.attempt),
                None if limit is None else began + limit,
                report=self._progress,
            )
        return context

    def _progress(self, context: TaskContext, done: float, total: float, note: str) -> None:
        part = self._part
        if part is None or context is not self._context:
            return  # said by a task that is over
        at = self._words[0] - 1 - part.offset
        if context.item != part.item + at:
            return
        now = self._clock() / 1e9
        counter = part.first + at
        self._urgent = True
        self._note = Note(part.key, counter, done, total, note)
        if now >= self._noted_at + PROGRESS_SECONDS:
            self._noted_at = now
            self._end_notes()

    def _end_notes(self) -> None:
        """Send the last word of a task, if it is still unsaid."""
        note, self._note = self._note, None
        if note is not None:
            self._outcomes.say(note)

    def _client(self) -> "Client":
        """The client of the running task."""
        self._urgent = True
        return self._nested.client()

    def _disown(self) -> None:
        """This is a process that a task forked: it speaks for nobody."""
        self._disowned = self._urgent = True
        self._outcomes.unlock()
