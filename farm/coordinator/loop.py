"""The reactor: sockets, clock and journal around the core, on one thread.

Each turn waits, drains the sockets without blocking and up to a bound, tells the core what was
committed and what time it is, hands its changes to the journal and sends what could not be sent.
No message ends the loop: one on which the core raises is a bug, which is logged and counted, and
costs its sender the connection. A journal that failed ends the process, for what it promised can
only be recovered from disk.
"""

import logging
import time
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

from farm.coordinator.blobs import BlobFolder
from farm.coordinator.gathering import Release
from farm.coordinator.heap import Heap
from farm.coordinator.journal import Journal
from farm.coordinator.metrics import Counters
from farm.coordinator.settings import ExitCode
from farm.core import Core
from farm.identity import TRUSTED, Identity
from farm.logs import Seldom
from farm.model import Blob, Payload
from farm.protocol.messages import HostHello, Message, Report, Shares, Submit
from farm.protocol.records import Record
from farm.store import Append, Delete, DropFunctions, PutFunction
from farm.transport import Connection, Poller, Router, Waker

if TYPE_CHECKING:
    from farm.coordinator.gate import Gate

__all__ = ["Loop", "ShellPort"]

logger = logging.getLogger("farm.coordinator")

TURN_MESSAGES = 256
"""The most messages taken from one socket in one turn."""
BATCH_MESSAGES = 64
"""The most taken from one socket before the other has its turn."""
IDLE_TASKS = 8
"""With no more tasks open, and none to place, this thread may wait for a quick commit."""
RETRY_SECONDS = 0.01
"""How soon a message that could not be sent is tried again."""
BUG_SECONDS = 0.25
"""How long a tick that raised is not tried again."""
LINGER_SECONDS = 0.5
"""How long its last messages have to leave."""


class ShellPort:
    """The core's port to the sockets and the journal of this process."""

    def __init__(
        self,
        routers: Sequence[Router],
        journal: Journal,
        counters: Counters,
        blobs: BlobFolder | None = None,
    ) -> None:
        self.stopped = ""
        """Why the core said that this process must not serve."""
        self.epoch_heard = 0
        """An epoch above its own that it has heard of."""
        self._routers: dict[str, Router] = {router.side: router for router in routers}
        self._journal = journal
        self._counters = counters
        self._seldom = Seldom(logger)
        self._blobs = blobs

    def send(self, peer: Hashable, message: Message) -> None:
        """See ``farm.core.port``."""
        if isinstance(peer, Connection):
            if self._blobs is not None:
                message = self._blobs.outgoing(peer.shares, message)
            self._routers[peer.side].send(peer, message)

    def close(self, peer: Hashable) -> None:
        """See ``farm.core.port``."""
        if isinstance(peer, Connection):
            _note_gone(peer)
            self._routers[peer.side].close(peer)

    def identity(self, peer: Hashable) -> Identity:
        """See ``farm.core.port``."""
        return peer.identity if isinstance(peer, Connection) else TRUSTED

    def persist(self, ref: int, record: Record) -> None:
        """See ``farm.core.port``."""
        self._journal.append(Append(ref, record))

    def prune(self, refs: Sequence[int]) -> None:
        """See ``farm.core.port``."""
        self._journal.append(Delete(refs))

    def keep_function(self, digest: bytes, name: str, data: bytes) -> None:
        """See ``farm.core.port``."""
        self._journal.append(PutFunction(digest, name, data))

    def drop_functions(self, digests: Sequence[bytes]) -> None:
        """See ``farm.core.port``."""
        self._journal.append(DropFunctions(digests))

    def release(self, blobs: Sequence[str]) -> None:
        """See ``farm.core.port``."""
        self._journal.append(Release(blobs))

    def read(self, blob: Blob) -> Payload:
        """See ``farm.core.port``."""
        return blob if self._blobs is None else self._blobs.read(blob)

    def load(self, ref: int) -> None:
        """See ``farm.core.port``."""
        self._journal.read(ref)

    def fetch(self, ref: int) -> Record | None:
        """See ``farm.core.port``."""
        return self._journal.fetch(ref)

    def warn(self, text: str) -> None:
        """See ``farm.core.port``."""
        self._seldom.warning(text)

    def stop(self, reason: str, epoch: int = 0) -> None:
        """See ``farm.core.port``."""
        self.stopped = self.stopped or reason
        self.epoch_heard = max(self.epoch_heard, epoch)

    def counters(self) -> dict[str, int | float]:
        """What this process counts about itself."""
        return self._counters.snapshot()


