"""The scheduler as a process: stands by, takes its turn, and works until it is told to stop.

Of several schedulers on one state file one decides, and when that is gone another does within a
second: whoever stands by reads along, so that only what changed last is left to be read.
"""

import gc
import logging
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path

from farm.client.client import Client
from farm.errors import FarmError
from farm.logs import setup
from farm.parent import watch_parent
from farm_scheduler.clock import Alarm
from farm_scheduler.loading import Loader
from farm_scheduler.service import Scheduler
from farm_scheduler.settings import SchedulerSettings
from farm_scheduler.state import State
from farm_scheduler.turns import Turn
from farm_scheduler.words import counted

__all__ = ["serve"]

logger = logging.getLogger("farm.scheduler")

RETRY_SECONDS = 1.0
LEAVE_SECONDS = 1.0
"""How long the farm may take to acknowledge what was submitted, and a goodbye."""
FOLLOW_SECONDS = 5.0
"""How often whoever stands by looks for what has changed."""


def serve(settings: SchedulerSettings) -> int:
    """Run a scheduler until it is told to stop: 0."""
    setup(settings.log_format, settings.log_level)
    sys.path[:] = list(dict.fromkeys([*sys.path, *settings.sys_path]))
    alarm, stop, hang_up = Alarm(), threading.Event(), threading.Event()

    def end(*_: object) -> None:
        stop.set()
        alarm.wake()

    def reload(*_: object) -> None:
        hang_up.set()
        alarm.wake()

    watch_parent(end, settings.parent_fd, settings.parent_pid)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        signal.signal(signal.SIGHUP, reload)
    Loader.check(settings.files)
    client = _connect(settings, alarm, stop)
    if client is None:
        return 0
    try:
        turn = Turn(Path(settings.state))
        standing = _Standing(settings, client, alarm, stop)
        if turn.take() or standing.wait(turn):
            _decide(standing.scheduler(), turn, alarm, stop, hang_up)
    finally:
        _leave(client)
    return 0


def _leave(client: Client) -> None:
    """End, even if the farm is away: what it has not acknowledged, whoever takes over submits."""
    client.connection.wait_acknowledged(LEAVE_SECONDS)
    client.connection.end()
    client.connection.join(LEAVE_SECONDS)


def _decide(
    scheduler: Scheduler,
    turn: Turn,
    alarm: Alarm,
    stop: threading.Event,
    hang_up: threading.Event,
) -> None:
    ear = turn.ear()
    alarm.watch(ear)
    try:
        scheduler.take_over()
        gc.freeze()  # what there is stays; looking through it for garbage would make fires late
        while not stop.is_set():
            if hang_up.is_set():
                hang_up.clear()
                scheduler.reload = True
            alarm.sleep(scheduler.turn())
            turn.listen(ear)
    finally:
        if scheduler.let_go():
            turn.give_back()
        scheduler.close()


def _connect(settings: SchedulerSettings, alarm: Alarm, stop: threading.Event) -> Client | None:
    """A client, as soon as there is a farm; None if there is none until it is told to stop."""
    said = False
    while not stop.is_set():
        try:
            return Client(
                settings.address,
                connect_timeout=RETRY_SECONDS,
                token=settings.token or None,
                keys=settings.keys,
            )
        except ConnectionError as error:
            if not said:
                logger.warning("%s; it is tried again until there is one", error)
            said = True
            alarm.sleep(time.time() + RETRY_SECONDS)
    return None


class _Standing:
    """Standing by; ``scheduler`` is then one that has all schedules ready."""

    def __init__(
        self, settings: SchedulerSettings, client: Client, alarm: Alarm, stop: threading.Event
    ) -> None:
        self._settings, self._client, self._alarm, self._stop = settings, client, alarm, stop
        self._ready: Scheduler | None = None
        self._said = ""

    def scheduler(self) -> Scheduler:
        """That which has followed, or else a new one."""
        return self._ready or Scheduler(self._settings, self._client, self._alarm)

    def wait(self, turn: Turn) -> bool:
        """Follow until there is nobody else; whether it is not told to stop before."""
        taken = threading.Event()

        def take() -> None:
            taken.set()
            self._alarm.wake()

        logger.info("another scheduler decides; this one stands by")
        turn.take_later(take)
        while not (taken.is_set() or self._stop.is_set()):
            self._follow()
            self._alarm.sleep(time.time() + FOLLOW_SECONDS)
        if self._stop.is_set() and self._ready is not None:
            self._ready.close()
        return not self._stop.is_set()

    def _follow(self) -> None:
        """Read along; what cannot be read is read, or complained of, when the turn has come."""
        begins = self._ready is None
        try:
            if self._ready is None:
                state = State(Path(self._settings.state), must_exist=True)
                self._ready = Scheduler(self._settings, self._client, self._alarm, state)
            count = self._ready.follow()
        except (FarmError, sqlite3.Error) as error:
            if self._ready is not None:
                self._ready.close()
                self._ready = None
            if str(error) != self._said:
                self._said = str(error)
                logger.info("nothing can be made ready: %s", error)
            return
        if begins:
            gc.freeze()
            logger.info("ready to take over %s", counted(count, "schedule"))
