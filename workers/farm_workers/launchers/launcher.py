"""The launcher: a child process ``ssh`` for each host, and one loop that hears them all.

Nothing here blocks on one host: what ``ssh`` says is read as it comes, orders are smaller than a
pipe, and no more than ``CONNECTING_MAX`` hosts are connected to at the same time.
"""

import contextlib
import os
import random
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from farm.descriptors import raise_file_limit
from farm.transport import Waker
from farm_workers.launchers.hosts import HostEntry
from farm_workers.launchers.orders import DRAIN, LINE_BYTES_MAX, STOP, Said
from farm_workers.launchers.ssh import TOKEN, command
from farm_workers.launchers.watch import Watch

if TYPE_CHECKING:
    from io import BufferedIOBase

__all__ = ["Launcher", "Planned"]

CONNECTING_MAX = 16
LINES_KEPT = 20
"""Of what ``ssh`` and the agent say, to tell afterwards why they have ended."""
LOOK_SECONDS = 0.5
STOP_SECONDS = 3.0
"""How long hosts have to end when they are to stop at once."""
READ_BYTES = 1 << 16


class Planned(msgspec.Struct, frozen=True):
    """A host, and the line that its agent is told, which may have its token."""

    entry: HostEntry
    line: bytes


class _Run:
    """One child process ``ssh``."""

    def __init__(self, planned: Planned, folder: Path) -> None:
        environment = {k: v for k, v in os.environ.items() if k != TOKEN}
        self.process = subprocess.Popen(
            command(planned.entry, folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the launcher, which tells the agents
        )
        self.last: deque[str] = deque(maxlen=LINES_KEPT)
        self.ended: set[str] = set()
        self._rest = {"out": b"", "err": b""}
        pipes = self.process.stdin, self.process.stdout, self.process.stderr
        self._orders, out, err = [cast("BufferedIOBase", pipe) for pipe in pipes]
        self.streams = {"out": out, "err": err}
        for stream in (self._orders, out, err):
            os.set_blocking(stream.fileno(), False)
        self.tell(planned.line)

    def tell(self, line: bytes) -> None:
        """Write to the agent, if it is there."""
        with contextlib.suppress(OSError, ValueError):
            os.write(self._orders.fileno(), line)

    def read(self, which: str) -> list[str] | None:
        """The lines that have come; None if there is nothing now. ``ended`` has what is over."""
        try:
            data = os.read(self.streams[which].fileno(), READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        rest = self._rest[which] + data
        if not data:
            if which in self.ended:
                return None
            self.ended.add(which)
            rest += b"\n" if rest else b""
        *lines, rest = rest.split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            lines, rest = [*lines, rest], b""
        self._rest[which] = rest
        return [line.decode("utf-8", "replace").rstrip("\r") for line in lines]

    def close(self) -> None:
        """Close the pipes."""
        for stream in (self._orders, *self.streams.values()):
            with contextlib.suppress(OSError):
                stream.close()


class Launcher:
    """Starts and keeps hosts. ``changed`` is called with each that has another state.

    ``logged`` is called with a host's name and a line that its agent, or ``ssh``, has written.
    """

    def __init__(
        self,
        planned: Sequence[Planned],
        folder: Path,
        changed: Callable[[Watch], object],
        logged: Callable[[str, str], object],
    ) -> None:
        now = time.monotonic()
        self.watches = {one.entry.name: Watch(one.entry, _jitter, now) for one in planned}
        self._planned = {one.entry.name: one for one in planned}
        self._folder = folder
        self._changed = changed
        self._logged = logged
        self._runs: dict[str, _Run] = {}
        self._selector = selectors.DefaultSelector()
        self._waker = Waker()
        self._selector.register(self._waker.fileno(), selectors.EVENT_READ, None)
        self._asked = 0
        self._obeyed = 0
        self._stop_at = float("inf")

    def stop(self) -> None:
        """Drain all hosts; asked again, stop them at once. May be called by a signal handler."""
        self._asked += 1
        self._waker.wake()

    def run(self) -> bool:
        """Keep the hosts until nothing more can come of any; whether none has failed."""
        raise_file_limit()  # each has three pipes
        try:
            while self._runs or not all(watch.over for watch in self.watches.values()):
                self._turn()
        finally:
            for run in self._runs.values():
                _end(run.process)
                run.close()
            self._selector.close()
            self._waker.close()
        return all(watch.state != "failed" for watch in self.watches.values())

    @property
    def stopped_at_once(self) -> bool:
        """Whether it was asked twice to stop."""
        return self._obeyed > 1

    def _turn(self) -> None:
        for key, _ in self._selector.select(LOOK_SECONDS):
            if key.data is None:
                self._waker.clear()
            elif key.data[0] in self._runs:
                self._hear(*key.data)
        now = time.monotonic()
        self._obey(now)
        for name, run in list(self._runs.items()):
            if self.watches[name].silent(now) or now >= self._stop_at:
                _end(run.process)
            if run.process.poll() is not None:
                self._ended(name, run)
        self._start(now)

    def _start(self, now: float) -> None:
        connecting = sum(watch.state == "connecting" for watch in self.watches.values())
        for name, watch in self.watches.items():
            if connecting >= CONNECTING_MAX:
                return
            if not watch.wants_start or now < watch.due or name in self._runs:
                continue
            watch.started(now)
            self._changed(watch)
            connecting += 1
            try:
                run = self._runs[name] = _Run(self._planned[name], self._folder)
            except OSError as error:
                what = f"ssh cannot be started here: {error.strerror}; install the OpenSSH client"
                watch.fail(what, now)
                self._changed(watch)
                continue
            for which, stream in run.streams.items():
                self._selector.register(stream, selectors.EVENT_READ, (name, which))

    def _hear(self, name: str, which: str) -> bool:
        """Take what has come from one pipe; whether there may be more."""
        run, watch = self._runs[name], self.watches[name]
        lines = run.read(which)
        if which in run.ended:
            with contextlib.suppress(KeyError):
                self._selector.unregister(run.streams[which])
        for line in lines or ():
            if which == "err":
                run.last.append(line)
                self._logged(name, line)
                continue
            # What a login prints is none of ours, however deep it nests.
            with contextlib.suppress(msgspec.MsgspecError, RecursionError):
                watch.hears(msgspec.json.decode(line, type=Said), time.monotonic())
                self._changed(watch)
        return lines is not None

    def _ended(self, name: str, run: _Run) -> None:
        """A child has ended: hear what it has said, and see what follows."""
        for which, stream in run.streams.items():
            while self._hear(name, which):
                pass
            with contextlib.suppress(KeyError):
                self._selector.unregister(stream)
        run.close()
        del self._runs[name]
        watch = self.watches[name]
        watch.ended(run.process.returncode, list(run.last), time.monotonic())
        self._changed(watch)

    def _obey(self, now: float) -> None:
        """Do what was asked for since the last turn."""
        while self._obeyed < min(self._asked, 2):
            self._obeyed += 1
            order = DRAIN if self._obeyed == 1 else STOP
            for name, watch in self.watches.items():
                if watch.leave(now) and name in self._runs:
                    self._runs[name].tell(order)
                self._changed(watch)
            if order == STOP:
                self._stop_at = now + STOP_SECONDS


def _jitter() -> float:
    return random.uniform(0.5, 1.5)  # noqa: S311 - nobody gains by guessing it


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a child, which ends what it has started."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
