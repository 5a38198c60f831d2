"""An aggregate as its author has it: what it is, and how to read, plan and run it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from farm.errors import ConfigError
from farm_scheduler.aggregates.building import Built, build
from farm_scheduler.aggregates.catalog import Catalog
from farm_scheduler.aggregates.definition import Definition
from farm_scheduler.aggregates.forbearing import Forbearing
from farm_scheduler.aggregates.leaves import Mapper
from farm_scheduler.aggregates.measures import Measure
from farm_scheduler.aggregates.overlay import Overlay
from farm_scheduler.aggregates.place import catalog_path
from farm_scheduler.aggregates.planning import Plan, make_plan
from farm_scheduler.aggregates.snapshot import Reading, Snapshot
from farm_scheduler.aggregates.sources import Derived, Source
from farm_scheduler.aggregates.sql import parse_query
from farm_scheduler.aggregates.view import View

__all__ = ["Aggregate", "Here"]


class Here:
    """Does the work of workers in this process; for small things, and where there is no farm."""

    def map(self, fn: Any, iterable: Any, /) -> Iterator[Any]:
        """As ``Executor.map``."""
        return map(fn, iterable)


class Aggregate(Definition, metaclass=Forbearing):
    """An aggregate, computed in advance and kept up as its source changes.

    ``source`` is where the rows are, ``by`` the columns that they are grouped by, beside the window
    of time: ``every`` is the length of the finest windows, ``rollup`` that of coarser ones, whose
    days and longer are those of ``zone``. ``measures`` says what is computed, by name.

    ``schedule`` is a cron expression for when to look for changes. Rows are expected up to
    ``lateness`` after their time: the watermark is that much behind the latest row. Later ones are
    folded in and counted or, ``drop_after`` behind the watermark, counted and set aside.
    ``fresh_within`` is the age that is promised: what is late is computed first. Versions are kept
    for ``keep``. Durations are seconds, a ``timedelta`` or text like ``"2h"``.

    Raises ``ConfigError`` naming what makes no sense; while the farm imports a module, what is
    wrong is a ``StoppedAggregate`` instead, and the rest of the module goes on.
    """

    __farm_aggregate__ = True

    @classmethod
    def sql(
        cls, name: str, source: Source, query: str, *,
        measures: Mapping[str, Measure] | None = None, **how: Any,
    ) -> Self:  # fmt: skip
        """An aggregate said in SQL: ``select channel, count(*) as n, avg(added) from edits``.

        The columns are ``by``, the aggregates its measures, called by their aliases, and WHERE is
        kept; the table is the source, whatever it is called. ``measures`` are added to them, and
        ``how`` is as for the class. Raises ``ConfigError`` for what does not merge, saying what
        does: ``measures={"users": Distinct("user")}`` for ``count(distinct user)``.
        """
        try:
            found = parse_query(query)
        except ConfigError as error:
            wrong: Any = cls.stopped(name, ConfigError(f"aggregate {name!r}: {error}"))
            return wrong  # type: ignore[no-any-return]
        if found.where or found.columns:
            source = Derived(source, found.where, found.columns)
        every = {**found.measures, **(measures or {})}
        return cls(name=name, source=source, by=found.by, measures=every, **how)

    def __call__(self) -> Built:
        """What its schedule does; see ``run``."""
        return self.run()

    @cached_property
    def _catalog(self) -> Catalog:
        return Catalog(catalog_path())

    @cached_property
    def view(self) -> View:
        """What is published of it on this machine."""
        return View(self.name, self._catalog)

    def read(self, *, fresh: bool = False, **where: Any) -> Reading:
        """One group, ``read(channel="#en", hour="2015-09-12T13")``; see ``View.read``.

        ``fresh`` looks for changes and computes what these change, here and for this answer only.
        """
        if fresh:
            return self.fresh().read(**where)
        return self.view.read(**where)

    def fresh(self, workers: Mapper | None = None) -> Snapshot:
        """What a run would publish now, computed by ``workers`` or here, and not published."""
        overlay = Overlay(self._catalog)
        built = build(self, overlay, workers or Here())
        if overlay.published is not None:
            return Snapshot(overlay.published, overlay.node, built.plan.as_of)
        found = self.view.version()
        found.as_of = max(found.as_of, built.plan.as_of)
        return found

    def table(self, level: str | None = None, **how: Any) -> pa.Table:
        """All groups of a level as Arrow; see ``View.table``."""
        return self.view.table(level, **how)

    def export(self, path: str | Path, level: str | None = None, **how: Any) -> int:
        """Write a level as Parquet; see ``View.export``."""
        return self.view.export(path, level, **how)

    @contextmanager
    def snapshot(self, version: int | None = None) -> Iterator[Snapshot]:
        """A version that stays while this lasts; see ``View.snapshot``."""
        with self.view.snapshot(version) as found:
            yield found

    def plan(self) -> Plan:
        """What a run would do now; ``print()`` it."""
        return make_plan(self, self._catalog)

    def run(self, workers: Mapper | None = None) -> Built:
        """Bring it up to date and publish it, by the workers of a farm (a ``Client``) or here.

        For scripts and tests: raises ``StoreError`` if a scheduler writes the same catalog.
        """
        with self._catalog.writing():
            return build(self, self._catalog, workers or Here())
