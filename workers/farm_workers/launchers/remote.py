"""The far end of a launcher: an agent that is kept by whoever holds its standard input.

Started by ``ssh`` as ``python -m farm_workers.launchers.remote``. One agent of a name runs on a
machine at a time. If one is there already, because its connection broke and the launcher came
back, it is kept instead of a new one; if it was told something else, it is drained first.
"""

import contextlib
import io
import os
import select
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from farm.errors import ConfigError
from farm_workers.agent import Agent
from farm_workers.launchers.orders import DRAIN, LINE_BYTES_MAX, STOP, Said, Start
from farm_workers.launchers.place import Place
from farm_workers.output import Forwarder
from farm_workers.service import serve
from farm_workers.settings import AgentSettings, ExitCode

__all__ = ["main"]

LOOK_SECONDS = 0.25
"""How often is looked how the agent is, and whether anybody keeps it."""
LAST_WORDS_SECONDS = 2.0
ENDED = frozenset({ExitCode.OK, ExitCode.CONFIG, ExitCode.REFUSED})
"""How an agent ends that nobody should start again."""
ORDERS, OUT, ERRORS = 0, 1, 2


class Log(io.TextIOBase):
    """Standard error for what logs: it must never wait for a network that stands still."""

    def __init__(self) -> None:
        self._forwarder = Forwarder()

    def write(self, text: str) -> int:
        """Have something written, unless too much waits to be."""
        if not self._forwarder.full:
            self._forwarder.put(ERRORS, text.encode("utf-8", "backslashreplace"))
        return len(text)

    def finish(self) -> None:
        """Wait a moment for what is not written yet."""
        self._forwarder.finish(LAST_WORDS_SECONDS)


class Line:
    """The connection to the launcher: orders come in, and how the agent is goes out."""

    def __init__(self) -> None:
        self.lost = False
        self._out = os.dup(OUT)
        os.dup2(ERRORS, OUT)  # what tasks print is not for the launcher to understand
        self._read = b""
        self._said: Said | None = None

    def start(self) -> Start:
        """The first line; raises ``ConfigError`` if it is none."""
        while b"\n" not in self._read:
            data = os.read(ORDERS, LINE_BYTES_MAX)
            self._read += data
            if not data or len(self._read) > 2 * LINE_BYTES_MAX:
                raise ConfigError("this is what `farm launch` runs on a host: it told it nothing")
        line, _, self._read = self._read.partition(b"\n")
        try:
            return msgspec.json.decode(line, type=Start)
        except msgspec.MsgspecError as error:
            raise ConfigError(
                f"the launcher says what this farm does not understand ({error}); bring both to the"
                " same version"
            ) from None

    def orders(self, seconds: float) -> list[bytes]:
        """What the launcher wants, within a time; ``lost`` if it has gone."""
        if self.lost:
            time.sleep(seconds)
            return []
        if select.select([ORDERS], [], [], seconds)[0]:
            data = os.read(ORDERS, LINE_BYTES_MAX)
            self._read += data
            if not data:
                self._lose()
        *lines, self._read = self._read.split(b"\n")
        self._read = self._read[:LINE_BYTES_MAX]
        return [line + b"\n" for line in lines]

    def say(self, said: Said) -> None:
        """Tell the launcher, if it is news."""
        if said == self._said or self.lost:
            return
        self._said = said
        try:
            rest = memoryview(msgspec.json.encode(said) + b"\n")
            while rest:
                rest = rest[os.write(self._out, rest) :]
        except OSError:
            self._lose()

    def _lose(self) -> None:
        """Nobody listens any more: what is still said goes nowhere."""
        self.lost = True
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in (ORDERS, OUT, ERRORS, self._out):
            os.dup2(nowhere, fd, inheritable=fd != self._out)
        os.close(nowhere)


