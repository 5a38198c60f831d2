"""The agent: connection, worker processes and clock around the host machine, on one thread.

Each turn waits, drains the connection, the workers and the fork server without blocking and to a
bound, and lets the machine do what is due; workers are answered before the coordinator. Nothing
that a message, a worker or a bug in the machine does ends the loop.
"""

import logging
import time
from collections.abc import Callable, Container
from typing import NamedTuple

from farm.blobs import Sharing
from farm.logs import Seldom
from farm.protocol.messages import Beat, FromHost, HostWelcome, Rejected, Report
from farm.protocol.messages_host import JOINED
from farm.transport import Credentials, Naps, Poller, Waker
from farm.transport.naps import LOOK_SECONDS
from farm.transport.options import MESSAGES_HWM
from farm_workers.channel import FunctionData
from farm_workers.disk import Disk
from farm_workers.host import Host
from farm_workers.host_slices import HostSettings
from farm_workers.link import Link
from farm_workers.pool import Pool
from farm_workers.settings import ExitCode

__all__ = ["Agent", "AgentStatus"]

logger = logging.getLogger("farm.host")

LOSSES_MAX = 16
"""How many reasons for having no connection are said between two welcomes."""
START_SECONDS = 1.0
"""A coordinator that is started together with its host may take so long: until then it is no news
that nothing answers."""
BUG_SECONDS = 0.25
"""How long a tick that raised is not tried again."""


class AgentStatus(NamedTuple):
    """How an agent is; ``trouble``: why it gets no work, or cannot do it."""

    connected: bool
    draining: bool
    trouble: str
    running: int


class _Port:
    """The machine's port to this process; see ``HostPort``."""

    def __init__(self, pool: Pool, link: Link, sharing: Sharing) -> None:
        self._pool = pool
        self._link = link
        self._sharing = sharing
        self.spawn = pool.spawn
        self.stop = pool.stop
        self.kill = pool.kill
        self.retire = pool.retire
        self.ran = pool.ran
        self.interrupt = pool.interrupt
        self.measure = pool.measure
        self.ask = pool.ask
        self.run = pool.run

    def send(self, message: FromHost) -> None:
        if type(message) is Report:
            message = self._sharing.outgoing(message)
        elif type(message) is Beat and message.stamp:
            message.load |= self._link.counters
        self._link.send(message)

    def disconnect(self, reason: str) -> None:
        logger.warning("the connection is closed: %s", reason)
        self._link.drop(time.monotonic())

    def function(self, slot: int, hash: bytes, name: str, data: bytes) -> None:  # noqa: A002
        self._pool.put(slot, FunctionData(hash, name, data))

    def limit(self, slot: int, ordinal: int) -> None:
        self._pool.limit(slot, ordinal, time.monotonic())


