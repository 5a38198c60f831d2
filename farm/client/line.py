"""The line to the coordinator: one dealer after another, opened again when one is lost.

After a loss the next attempt comes at once, then after growing pauses with jitter, so that many
clients of a coordinator that restarts do not come all at the same moment. If the farm has several
addresses, all are tried between two pauses. Belongs to one thread.
"""

from collections.abc import Callable
from typing import Any

import zmq

from farm.errors import ConfigError
from farm.protocol.messages import Message
from farm.transport import Address, Credentials, Dealer, Poller, Waker
from farm.transport.options import MESSAGES_HWM
from farm.transport.pauses import Pauses

__all__ = ["Line"]

PAUSE_SECONDS = 0.02
PAUSE_SECONDS_MAX = 2.0
PAUSE_SECONDS_MAX_PRIVATE = 0.25
"""The same on this machine, where asking costs nobody anything."""
OPENING_SECONDS = 0.5
"""How often an attempt is looked at until it has come about."""
CONGESTED_SECONDS = 0.002
"""How soon sending is tried again when the socket takes nothing."""
LINGER_SECONDS = 1.0
"""How long goodbyes may take to leave."""


class Line:
    """``up`` says whether there is a connection, ``trouble`` why there was none last time."""

    def __init__(
        self,
        credentials: Credentials,
        waker: Waker,
        chance: Callable[[], float],
        hwm: int = MESSAGES_HWM,
    ) -> None:
        self._hwm = hwm
        self.up = False
        self.trouble = ""
        self._credentials, self._waker, self._chance = credentials, waker, chance
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = Poller()
        self._wake = waker.fileno()
        self._poller.register(self._wake)
        self._dealer: Dealer | None = None
        self._ready: set[Any] | None = None  # of the poller's, if this turn began with it
        self._due = 0.0  # when the next attempt is
        self._is_private = credentials.address.is_private
        most = PAUSE_SECONDS_MAX_PRIVATE if self._is_private else PAUSE_SECONDS_MAX
        self._pauses = Pauses(PAUSE_SECONDS, most, at_once=True)
        self._reasons: dict[Address, str] = {}  # by address why it was lost; bounded by addresses

    @property
    def congested(self) -> int:
        """How many messages met a full socket on this connection, and had to wait."""
        return 0 if self._dealer is None else self._dealer.congested

    def step(self, limit: int, now: float) -> tuple[bool, list[Any], bool]:
        """Whether a connection came about, what arrived on it, and whether it was then lost.

        Who woke us before is forgotten: what they added must have been looked at, or still be.
        """
        ready, self._ready = self._ready, None
        if ready is not None and self._wake in ready:
            self._waker.clear()
        dealer = self._dealer
        if dealer is None:
            if now < self._due:
                return False, [], False
            try:
                dealer = self._open()
            except ConfigError as error:  # the token's file has gone, for instance
                self.drop(str(error), now)
                return False, [], False
        messages = dealer.receive(1 if self._poller.woken else limit, ready)
        opened = not self.up and dealer.connected
        self.up = self.up or opened
        if not dealer.lost:
            return opened, messages, False
        self.drop(dealer.lost, now)
        return opened, messages, True

    def welcomed(self) -> None:
        """The coordinator speaks to us: after a loss try again at once."""
        self._pauses.reset()
        self.trouble = ""
        self._reasons.clear()
        self._credentials.welcomed()

    def send(self, message: Message) -> None:
        """Send on the present connection, if there is one."""
        if self._dealer is not None:
            self._dealer.send(message)

    def flush(self) -> None:
        """Try again to send what could not be sent."""
        if self._dealer is not None and self._dealer.backlog:
            self._dealer.flush()

    def drop(self, reason: str, now: float, linger_seconds: float = 0.0) -> None:
        """Close the present connection; the next attempt comes after a pause."""
        dealer, self._dealer = self._dealer, None
        self.up = False
        self._reasons[self._credentials.way] = reason
        self.trouble = "; ".join(dict.fromkeys(self._reasons.values()))
        if dealer is not None:
            for source in dealer.sources:
                self._poller.unregister(source)
            dealer.close(linger_seconds)
        if self._credentials.goes_on():
            self._due = now
            return
        crowded = dealer is not None and dealer.crowded and not self._is_private
        self._due = now + self._pauses.take(crowded=crowded) * (0.5 + 0.5 * self._chance())

    def renew(self, reason: str, now: float) -> None:
        """Whatever connection there is, is not to be trusted: open another at once."""
        self.drop(reason, now)
        self._due = now
        self._pauses.reset()

    def sleep(self, seconds: float, last: Callable[[], None]) -> None:
        """Return when something arrives, somebody wakes us, or after so many seconds.

        ``last`` is called when nothing is left to do but to wait: it may give others what they
        wait for, and the interpreter is theirs at once. It sends nothing.
        """
        quiet = None if self._dealer is None else self._dealer.quiet
        milliseconds = max(0, int(seconds * 1000 + 0.999))
        last()
        self._ready = self._poller.poll(milliseconds, quiet)

    def patience(self, seconds: float, now: float) -> float:
        """How long to sleep at most, where nothing else is due for ``seconds``."""
        if self._dealer is None:
            return min(seconds, max(0.0, self._due - now))
        if self._dealer.backlog:
            return min(seconds, CONGESTED_SECONDS)
        return seconds if self.up else min(seconds, OPENING_SECONDS)

    def close(self, now: float) -> None:
        """Close everything, after what was said has left."""
        self.drop("closed", now, LINGER_SECONDS if self.up else 0.0)
        self._context.term()
        self._waker.close()

    def _open(self) -> Dealer:
        dealer = Dealer(self._context, "client", hwm=self._hwm)
        try:
            self._credentials.dial(dealer)
        except ConfigError:
            dealer.close()
            raise
        self._dealer = dealer
        for source in dealer.sources:
            self._poller.register(source)
        return dealer
