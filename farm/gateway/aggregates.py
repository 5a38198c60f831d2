"""Aggregates over HTTP: answers that were computed before anybody asked.

As for schedules, whoever starts the gateway hands over what knows of them: a ``Library`` that reads
the catalog of this machine's scheduler.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from farm.errors import ConfigError, FarmError, StoreError, UnknownTask
from farm.gateway.problems import Problem, busy

__all__ = ["Aggregates", "Library", "Read"]

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
    def max_age(self) -> int:
        """For how many seconds it is as good as a new one."""


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

    def manifest(self, name: str, version: int | None) -> tuple[int, float, bytes]:
        """A version as it is kept."""

    def node(self, key: str) -> bytes:
        """A part of a version."""


class Aggregates:
    """Answers what is asked of aggregates; methods raise ``Problem``."""

    def __init__(self, library: Library | None) -> None:
        self._library = library

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
