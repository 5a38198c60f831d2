"""A journal over a store that does what the test says."""

import threading

from farm.coordinator.journal import Journal
from farm.store import Append
from farm.store.base import Opened
from tests.unit.store_records import record_of

SECONDS = 20  # no wait takes as long, unless something is wrong


class FakeStore:
    """A durable store that does what the test says, when it says so."""

    durable = True

    def __init__(self):
        self.short = ""
        self.wants_maintenance = False
        self.commits = []
        self.attempts = []
        self.rows = {}
        self.errors = []  # raised by the next commits, one each
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Semaphore(0)
        self.maintained = threading.Semaphore(0)
        self.maintain_errors = []
        self.read_error = None

    def open(self, epoch_floor, wall_ms):
        return Opened(1, bytes(16), 0)

    def functions(self):
        return iter(())

    def records(self):
        return iter(())

    def commit(self, changes):
        self.attempts.append(list(changes))
        self.begun.release()
        assert self.go.wait(SECONDS)
        if self.errors:
            raise self.errors.pop(0)
        self.commits.append(list(changes))
        for change in changes:
            if isinstance(change, Append):
                self.rows[change.ref] = change.record

    def read(self, ref):
        if self.read_error:
            raise self.read_error
        return self.rows.get(ref)

    def maintain(self):
        self.maintained.release()
        if self.maintain_errors:
            raise self.maintain_errors.pop(0)

    def close(self):
        pass


class Shell:
    """A journal, its store, and a way to wait for its news."""

    def __init__(self, **settings):
        self.store = FakeStore()
        self._news = threading.Condition()
        self.journal = Journal(self.store, self._notify, **settings)

    def _notify(self):
        with self._news:
            self._news.notify_all()

    def until(self, condition):
        with self._news:
            assert self._news.wait_for(condition, SECONDS)

    def append(self, *refs, size=1):
        for ref in refs:
            self.journal.append(Append(ref, record_of(size)))

    def hold(self):
        """From now on commits begin but do not end."""
        self.store.go.clear()

    def begun(self):
        assert self.store.begun.acquire(timeout=SECONDS)
