"""A client of a chaos run, as a process: it submits, notes what it is told, takes up after others.

``python -m tests.chaos.client FOLDER ADDRESS NAME SEED LIFE PARENT``. Its journal, a file of lines,
has every acknowledgement and every outcome as they arrive on the wire, before the session hears of
them: what a user could have acted upon. Jobs that an earlier life began are read by name.
"""

import os
import random
import sys
import time
from pathlib import Path

import farm
from farm.client.session import Session
from farm.model import Ending
from farm.parent import watch_parent
from farm.payload import load_exception, load_value
from farm.protocol.messages import Accepted, Results
from tests.chaos import tasks
from tests.packed import load_values

__all__ = ["JOBS_AT_ONCE", "main"]

JOBS_AT_ONCE = 5
LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 120.0
PADDING_BYTES = 150_000
ATTACH_TIMES = 5


class Notes:
    """The lines of one process, written before anything is done about what they say."""

    def __init__(self, path):
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)

    def write(self, *words):
        os.write(self._fd, (" ".join(map(str, words)) + "\n").encode("utf-8"))

    def listen(self):
        """Write down what the coordinator says, from now on."""
        receive = Session.receive

        def noting(session, message, now):
            if isinstance(message, Accepted):
                for first, count in message.runs:
                    self.write("ack", session.session.hex(), first, count, time.monotonic())
            elif isinstance(message, Results):
                for entry in message.entries:
                    self._outcomes(entry)
            receive(session, message, now)

        Session.receive = noting

    def _outcomes(self, entry):
        now = time.monotonic()
        values = _values(entry)
        for index in range(entry.count):
            name = f"{entry.session.hex()}-{entry.first + index}"
            self.write("out", name, entry.ending.name, *values[index], now)


def _values(entry):
    """Of each task of an entry: the id, token and nonce of the execution that it ended with."""
    if entry.ending is Ending.OK:
        found = load_values(entry.payloads[0]) if entry.packed else map(load_value, entry.payloads)
        return [value[:4] for value in found]
    if entry.ending is Ending.EXCEPTION:
        return [load_exception(payload).args[:4] for payload in entry.payloads]
    return [("-", 0, 0, "-")] * entry.count


class Program:
    """Some jobs at a time, until the file ``stop`` is there; then the rest of them."""

    def __init__(self, folder, client, name, chance, notes):
        self.folder = folder
        self.client = client
        self.name = name
        self.chance = chance
        self.notes = notes
        self.jobs = {}  # by name, all futures of each
        self.made = 0

    def run(self, life):
        self.take_up()
        while not (self.folder / "stop").exists() or self.jobs:
            while len(self.jobs) < JOBS_AT_ONCE and not (self.folder / "stop").exists():
                self.submit(f"{self.name}.{life}.{self.made}")
                self.made += 1
            time.sleep(LOOK_SECONDS)
            for job in [job for job, all_of in self.jobs.items() if all(f.done() for f in all_of)]:
                self.read(job, self.jobs.pop(job))

    def take_up(self):
        """Read the jobs that an earlier life began and nobody has read."""
        begun = (self.folder / "jobs").iterdir()
        for path in sorted(begun, key=lambda path: path.stat().st_mtime_ns):
            if path.name.startswith(self.name + ".") and not path.read_text():
                try:
                    self.jobs[path.name] = list(self.attach(path.name))
                except farm.UnknownTask:
                    self.notes.write("nojob", path.name)
                    path.write_text("never accepted")

    def attach(self, job):
        """A job by its name, as often as it takes: the coordinator may be away for long."""
        for _ in range(ATTACH_TIMES):
            try:
                return self.client.job(job)
            except ConnectionError:
                self.notes.write("late", job)
        raise ConnectionError(f"nobody answers for job {job}")

    def submit(self, job):
        (self.folder / "jobs" / job).touch()
        chance = self.chance
        view = self.client.options(name=job)
        kind = chance.random()
        if kind < 0.45:
            made = view.submit_many(tasks.work, self._seconds(0.004, chance.randint(20, 150)))
        elif kind < 0.6:
            made = view.submit_many(tasks.work, self._seconds(3.0, chance.randint(1, 4)))
        elif kind < 0.7:
            many = view.map(tasks.work, self._seconds(0.01, 100), chunksize=25)
            self.notes.write("mapped", job, sum(1 for _ in self._suffer(many)))
            made = self.attach(job)
        elif kind < 0.82:
            made = view.options(max_losses=0).submit_many(tasks.once, self._seconds(0.3, 8))
        elif kind < 0.92:
            failing = view.options(retries=2, backoff="50ms")
            made = failing.submit_many(tasks.fail, self._seconds(0.05, 8))
        else:
            padding = os.urandom(PADDING_BYTES)
            some = [(seconds, padding) for seconds in self._seconds(0.1, 4)]
            made = view.submit_many(tasks.work_padded, some)
        self.jobs[job] = list(made)

    def _seconds(self, most, count):
        return [self.chance.uniform(0.0, most) for _ in range(count)]

    @staticmethod
    def _suffer(results):
        """The items of a map; that a worker was lost too often is no fault of the farm."""
        try:
            yield from results
        except farm.WorkerLost:
            return

    def read(self, job, futures):
        """The outcomes as a program sees them."""
        for future in futures:
            if future.cancelled():
                self.notes.write("read", future.id, "CANCELLED", "-", 0, 0, "-")
                continue
            error = future.exception()
            if error is None:
                value = future.result()
                self.notes.write("read", future.id, "OK", *value[:4])
            elif isinstance(error, ValueError):
                self.notes.write("read", future.id, "EXCEPTION", *error.args[:4])
            else:
                self.notes.write("read", future.id, type(error).__name__, "-", 0, 0, "-")
        (self.folder / "jobs" / job).write_text("read")


def main(arguments):
    folder, address, name, seed, life, parent = arguments
    watch_parent(lambda: os._exit(1), None, int(parent))
    notes = Notes(Path(folder, "clients", f"{name}.{life}"))
    notes.listen()
    chance = random.Random(f"{seed} {name} {life}")
    client = farm.Client(address, connect_timeout=PATIENCE_SECONDS)
    with client:
        Program(Path(folder), client, name, chance, notes).run(life)
    notes.write("done", time.monotonic())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
