"""The agent's connection to the coordinator, made again whenever it is lost.

Pauses between attempts grow and are jittered, so that a thousand hosts do not come back at once.
"""

import random
from collections.abc import Container
from typing import Any

import zmq

from farm.errors import ConfigError
from farm.protocol.messages import FromHost
from farm.transport import Credentials, Dealer, Poller
from farm.transport.options import MESSAGES_HWM
from farm.transport.pauses import Pauses

__all__ = ["Link"]

TURN_MESSAGES = 256
"""The most messages taken in one turn."""
PAUSE_SECONDS, PAUSE_SECONDS_MAX = 0.05, 3.0
PAUSE_SECONDS_PRIVATE, PAUSE_SECONDS_MAX_PRIVATE = 0.01, 0.25
"""The same on this machine: a farm that has just been started is there in a moment."""
CONNECTING_SECONDS = 1.0
"""How often to look after a connection that is not there yet."""
BACKLOG_SECONDS = 0.01
"""How soon a message that could not be sent is tried again."""
LINGER_SECONDS = 0.5
"""How long the last messages have to leave."""
NEVER = float("inf")


class Link:
    """``up``: a connection is there; it changes in ``receive`` and ``drop`` only."""

    def __init__(
        self, credentials: Credentials, poller: Poller, now: float, hwm: int = MESSAGES_HWM
    ) -> None:
        self.up = False
        self._hwm = hwm
        self._congested = self._overflowed = 0  # by the dealers before this one
        self._credentials = credentials
        self._poller = poller
        self._context = zmq.Context()
        self._dealer: Dealer | None = None
        self._is_private = credentials.address.is_private
        self._pauses = (
            Pauses(PAUSE_SECONDS_PRIVATE, PAUSE_SECONDS_MAX_PRIVATE)
            if self._is_private
            else Pauses(PAUSE_SECONDS, PAUSE_SECONDS_MAX)
        )
        self._dial_at = now

    def welcomed(self) -> None:
        """The other side is what it should be: the next pause will be short."""
        self._pauses.reset()
        self._credentials.welcomed()

    def receive(self, now: float, ready: Container[object]) -> tuple[list[Any], str]:
        """What has arrived, and why the connection is lost, if it is; dials when it is time.

        ``ready``: what the poller just found readable.
        """
        if self._dealer is None:
            if now < self._dial_at:
                return [], ""
            dealer = Dealer(self._context, "host", hwm=self._hwm)
            try:
                self._credentials.dial(dealer)
            except ConfigError as error:  # the token's file has gone, for instance
                dealer.close()
                self._put_off(now)
                return [], str(error)
            self._dealer = dealer
            for source in dealer.sources:
                self._poller.register(source)
        else:
            dealer = self._dealer
            if self.up and dealer.is_silent(ready):
                return [], ""
        found = dealer.receive(1 if self._poller.woken else TURN_MESSAGES, ready)
        self.up = self.up or dealer.connected
        if dealer.lost:
            self.drop(now)
        return found, dealer.lost

    def send(self, message: FromHost) -> None:
        """Send, or let it wait."""
        if self._dealer is not None:
            self._dealer.send(message)

    @property
    def quiet(self) -> "zmq.Socket[bytes] | None":
        """What a ``Poller`` need not ask before it waits."""
        return None if self._dealer is None else self._dealer.quiet

    def flush(self) -> None:
        """Try again to send what waits."""
        if self._dealer is not None and self._dealer.backlog:
            self._dealer.flush()

    @property
    def counters(self) -> dict[str, float]:
        """Messages that met a full socket, and connections that were lost for that; not if none."""
        congested = self._congested + (self._dealer.congested if self._dealer else 0)
        found = {"congested": float(congested), "overflowed": float(self._overflowed)}
        return {name: count for name, count in found.items() if count}

    def drop(self, now: float) -> None:
        """Let go of the connection; another is made after a pause."""
        self.up = False
        if self._dealer is None:
            return
        for source in self._dealer.sources:
            self._poller.unregister(source)
        self._dealer.close()
        self._congested += self._dealer.congested
        self._overflowed += self._dealer.overflowed
        crowded = self._dealer.crowded and not self._is_private
        self._dealer = None
        self._put_off(now, crowded=crowded)

    def _put_off(self, now: float, *, crowded: bool = False) -> None:
        if self._credentials.goes_on():
            self._dial_at = now
            return
        pause = self._pauses.take(crowded=crowded)
        self._dial_at = now + pause * random.uniform(0.5, 1.5)  # noqa: S311

    def renew(self, now: float) -> None:
        """Whatever connection there is, is not to be trusted: open another at once."""
        self.drop(now)
        self._dial_at = now
        self._pauses.reset()

    def next_deadline(self, now: float) -> float:
        """When ``receive`` is next needed, whether or not a socket is readable."""
        if self._dealer is None:
            return self._dial_at
        if not self._dealer.connected:
            return now + CONNECTING_SECONDS
        return now + BACKLOG_SECONDS if self._dealer.backlog else NEVER

    def close(self) -> None:
        """Close, giving what was sent a moment to leave."""
        if self._dealer is not None:
            self._dealer.close(LINGER_SECONDS)
        self._context.term()
