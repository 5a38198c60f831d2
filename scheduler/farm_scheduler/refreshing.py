"""Fires of aggregates: run by the scheduler itself, which alone writes the catalog.

What is expensive is done by tasks of the farm; here only bytes are moved, on one thread, one
aggregate at a time. A run that was ended with its scheduler is begun again by the next, and finds
what was computed.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.client.client import Client
from farm.errors import FarmError
from farm.model import seconds
from farm_scheduler.calls import find_function
from farm_scheduler.core import Schedule
from farm_scheduler.submitting import DETAIL_CHARS, Ended

if TYPE_CHECKING:
    from farm_scheduler.aggregates import Aggregate, Catalog

__all__ = ["Refresher"]

logger = logging.getLogger("farm.scheduler")

LATE_PRIORITY = 10
"""How much more urgent the tasks are of what is older than was promised."""


class Refresher:
    """``heard(Ended)`` is called, on another thread, when a fire has ended."""

    def __init__(self, catalog: Path, client: Client, heard: Callable[[Ended], object]) -> None:
        self._path = catalog
        self._client = client
        self._heard = heard
        self._aside: ThreadPoolExecutor | None = None  # started with the first
        self._stops: dict[str, threading.Event] = {}  # of fires that wait or run
        self._keep: dict[str, float] = {}
        self.writes = False
        """Whether the catalog is being written now."""
        self._catalog: Catalog | None = None

    @staticmethod
    def aggregate_of(schedule: Schedule) -> "Aggregate | None":
        """What a schedule refreshes, if it does; raises ``ValueError`` if it cannot be found."""
        return _aggregate(schedule.run) if schedule.run else None

    def start(self, fire: str, aggregate: "Aggregate") -> None:
        """Have it refreshed, after those that were started before."""
        if self._aside is None:
            self._aside = ThreadPoolExecutor(1, "farm-aggregates")
        self._stops[fire] = threading.Event()
        self._keep[aggregate.name] = seconds(aggregate.keep)
        self._aside.submit(self._refresh, fire, aggregate)

    def stop(self, fire: str) -> bool:
        """Have a fire end before its next step; whether it is one of these."""
        found = self._stops.get(fire)
        if found is not None:
            found.set()
        return found is not None

    def close(self) -> None:
        """End what runs, before its next step: whoever takes over begins it again."""
        for stop in list(self._stops.values()):
            stop.set()
        if self._aside is not None:
            self._aside.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------ on the thread

    def _refresh(self, fire: str, aggregate: "Aggregate") -> None:
        stop = self._stops[fire]
        self.writes = True
        try:
            ended = self._built(fire, aggregate, stop)
        except CancelledError:
            ended = Ended(fire, "cancelled")
        except FarmError as error:
            ended = Ended(fire, "failed", str(error)[:DETAIL_CHARS])
        except BaseException as error:  # also of code that ends the program: a fire always ends
            logger.exception("aggregate %s", aggregate.name)
            ended = Ended(fire, "failed", f"{type(error).__name__}: {error}"[:DETAIL_CHARS])
        self._stops.pop(fire, None)
        self.writes = False
        self._heard(ended)

    def _built(self, fire: str, aggregate: "Aggregate", stop: threading.Event) -> Ended:
        from farm_scheduler.aggregates import Catalog, build  # noqa: PLC0415 - for those who have any

        if self._catalog is None:
            self._catalog = Catalog(self._path)
        catalog = self._catalog
        options: dict[str, Any] = {"durable": False}
        if self._is_late(catalog, aggregate):
            options["priority"] = LATE_PRIORITY
        workers = _Stoppable(self._client.options(**options), stop)
        with catalog.writing():
            built = build(aggregate, catalog, workers, f"fire-{fire[:12]}")
            catalog.collect(self._keep)
        logger.info("aggregate %s: %s", aggregate.name, built)
        output = "".join(f"{message}\n" for message in built.failures.values())
        return Ended(fire, "succeeded", str(built)[:DETAIL_CHARS], output)

    @staticmethod
    def _is_late(catalog: "Catalog", aggregate: "Aggregate") -> bool:
        if aggregate.fresh_within is None:
            return False
        _, checked = catalog.served(aggregate.name)
        return time.time() - checked > seconds(aggregate.fresh_within)


class _Stoppable:
    """Workers for a run that may be told to end."""

    def __init__(self, workers: Any, stop: threading.Event) -> None:
        self._workers = workers
        self._stop = stop

    def map(self, fn: Callable[[Any], Any], iterable: Iterable[Any], /) -> Iterator[Any]:
        """As ``Executor.map``; raises ``CancelledError`` once it was told to."""
        for one in self._workers.map(fn, iterable):
            if self._stop.is_set():
                raise CancelledError
            yield one


def _aggregate(reference: str) -> "Aggregate | None":
    found: Any = find_function(reference)
    if isinstance(found, type) or not hasattr(found, "measures"):
        return None
    from farm_scheduler.aggregates import Aggregate  # noqa: PLC0415 - for those who have any

    return found if isinstance(found, Aggregate) else None
