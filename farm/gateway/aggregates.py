"""Aggregates over HTTP: answers that were computed before anybody asked.

As for schedules, whoever starts the gateway hands over what knows of them: a ``Library`` that reads
the catalog of this machine's scheduler.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from farm.errors import ConfigError, FarmError, StoreError, UnknownTask
from farm.gateway.problems import Problem, busy

__all__ = ["Aggregates", "Answer", "Library", "Read", "cache_control"]

KEPT_MAX = 2048
"""The most answers that are remembered, each of at most ``KEPT_BYTES``."""
KEPT_BYTES = 16 << 10

NOBODY = (
    "this gateway does not know of aggregates: run it where their scheduler is, and name what that "
    "keeps with --schedules FILE"
)
T = TypeVar("T")


class Read(Protocol):
    """A reading; see ``farm_scheduler.aggregates.library.Answer``."""

    @property
    def data(self) -> dict[str, Any]:
        """As plain data."""

    @property
    def version(self) -> int:
        """The version that it is of."""

    @property
    def until(self) -> float:
        """Until when it is as good as a new one, in seconds since 1970; 0: nobody knows."""


class Library(Protocol):
    """What is asked of the catalog; see ``farm_scheduler.aggregates.library``."""

    def names(self) -> list[dict[str, Any]]:
        """What is published."""

    def describe(self, name: str) -> dict[str, Any]:
        """One of them."""

    def read(
        self, name: str, where: dict[str, str], version: int | None, as_of: str | None
    ) -> Read:
        """One group."""

    def is_ready(self, name: str, where: dict[str, str]) -> bool:
        """Whether a read of the newest version takes microseconds."""

    def stamp(self, name: str) -> object:
        """What a read of the newest version depends on; None if that cannot be told at once."""

    def manifest(self, name: str, version: int | None) -> tuple[int, float, bytes]:
        """A version as it is kept."""

    def node(self, key: str) -> bytes:
        """A part of a version."""


class Answer(NamedTuple):
    """What is sent: a status, headers and a body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class _Kept(NamedTuple):
    """An answer that was given, but for its age, while ``stamp`` is what it was."""

    name: str
    stamp: object
    etag: bytes
    data: bytes
    as_of: float
    until: float

    def answer(self, known: bytes, now: float) -> Answer:
        """The same, as old as it is now; nothing for who knows its ETag."""
        headers = [
            (b"etag", self.etag),
            (b"cache-control", cache_control(self.until, now).encode()),
        ]
        if self.etag in known:
            return Answer(304, headers, b"")
        body = b'%b,"staleness":%.6f}' % (self.data[:-1], now - self.as_of)
        more = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        return Answer(200, headers + more, body)


def cache_control(until: float, now: float) -> str:
    """The header: how long an answer is as good as a new one."""
    return f"private, max-age={max(int(until - now), 0)}, must-revalidate"


class Aggregates:
    """Answers what is asked of aggregates; methods raise ``Problem``."""

    def __init__(self, library: Library | None) -> None:
        self._library = library
        self._kept: dict[tuple[str, bytes], _Kept] = {}

    def again(self, scope: Any) -> Answer | None:
        """The answer to a request like one that was answered before; None if it may be another."""
        key = (scope["path"], scope["query_string"])
        kept = self._kept.get(key)
        if kept is None or self._library is None:
            return None
        now = time.time()
        if self._library.stamp(kept.name) != kept.stamp or 0 < kept.until <= now:
            del self._kept[key]
            return None
        known = b"".join(value for name, value in scope["headers"] if name == b"if-none-match")
        return kept.answer(known, now)

    def stamp(self, name: str) -> object:
        """What a read depends on: take it before, for ``keep``."""
        return None if self._library is None else self._library.stamp(name)

    def keep(self, scope: Any, name: str, stamp: object, found: Read) -> None:
        """Remember an answer of the newest version for ``again``; the others are forgotten first.

        A read whose version is not that of the stamp is not remembered.
        """
        if not isinstance(stamp, tuple) or stamp[0] != found.version:
            return
        plain = {key: value for key, value in found.data.items() if key != "staleness"}
        data = msgspec.json.encode(plain)
        if len(data) > KEPT_BYTES:
            return
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        as_of = time.time() - found.data["staleness"]
        etag = b'"%d"' % found.version
        key = (scope["path"], scope["query_string"])
        self._kept[key] = _Kept(name, stamp, etag, data, as_of, found.until)

    async def all(self) -> list[dict[str, Any]]:
        """What is published."""
        return await self._ask(lambda library: library.names())

    async def known(self) -> list[dict[str, Any]]:
        """The same; nothing where nobody knows of any."""
        try:
            return await self.all()
        except Problem:
            return []

    async def describe(self, name: str) -> dict[str, Any]:
        """One of them."""
        return await self._ask(lambda library: library.describe(name))

    async def read(
        self, name: str, where: dict[str, str], version: int | None, as_of: str | None
    ) -> Read:
        """One group; at once, if all of it is in memory."""
        newest = version is None and as_of is None
        if newest and self._library is not None and self._library.is_ready(name, where):
            return self._try(lambda library: library.read(name, where, None, None))
        return await self._ask(lambda library: library.read(name, where, version, as_of))

    async def manifest(self, name: str, version: int | None) -> tuple[int, float, bytes]:
        """A version as it is kept."""
        return await self._ask(lambda library: library.manifest(name, version))

    async def node(self, key: str) -> bytes:
        """A part of a version."""
        return await self._ask(lambda library: library.node(key))

    async def _ask(self, ask: Callable[[Library], T]) -> T:
        """Ask beside the event loop."""
        return await asyncio.to_thread(self._try, ask)

    def _try(self, ask: Callable[[Library], T]) -> T:
        if self._library is None:
            raise Problem(404, NOBODY)
        try:
            return ask(self._library)
        except UnknownTask as error:
            raise Problem(404, str(error)) from None
        except LookupError as error:
            raise Problem(422, str(error)) from None
        except StoreError as error:
            raise busy(str(error), 10.0) from None
        except (ConfigError, ValueError) as error:
            raise Problem(422, str(error)) from None
        except FarmError as error:
            raise Problem(410, str(error)) from None
