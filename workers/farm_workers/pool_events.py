"""What a pool tells its host of the workers."""

from typing import Protocol

from farm_workers.host_roster import Death
from farm_workers.host_slices import Key, SliceEnd

__all__ = ["PoolEvents"]


class PoolEvents(Protocol):
    """The part of ``Host`` that hears of workers."""

    def on_worker_ready(self, slot: int, now: float) -> None:
        """See ``Host``."""

    def on_worker_ended(self, slot: int, parts: list[SliceEnd], now: float) -> None:
        """See ``Host``."""

    def on_worker_progress(
        self, slot: int, key: Key, counter: int, note: tuple[float, float, str], now: float
    ) -> None:
        """See ``Host``."""

    def on_worker_waits(self, slot: int, ordinal: int, now: float, *, begins: bool) -> None:
        """See ``Host``."""

    def on_worker_limited(self, slot: int, index: int | None, now: float) -> None:
        """See ``Host``."""

    def on_worker_retired(self, slot: int, now: float) -> None:
        """See ``Host``."""

    def on_worker_memory(self, slot: int, size: int, now: float) -> None:
        """See ``Host``."""

    def on_worker_oom(self, slot: int, ordinal: int | None, now: float) -> None:
        """See ``Host``."""

    def on_worker_told(self, question: int, data: bytes, start: int, error: str) -> None:
        """See ``Host``."""

    def on_worker_exit(self, slot: int, death: Death, now: float) -> None:
        """See ``Host``."""