class Agent:
    """One host. ``run`` returns the exit code."""

    def __init__(
        self,
        settings: HostSettings,
        credentials: Credentials,
        make_pool: Callable[[Poller], Pool],
        *,
        instance: bytes,
        hwm: int | None = None,
    ) -> None:
        now = time.monotonic()
        self.name = settings.name
        self.slots = settings.slots
        self._credentials = credentials
        self._naps = Naps(now, time.time())
        self._waker = Waker()
        self._poller = Poller()
        self._poller.register(self._waker.fileno())
        self._link = Link(credentials, self._poller, now, hwm or MESSAGES_HWM)
        self._pool = make_pool(self._poller)
        self._sharing = Sharing()
        port = _Port(self._pool, self._link, self._sharing)
        self._host = Host(settings, port, instance=instance, now=now)
        self._disk = Disk()
        if self._pool.uploads.trouble:
            logger.warning("%s", self._pool.uploads.trouble)
        self._stopping = False
        self._said = ("", False, False, "")  # failing, connected, draining, trouble
        self._losses: set[str] = set()  # why it was lost, since it was welcome: each is said once
        self._news_at = now + START_SECONDS
        self._not_before = 0.0
        self._bugs = Seldom(logger)

    @property
    def status(self) -> AgentStatus:
        """How it is now; from any thread."""
        host = self._host
        trouble = host.unusable or host.broken or self._disk.trouble
        return AgentStatus(host.connected, host.draining, trouble, host.running)

    def stop(self) -> None:
        """Drain and leave; may be called from a signal handler, and from any thread."""
        self._stopping = True
        self._waker.wake()

    def last_words(self, seconds: float) -> None:
        """Pass on what the workers have printed, and leave no group; from any thread."""
        self._pool.outputs.last_words(seconds)
        self._pool.fuses.close()
        self._pool.uploads.close()

    def run(self) -> ExitCode:
        """Be a host until it is drained or refused."""
        try:
            while not self._host.drained:
                self._turn()
                rejected = self._host.rejected
                if rejected is not None and not rejected.retry and not self._host.epoch:
                    logger.error("this host is refused: %s", rejected.message)
                    return ExitCode.REFUSED
            logger.info("this host is drained")
            return ExitCode.OK
        finally:
            self._pool.close()
            self._link.close()
            self._waker.close()

    def _turn(self) -> None:
        timeout = self._timeout(time.monotonic())
        # Rounded up: a deadline that is a fraction of a millisecond away is no reason to spin.
        ready = self._poller.poll(max(0, int(timeout * 1000 + 0.999)), self._link.quiet)
        now = time.monotonic()
        if reason := self._naps.slept(now, time.time()):
            self._renew(reason, now)
        for source in ready:
            if source == self._waker.fileno():
                self._waker.clear()
            elif isinstance(source, int):
                self._call(self._pool.on_event, source, self._host, now)
        self._hear(now, ready)
        if now >= self._pool.due:
            self._call(self._pool.on_time, self._host, now)
        if now >= self._disk.next_deadline():
            self._call(self._host.on_trouble, self._disk.look(now), now)
        if self._stopping and not self._host.draining:
            self._call(self._host.drain, now)
        if now >= self._not_before and not self._call(self._host.on_tick, now):
            self._not_before = now + BUG_SECONDS
        self._pool.listen(now, wanted=not self._host.full)
        self._pool.watch(now)
        self._link.flush()
        self._tell()

    def _renew(self, reason: str, now: float) -> None:
        """Time passed without us: nobody has to find out that the connection did not survive it."""
        logger.warning("%s: the connection is made anew", reason)
        self._link.renew(now)
        self._call(self._host.on_disconnected, now)

    def _timeout(self, now: float) -> float:
        due = min(
            max(self._host.next_deadline(), self._not_before),
            self._pool.due,
            self._link.next_deadline(now),
            self._disk.next_deadline(),
        )
        return min(due - now, LOOK_SECONDS)

    def _hear(self, now: float, ready: Container[object]) -> None:
        """Whatever the coordinator has said, and whether it is there."""
        was_up = self._link.up
        messages, lost = self._link.receive(now, ready)
        if self._link.up and not was_up:
            self._call(self._host.on_connected, now)
        for message in messages:
            if isinstance(message, HostWelcome):
                self._share(message)
            if isinstance(message, Rejected) and message.code == JOINED:
                self._credentials.joined()
            self._call(self._host.receive, message, now)
            if isinstance(message, HostWelcome) and self._host.connected:
                self._link.welcomed()
                self._losses.clear()
        if lost:
            self._call(self._host.on_disconnected, now)
            is_new = lost not in self._losses and now >= self._news_at
            if is_new and len(self._losses) < LOSSES_MAX:
                logger.warning("no connection: %s", lost)
                self._losses.add(lost)

    def _share(self, welcome: HostWelcome) -> None:
        """Use the coordinator's blob folder, if this machine has it."""
        shares = self._sharing.welcome(welcome.blobs, welcome.blobs_token)
        if shares is not None:
            self._link.send(shares)
        if self._sharing.blobs is not None:
            self._pool.share(self._sharing.blobs)

    def _tell(self) -> None:
        """Log what has changed."""
        host = self._host
        said = (host.failing, host.connected, host.draining, self._disk.trouble)
        if said == self._said:
            return
        if host.connected and not self._said[1]:
            logger.info("connected to %s", self._credentials.way, extra={"epoch": host.epoch})
            if host.unusable:
                logger.error("this host gets no work: %s", host.unusable)
        if host.draining and not self._said[2]:
            logger.info("draining")
        if self._disk.trouble != self._said[3]:
            said_of = self._disk.trouble or "there is room for temporary files again"
            logger.warning(
                "work is %s: %s",
                "asked for" if not self._disk.trouble else "not asked for",
                said_of,
            )
        if host.failing and host.failing != self._said[0]:
            logger.error("no worker can be started: %s", host.failing)
        self._said = said

    def _call(self, function: Callable[..., object], *arguments: object) -> bool:
        """Call the machine; a bug in it costs what it was doing, and no more."""
        try:
            function(*arguments)
        except Exception as error:
            self._bugs.warning(f"a bug: {function.__name__} raised {error!r}")
            logger.debug("where it was raised", exc_info=True)
            return False
        return True