class Loop:
    """Runs until it is told to stop, or cannot go on; ``run`` returns the exit code."""

    def __init__(  # noqa: PLR0913 - the parts of a process
        self,
        core: Core,
        port: ShellPort,
        journal: Journal,
        waker: Waker,
        routers: tuple[Router, Router],
        counters: Counters,
        blobs: BlobFolder | None = None,
        *,
        gate: "Gate | None" = None,
    ) -> None:
        self._gate = gate
        self._core = core
        self._port = port
        self._journal = journal
        self._waker = waker
        self._hosts, self._clients = routers
        self._counters = counters
        self._blobs = blobs
        self._stopping = False
        self._committed = journal.committed
        self._failing = ""
        self._not_before = 0.0
        self._heap = Heap()
        self._bugs = Seldom(logging.getLogger("farm.coordinator"))
        self._poller = Poller()
        self._wakes = waker.fileno()
        self._poller.register(self._wakes)
        self._poller.register(self._hosts.socket)
        self._reading_clients = True
        self._read_clients(wanted=True)

    def stop(self) -> None:
        """Stop after this turn; may be called from a signal handler."""
        self._stopping = True
        self._waker.wake()

    def run(self) -> ExitCode:
        """Serve. Everything that was acknowledged is committed when this returns."""
        while True:
            self._turn(self._timeout())
            if self._journal.fatal is not None:
                logger.error("the coordinator ends: %s", self._journal.fatal)
                return ExitCode.JOURNAL
            if self._port.stopped:
                logger.error("the coordinator ends: %s", self._port.stopped)
                self._leave()
                return ExitCode.STEPPED_DOWN
            if self._stopping:
                return self._stop()

    @property
    def _has_news(self) -> bool:
        return self._hosts.has_news or self._clients.has_news

    def _timeout(self) -> float:
        """Seconds until something has to be done in any case."""
        if self._journal.committed != self._committed or self._has_news:
            return 0.0
        if self._hosts.backlog or self._clients.backlog:
            return RETRY_SECONDS
        now = time.monotonic()
        deadline = self._core.next_deadline()
        due = now + 60.0 if deadline is None else max(deadline, self._not_before)
        if self._gate is not None:
            due = min(due, self._gate.next_deadline())
        return min(due, self._journal.due, now + 60.0) - now

    def _turn(self, timeout: float) -> None:
        journal = self._journal
        if journal.behind is self._reading_clients:
            self._read_clients(wanted=not self._reading_clients)
        # Rounded up: a deadline that is a fraction of a millisecond away is no reason to spin.
        milliseconds = max(0, int(timeout * 1000 + 0.999))
        ready = self._poller.poll(milliseconds, self._hosts.quiet, self._clients.quiet)
        self._counters.turns += 1
        if self._wakes in ready:
            self._waker.clear()
        if self._gate is not None:  # before what revoked keys have sent
            now = time.monotonic()
            if ended := self._gate.step(now):
                self._call(None, self._core.on_revoked, ended, now)
        if self._has_news:
            self._take(self._hosts.receive(0), time.monotonic())
            self._take(self._clients.receive(0), time.monotonic())
        self._drain([one for one in (self._hosts, self._clients) if one.socket in ready])
        now = time.monotonic()
        if self._places_first:
            self._tick(now)
        # Now, so that the disk works while the rest of the turn goes on.
        journal.hand_over(now, idle=self._idle)
        self._hear_journal(now)
        self._tick(now)
        journal.hand_over(now)
        if self._hosts.backlog or self._clients.backlog:
            self._hosts.flush()
            self._clients.flush()
        if self._blobs is not None:
            self._blobs.sweep(now)

    @property
    def _idle(self) -> bool:
        """Whether hardly a task is open, and none waits to be placed."""
        ledger = self._core.ledger
        return ledger.open_tasks <= IDLE_TASKS and not ledger.queues.ring

    @property
    def _places_first(self) -> bool:
        """Whether there is a task to place, and so little else that a commit may be done here."""
        return self._poller.woken and bool(self._core.ledger.queues.ring)

    def _read_clients(self, *, wanted: bool) -> None:
        """Listen to clients or not: while the disk is behind, they wait in their sockets."""
        self._reading_clients = wanted
        if wanted:
            self._poller.register(self._clients.socket)
        else:
            self._poller.unregister(self._clients.socket)

    def _drain(self, ready: list[Router]) -> None:
        """Take what has arrived, from hosts and clients by turns."""
        if self._poller.woken:
            for router in ready:
                self._take(router.receive(1, ready=True), time.monotonic())
            return
        for turn in range(TURN_MESSAGES // BATCH_MESSAGES):
            for router in tuple(ready):
                arrived = router.receive(BATCH_MESSAGES, ready=not turn)
                if len(arrived) < BATCH_MESSAGES:
                    ready.remove(router)
                if arrived:
                    self._take(arrived, time.monotonic())
            if not ready:
                return

    def _take(self, arrived: Sequence[tuple[Connection, Any]], now: float) -> None:
        for connection, message in arrived:
            if message is None:
                _note_gone(connection)
                if self._blobs is not None:
                    self._blobs.note_gone()
                self._call(connection, self._core.on_closed, connection, now)
            elif connection.open:
                kind = type(message)
                if kind is HostHello:
                    if self._gate is not None and self._gate.invited(connection, message):
                        continue
                    self._note_host(connection, message)
                elif kind is Shares:
                    connection.shares = message.own
                    continue
                elif self._blobs is not None and (kind is Submit or kind is Report):
                    self._blobs.adopt(connection.shares, message)
                self._call(connection, self._core.receive, connection, message, now)

    def _tick(self, now: float) -> None:
        deadline = self._core.next_deadline()
        if deadline is not None and now >= max(deadline, self._not_before):
            self._call(None, self._core.on_tick, now)
            self._heap.note(self._core.dropped_bytes, now)

    def _hear_journal(self, now: float) -> None:
        """Tell the core what is committed and loaded."""
        if (failing := self._journal.failing) != self._failing:
            self._failing = failing
            self._call(None, self._core.on_short, failing, now)
        if (committed := self._journal.committed) != self._committed:
            self._committed = committed
            self._call(None, self._core.on_committed, committed, now)
        for ref, record in self._journal.take_loaded():
            self._call(None, self._core.on_loaded, ref, record, now)

    def _call(
        self, connection: Connection | None, function: Callable[..., object], *arguments: object
    ) -> None:
        """Call the core; if that raises, the loop goes on without this connection."""
        try:
            function(*arguments)
        except Exception as error:
            self._counters.bugs += 1
            what = f"{function.__name__} of {type(arguments[-2]).__name__}" if connection else ""
            self._bugs.warning(f"a bug: {what or function.__name__} raised {error!r}")
            logger.debug("where it was raised", exc_info=True)
            if connection is None:
                self._not_before = time.monotonic() + BUG_SECONDS
            elif connection.open:
                self._port.close(connection)
                self._call(None, self._core.on_closed, connection, time.monotonic())

    def _note_host(self, connection: Connection, hello: HostHello) -> None:
        connection.label = hello.name
        logger.info("a host connected", extra={"host": hello.name, "slots": hello.slots})

    def _stop(self) -> ExitCode:
        """Commit what is in hand, answer it, say Bye."""
        self._call(None, self._core.on_last_commit, time.monotonic())
        self._journal.close()
        if self._journal.fatal is not None:
            logger.error("the last commit failed: %s", self._journal.fatal)
            return ExitCode.JOURNAL
        now = time.monotonic()
        self._hear_journal(now)
        self._tick(now)
        self._call(None, self._core.on_stopping, now)
        self._leave()
        return ExitCode.OK

    def _leave(self) -> None:
        for router in (self._hosts, self._clients):
            router.shut(LINGER_SECONDS)


def _note_gone(connection: Connection) -> None:
    if connection.label:
        logger.info("a host is gone", extra={"host": connection.label})
        connection.label = ""