class Keeper:
    """Keeps the agent of this process as the launcher wants it, on a thread of its own."""

    def __init__(self, line: Line, place: Place, start: Start) -> None:
        self._line = line
        self._place = place
        self._linger = start.linger
        self._agent: Agent | None = None
        self._leave = False

    def assembled(self, agent: Agent) -> None:
        """The agent is about to run."""
        self._agent = agent
        if self._leave:
            agent.stop()

    def run(self) -> None:
        """Do what the launcher says, until this process ends."""
        alone_since = None
        while True:
            for order in self._line.orders(LOOK_SECONDS):
                if order == STOP:
                    self._place.ended(ExitCode.OK)
                    os._exit(ExitCode.OK)
                if order == DRAIN:
                    self._drain()
            said, kept = self._status(), True
            with contextlib.suppress(OSError):  # no descriptors, or no disk, for a while
                if self._line.lost:
                    kept = self._place.is_kept(said)
                else:
                    self._place.keep()
            self._line.say(said)
            if kept:
                alone_since = None
                continue
            now = time.monotonic()
            alone_since = alone_since or now
            if self._linger is not None and now >= alone_since + self._linger:
                self._drain()

    def _drain(self) -> None:
        self._leave = True
        if self._agent is not None and not self._agent.status.draining:
            self._agent.stop()

    def _status(self) -> Said:
        pid = os.getpid()
        if self._agent is None:
            return Said(state="starting", pid=pid)
        status, slots = self._agent.status, self._agent.slots
        state = "works" if status.connected else "away"
        if status.trouble:
            state = "troubled"
        if status.draining or self._leave:
            state = "draining"
        return Said(state=state, text=status.trouble, pid=pid, running=status.running, slots=slots)


def _settings(start: Start) -> AgentSettings:
    """The agent's settings, in the folder and with the variables that were said."""
    os.environ.update(start.environment)
    folder = Path(start.directory or "~").expanduser()
    try:
        os.chdir(folder)
    except OSError as error:
        raise ConfigError(
            f"directory {start.directory!r} cannot be used: {error.strerror}"
        ) from None
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = list(dict.fromkeys([str(folder), *filter(None, added), *filter(None, sys.path)]))
    told: dict[str, Any] = {**start.settings, "sys_path": path}
    try:
        return msgspec.convert(told, AgentSettings)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"the launcher says what this farm does not understand ({error}); bring both to the"
            " same version"
        ) from None


def _wait_for_former(line: Line, place: Place) -> ExitCode | None:
    """Keep the agent that is there until it has ended: how, or None if another is to be started."""
    told_to_leave = False
    while not place.take():
        for order in line.orders(LOOK_SECONDS):
            told_to_leave = told_to_leave or order == DRAIN
            if order == STOP:
                place.kill_former()
                return ExitCode.OK
        if line.lost:  # the agent sees that nobody keeps it
            return ExitCode.OK
        if told_to_leave or place.told != place.found.digest:
            place.drain_former()
        place.keep()
        line.say(place.former_says())
    if told_to_leave:
        return ExitCode.OK
    same, ended = place.told == place.found.digest, place.found.ended
    return ExitCode(ended) if same and ended in ENDED else None


def _run(line: Line) -> ExitCode:
    start = line.start()
    settings = _settings(start)
    place = Place(settings.name, msgspec.json.encode(start))
    if not place.take():
        ended = _wait_for_former(line, place)
        if ended is not None:
            return ended
    keeper = Keeper(line, place, start)
    place.keep()
    threading.Thread(target=keeper.run, name="farm-keeper", daemon=True).start()
    code = ExitCode.BUG
    try:
        code = serve(settings, keeper.assembled)
    finally:
        place.ended(code)
    return code


def main() -> ExitCode:
    """Be the far end of a launcher; the exit code says how it ended."""
    sys.stderr = log = Log()
    line = Line()
    try:
        return _run(line)
    except ConfigError as error:
        log.write(f"farm: {error}\n")
        return ExitCode.CONFIG
    finally:
        log.finish()


if __name__ == "__main__":
    sys.exit(main())
