"""The journal: group commit, in order.

Promises: what is appended is committed in the order of appending, in as few transactions as the
disk's speed makes of it: while one commit runs, the next gathers, and what nobody waits for, such
as deliveries, travels with what somebody does. ``committed`` moves only after
the store has said that the records are durable. A full disk delays and loses nothing; a failed
one ends in ``fatal``, after which nothing more is committed and the process has to end.

A thread of its own commits. A few small rows on a quick disk cost less than waking that thread and
being woken by it: those the reactor commits itself, when it has nothing else to do.
"""

import logging
import threading
import time
from collections.abc import Callable
from math import inf

from farm.coordinator.blobs import BlobFolder
from farm.coordinator.gathering import PATIENCE_SECONDS, Gathering, Release
from farm.errors import StoreError
from farm.model import BLOB_BYTES
from farm.protocol.records import Record
from farm.store import Append, Store, StoreFailed, StoreStalled
from farm.store.base import Change

__all__ = ["Journal"]

logger = logging.getLogger(__name__)


BEHIND_CHANGES = 4096
"""More changes than this waiting for the disk: the store is behind."""
BEHIND_BYTES = 64 << 20
"""More payload bytes than this waiting for the disk: the store is behind."""
RETRY_SECONDS = (0.05, 2.0)
"""The first and the longest wait before a stalled commit is tried again; it doubles between."""
USUAL_SHARE = 0.2
"""How much the last commit counts in how long one takes."""
QUICK_SECONDS = PATIENCE_SECONDS
"""Where a commit usually takes less, the reactor may wait for one."""

Loaded = tuple[int, Record | None]


def _changes(batch: "list[Change | Release]") -> list[Change]:
    """What a batch has for the store."""
    return [change for change in batch if not isinstance(change, Release)]


def _records(batch: "list[Change | Release]") -> list[Record]:
    return [change.record for change in batch if isinstance(change, Append)]


