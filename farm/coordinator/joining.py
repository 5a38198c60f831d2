"""Hosts that join with an invite get keys of their own, which are written on a thread of its own.

A change of the keys replaces their file and waits for the disk, and for others who change it: a
loop that did so for each host would stand still while a thousand join. All that have asked while
one change was written are in the next.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from farm.errors import ConfigError
from farm.keys import KeyStore, Newcomer, Refusal
from farm.transport import Connection

__all__ = ["Answer", "Joining"]

logger = logging.getLogger("farm.coordinator")

END_SECONDS = 2.0
"""How long ``close`` waits for what is being written, or for whoever has the files locked."""


class Answer(NamedTuple):
    """What a host is to be told: it has joined, or why it has not."""

    peer: Connection
    host: Newcomer
    refusal: Refusal | None


class Joining:
    """``ask`` and ``take`` are for the loop's thread; ``wake`` is called when there are answers."""

    def __init__(self, store: KeyStore, wake: Callable[[], None]) -> None:
        self._store = store
        self._wake = wake
        self._changed = threading.Condition()
        # All bounded by the open connections: each asks once, and is closed when it is answered.
        self._asked: dict[Connection, Newcomer] = {}
        self._waiting: set[Connection] = set()
        self._answers: deque[Answer] = deque()
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def has_news(self) -> bool:
        """Whether ``take`` would return something."""
        return bool(self._answers)

    def ask(self, peer: Connection, host: Newcomer) -> None:
        """Have a host join; what a peer says that has asked already is not heard."""
        if peer in self._waiting:
            return
        self._waiting.add(peer)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="farm-joining", daemon=True)
            self._thread.start()
        with self._changed:
            self._asked[peer] = host
            self._changed.notify()

    def take(self) -> list[Answer]:
        """The answers since the last time."""
        found = [self._answers.popleft() for _ in range(len(self._answers))]
        self._waiting.difference_update(one.peer for one in found)
        return found

    def close(self) -> None:
        """Nobody joins any more."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(END_SECONDS)

    # ------------------------------------------------------------ its own thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asked or self._stopping)
                if self._stopping:
                    return
                asked, self._asked = self._asked, {}
            refusals = self._join(list(asked.values()))
            self._answers.extend(map(Answer, asked, asked.values(), refusals))
            self._wake()

    def _join(self, hosts: Sequence[Newcomer]) -> Sequence[Refusal | None]:
        try:
            return self._store.join(hosts)
        except (ConfigError, OSError) as error:
            why = f"the invite cannot be used now: {error}"
        except Exception:  # the hosts are answered, and those that come later are let in
            logger.exception("a bug: hosts could not join")
            why = "the invite cannot be used now: see the coordinator's log"
        return [Refusal(why, retry=True)] * len(hosts)
