"""Questions that only a host can answer: what a running task is at, and what it has printed.

Each is passed on to the host that runs the task, and answered when that has answered, when its
connection ends, or after a few seconds; so nobody waits for a host that is gone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from farm.core.hosts import Host, Lease
from farm.core.ledger import Ledger
from farm.core.port import Peer
from farm.protocol.messages import Answer, Ask, Told

__all__ = ["Questions", "Running"]

ASKED_MAX = 1_024
"""Questions that may wait for hosts."""
ANSWER_SECONDS = 10.0
"""How long a host may take."""
NEVER = float("inf")


class Running(NamedTuple):
    """An answer that a host has to give; ``finish`` makes it from what the host has told."""

    lease: Lease
    counter: int
    what: str
    since: int
    finish: Callable[[Told], Any]
    """Raises ``ValueError`` with what is to be answered instead."""


class _Asked(NamedTuple):
    peer: Peer
    request: int
    host: Host
    host_peer: Peer
    due: float
    finish: Callable[[Told], Any]


class Questions:
    """What clients have asked, and hosts have not answered yet."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._number = 0
        self.asked: dict[int, _Asked] = {}  # in order of time
        self.due = NEVER
        """When ``on_tick`` must look at them; it may at any other time."""

    def __len__(self) -> int:
        return len(self.asked)

    def ask(self, peer: Peer, request: int, running: Running, now: float) -> None:
        """Pass a question on. Raises ``ValueError`` if there is nobody to ask."""
        host = running.lease.host
        if host.peer is None:
            raise ValueError(
                f"the task is on host {host.name}, which is gone; it was last heard "
                f"{now - host.last_seen:.0f} s ago"
            )
        if len(self.asked) >= ASKED_MAX:
            raise ValueError("too many questions wait for hosts; ask again in a while")
        self._number += 1
        due = now + ANSWER_SECONDS
        self.asked[self._number] = _Asked(peer, request, host, host.peer, due, running.finish)
        self._plan()
        self._ledger.port.send(
            host.peer,
            Ask(self._number, running.what, *running.lease.key, running.counter, running.since),
        )

    def on_told(self, host: Host, message: Told) -> None:
        """A host answers."""
        asked = self.asked.get(message.request)
        if asked is None or asked.host is not host or asked.host_peer != host.peer:
            self._ledger.counters["stale"] += 1
            return
        del self.asked[message.request]
        self._plan()
        self._answer(asked, message)

    def on_tick(self, now: float) -> None:
        """Answer what no host will answer any more."""
        for number, asked in list(self.asked.items()):
            if asked.host.peer == asked.host_peer and now < asked.due:
                continue
            del self.asked[number]
            gone = asked.host.peer != asked.host_peer
            why = "is gone" if gone else f"did not answer within {ANSWER_SECONDS:g} s"
            self._answer(asked, Told(number, b"", 0, f"host {asked.host.name} {why}"))
        self._plan()

    def _plan(self) -> None:
        first = next(iter(self.asked.values()), None)
        self.due = NEVER if first is None else first.due

    def _answer(self, asked: _Asked, told: Told) -> None:
        if asked.peer not in self._ledger.peers:
            return
        try:
            answer = Answer(asked.request, asked.finish(told))
        except ValueError as error:
            answer = Answer(asked.request, None, str(error))
        self._ledger.port.send(asked.peer, answer)