class Journal:
    """Commits the core's changes to a store, and reads records back, off the reactor thread.

    All methods are for the reactor thread. ``notify`` is called from other threads whenever
    ``committed``, ``failing``, ``fatal`` or ``take_loaded()`` have news; it must not block.
    A store in memory needs no threads, and waits for nobody: it has what is appended, and ``read``
    is done on return.
    """

    def __init__(
        self,
        store: Store,
        notify: Callable[[], None],
        blobs: BlobFolder | None = None,
        *,
        behind_changes: int = BEHIND_CHANGES,
        behind_bytes: int = BEHIND_BYTES,
        retry_seconds: tuple[float, float] = RETRY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.committed = 0
        """The last ref that is durable, of those appended here, if any can be."""
        self.fatal: StoreError | None = None
        """Why nothing will ever be committed again; the process has to end."""
        self._store = store
        self._notify = notify
        self._blobs = blobs
        self._behind_changes = behind_changes
        self._behind_bytes = behind_bytes
        self._retry_seconds = retry_seconds
        self._stalled = ""
        self._clock = clock
        # Of a commit; written by whoever commits. Not quick before one was.
        self._usual_seconds = QUICK_SECONDS
        self._first = 0  # the first ref appended here, 0 before there is one
        self._gathering = Gathering()  # of this turn of the loop
        # Under the lock. Bounded by `behind`, above which the shell stops reading from clients,
        # plus what the hosts' credit lets them report meanwhile.
        self._lock = threading.Lock()
        # One for each thread, so that a commit wakes nobody who has nothing to do.
        self._to_commit = threading.Condition(self._lock)
        self._to_read = threading.Condition(self._lock)
        self._to_maintain = threading.Condition(self._lock)
        self._waiting: list[Change | Release] = []
        # Changes and bytes of this life in all: appended, of these handed over, and committed.
        # The last are written by whoever commits: they may be read without the lock.
        self._appended_changes = self._appended_bytes = 0
        self._handed = self._done = (0, 0)
        # One entry for each message that the core wants to dispatch and has not in memory.
        self._wanted: list[int] = []
        self._loaded: list[Loaded] = []
        self._upkeep_due = self._upkeep_runs = False
        self._closing = False
        self._writing_over = False
        self._threads: list[threading.Thread] = []
        if store.durable:
            self._start_threads()

    def _start_threads(self) -> None:
        for name, run in (
            ("farm-journal", self._commit_all),
            ("farm-journal-reader", self._read_all),
            ("farm-journal-upkeep", self._maintain_all),
        ):
            # Daemons: a coordinator that ends by an error must not hang on them.
            thread = threading.Thread(target=self._guard, args=(run,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    # ------------------------------------------------------------ for the reactor

    @property
    def behind(self) -> bool:
        """Whether so much waits for the disk that nothing more should be read from clients."""
        changes, size = self._done
        return (
            self._appended_changes - changes > self._behind_changes
            or self._appended_bytes - size > self._behind_bytes
        )

    @property
    def failing(self) -> str:
        """Why commits do not succeed just now, or soon will not; empty if all is well."""
        return self._stalled or self._store.short

    @property
    def due(self) -> float:
        """When ``hand_over`` is to be called again, monotonic seconds."""
        return self._gathering.due

    def append(self, change: Change | Release) -> None:
        """Gather a change; ``hand_over`` at the end of the turn sends it on its way."""
        if not self._store.durable:
            if isinstance(change, Release):
                self._release([change])
            else:
                self._store.commit([change])
            return
        size = self._gathering.add(change, self._usual_seconds)
        self._appended_changes += 1
        self._appended_bytes += size
        if isinstance(change, Append) and not self._first:
            self._first = change.ref

    def hand_over(self, now: float | None = None, *, idle: bool = False) -> None:
        """Give what was gathered to the journal thread.

        With a time (monotonic seconds), a little for which nobody waits is kept until ``due``,
        to be committed together with what somebody does wait for. ``idle``: the caller has nothing
        else to do, so a commit that will be quick may be done on return.
        """
        gathering = self._gathering
        batch = gathering.changes
        if not batch or (now is not None and gathering.may_wait(now)):
            return
        self._gathering = Gathering()
        if idle and gathering.little and self._quick:
            self._guard(lambda: self._commit_here(batch))
        else:
            self._give(batch, gathering.size)

    def _give(self, batch: list[Change | Release], size: int) -> None:
        if size >= BLOB_BYTES and self._blobs is not None:
            self._blobs.begin_sync(_records(batch))
        with self._lock:
            if self.fatal is None:  # otherwise nobody would ever take it
                self._waiting.extend(batch)
                self._handed = self._appended_changes, self._appended_bytes
                self._to_commit.notify()

    @property
    def _quick(self) -> bool:
        """Whether the reactor may commit: at once, soon over, and nobody else is writing."""
        return (
            self._handed == self._done
            and self._usual_seconds < QUICK_SECONDS
            and not (self._upkeep_due or self._upkeep_runs)
            and not self.failing
            and self.fatal is None
        )

    def _commit_here(self, batch: list[Change | Release]) -> None:
        try:
            self._commit_once(_changes(batch))
        except StoreStalled:
            self._give(batch, 0)  # the journal thread tries again until it can
        else:
            self._handed = self._appended_changes, self._appended_bytes
            self._note_done(batch, self._handed)

    def read(self, ref: int) -> None:
        """Ask for a record; ``take_loaded`` has it later, in the order of asking.

        A record that is not committed yet is waited for.
        """
        if not self._store.durable:
            self._loaded.append((ref, self._store.read(ref)))
            self._notify()
            return
        with self._lock:
            self._wanted.append(ref)
            self._to_read.notify()

    def fetch(self, ref: int) -> Record | None:
        """A committed record, at once; None if it was deleted, or cannot be read: see ``fatal``."""
        try:
            return self._store.read(ref)
        except StoreError as error:
            self._fail(error)
            return None

    def take_loaded(self) -> list[Loaded]:
        """Every record read since the last call, with its ref; None if it was deleted."""
        if not self._loaded:
            return []
        with self._lock:
            loaded, self._loaded = self._loaded, []
        return loaded

    def close(self) -> None:
        """Commit everything gathered, then stop the threads; idempotent.

        If the store is stalled, one more attempt is made; if that fails too, ``fatal`` says so.
        """
        self.hand_over()
        with self._lock:
            self._closing = True
            self._to_commit.notify()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    # ------------------------------------------------------------ on the threads

    def _guard(self, run: Callable[[], None]) -> None:
        try:
            run()
        except Exception as error:
            if not isinstance(error, StoreError):
                logger.exception("the journal failed")
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        with self._lock:
            if self.fatal is None:
                if not isinstance(error, StoreError):
                    error = StoreFailed(f"the journal failed: {error!r}")
                self.fatal = error
            self._waiting = []
            self._wanted.clear()
            for condition in (self._to_commit, self._to_read, self._to_maintain):
                condition.notify()
        self._notify()

    def _commit_all(self) -> None:
        try:
            while True:
                with self._lock:
                    self._to_commit.wait_for(
                        lambda: self._waiting or self._closing or self.fatal is not None
                    )
                    if self.fatal is not None or not self._waiting:
                        return
                    batch, self._waiting = self._waiting, []
                    handed = self._handed
                self._commit(batch)
                self._release(batch)
                self._note_done(batch, handed)
                self._notify()
        finally:
            with self._lock:
                self._writing_over = True
                self._to_read.notify()
                self._to_maintain.notify()

    def _synced(self, batch: list[Change | Release]) -> list[Change]:
        """What a batch has for the store; the blobs that it names are durable."""
        changes = _changes(batch)
        if self._blobs is not None:
            self._blobs.sync(_records(batch))
        return changes

    def _release(self, batch: list[Change | Release]) -> None:
        for change in batch:
            if isinstance(change, Release) and self._blobs is not None:
                self._blobs.release(change.blobs)

    def _commit(self, batch: list[Change | Release]) -> None:
        """Commit a batch, however often that takes; raises ``StoreFailed`` if it never will."""
        changes = self._synced(batch)
        pause, longest = self._retry_seconds
        while changes:
            last = self._closing
            try:
                self._commit_once(changes)
            except StoreStalled as stalled:
                if last:
                    raise StoreFailed(f"closed without a last commit: {stalled}") from stalled
                if not self._stalled:
                    logger.warning("commits wait: %s", stalled)
                self._stalled = str(stalled)
                with self._lock:
                    self._upkeep_due = True  # it may free the space that is missing
                    self._to_maintain.notify()
                self._notify()
            else:
                if self._stalled:
                    logger.warning("commits go on")
                    self._stalled = ""
                return
            with self._lock:
                self._to_commit.wait_for(lambda: self._closing or self.fatal is not None, pause)
                if self.fatal is not None:
                    raise self.fatal
            pause = min(2 * pause, longest)

    def _commit_once(self, changes: list[Change]) -> None:
        began = self._clock()
        self._store.commit(changes)
        self._usual_seconds += USUAL_SHARE * (self._clock() - began - self._usual_seconds)

    def _note_done(self, batch: list[Change | Release], handed: tuple[int, int]) -> None:
        with self._lock:
            self._note_committed(batch)
            self._done = handed
            if self._wanted:
                self._to_read.notify()
            if self._store.wants_maintenance:
                self._upkeep_due = True
                self._to_maintain.notify()

    def _note_committed(self, batch: list[Change | Release]) -> None:
        for change in reversed(batch):
            if isinstance(change, Append):
                self.committed = change.ref  # refs only grow
                return

    def _read_all(self) -> None:
        while True:
            with self._lock:
                self._to_read.wait_for(self._can_read)
                if self.fatal is not None or not self._wanted:
                    return
                ref = self._wanted[0]
            record = self._store.read(ref)
            with self._lock:
                if self._wanted:  # a failure elsewhere empties it
                    del self._wanted[0]
                self._loaded.append((ref, record))
            self._notify()

    def _can_read(self) -> bool:
        if self.fatal is not None or self._writing_over:
            return True
        # Records of before this journal began are there; later ones when they are committed.
        return bool(self._wanted) and (
            self._wanted[0] <= self.committed or self._wanted[0] < (self._first or inf)
        )

    def _maintain_all(self) -> None:
        while True:
            with self._lock:
                # A store that is short may stay without commits, so it is asked again in time.
                self._to_maintain.wait_for(
                    lambda: self._upkeep_due or self._writing_over or self.fatal is not None,
                    self._retry_seconds[1] if self._store.short else None,
                )
                if self._writing_over or self.fatal is not None:
                    return
                self._upkeep_due, self._upkeep_runs = False, True
            if self.failing and self._blobs is not None:
                self._blobs.give_up_free()
            try:
                self._store.maintain()
            except StoreStalled as stalled:
                logger.warning("maintenance waits: %s", stalled)
            self._upkeep_runs = False
            self._notify()
