"""A version in memory: reads take microseconds, and chunks are fetched when they are first read.

Used by one thread at a time, or by several: what they may both do is only done twice.
"""

import difflib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa

from farm.errors import ConfigError
from farm_scheduler.aggregates.engine import decode
from farm_scheduler.aggregates.joining import together
from farm_scheduler.aggregates.manifest import Manifest
from farm_scheduler.aggregates.windows import WORDS, Level, Levels, chunk_of, parse_level

__all__ = ["NoSuchRead", "Reading", "Snapshot"]

TIMES_MAX = 65_536
"""The most times that are remembered as they were written."""
FOUND_MAX = 65_536
"""The most groups that are remembered as they were asked for."""


class NoSuchRead(ConfigError, LookupError):
    """A read asked for a column or level that the aggregate does not have."""


class Reading(NamedTuple):
    """An answer and how far it can be trusted.

    ``value`` has a value for each measure; it is None if there were no rows. ``as_of`` is when the
    source was looked at, in seconds since 1970, ``staleness`` how long ago that is, in seconds.
    Rows up to ``watermark``, in seconds since 1970, are expected to be in. ``complete`` is false if
    a partition could not be read; ``error`` has the errors of measures that are not exact, as these
    state them.
    """

    value: dict[str, Any] | None
    as_of: float
    watermark: float | None
    staleness: float
    version: int
    complete: bool
    error: dict[str, float]

    @property
    def exact(self) -> bool:
        """Whether no measure has an error."""
        return not self.error


class _Chunk:
    """The values of a chunk, by row."""

    __slots__ = ("columns", "errors", "rows")

    def __init__(self, table: pa.Table) -> None:
        keys = [name for name in table.column_names if name == "w" or _is_key(name)]
        found = [table.column(name).to_pylist() for name in keys]
        self.rows = {key: at for at, key in enumerate(zip(*found, strict=True))}
        self.columns = {
            name[2:]: table.column(name).to_pylist()
            for name in table.column_names
            if name.startswith("m:")
        }
        self.errors = {
            name[2:]: table.column(name).to_pylist()
            for name in table.column_names
            if name.startswith("e:")
        }


_Found = tuple[dict[str, Any] | None, dict[str, float], list[str]]
"""Value and error of a group, no value if it has no rows; and measures whose values may be changed
by who has them."""


def _is_key(name: str) -> bool:
    return name[0] == "k" and name[1:].isdigit()


class Snapshot:
    """A version, read through ``fetch``, which has the bytes of a node by its key.

    ``as_of`` may be later than the manifest's: when the version was last found to be up to date.
    """

    def __init__(
        self, manifest: Manifest, fetch: Callable[[str], bytes], as_of: float = 0.0
    ) -> None:
        self.manifest = manifest
        self.as_of = max(as_of, manifest.as_of)
        self._fetch = fetch
        own = manifest.definition
        self.by: list[str] = own["by"]
        every, *rollup = (parse_level(one) for one in own["levels"])
        self.levels = Levels(every, rollup, own["zone"])
        self._names = {
            word: level for level in self.levels.all for word in (level.word, str(level))
        }
        self._times: dict[tuple[str, str], tuple[str, int]] = {}
        self._chunks: dict[tuple[str, str], _Chunk | None] = {}
        self._found: dict[tuple[Any, ...], _Found] = {}
        self._version, self._complete = manifest.version, manifest.complete
        self._watermark = None if manifest.watermark is None else manifest.watermark / 1e6

    def read(self, /, **where: Any) -> Reading:
        """The values of one group: a value for each column of ``by``, and one window of time.

        The window is given by the word for its level, ``hour="2015-09-12T13"``, or as
        ``window="15m", at="2015-09-12T13:15"``. Raises ``NoSuchRead`` for what there is not.
        """
        asked = tuple(where.items())
        found = self._found.get(asked)
        if found is None:
            if len(self._found) >= FOUND_MAX:
                self._found.clear()
            found = self._found[asked] = self._find(where)
        value, error, lists = found
        if value is not None:
            value = value.copy()
            for measure in lists:
                value[measure] = deepcopy(value[measure])
        return Reading(
            value, self.as_of, self._watermark,
            time.time() - self.as_of, self._version, self._complete, error.copy(),
        )  # fmt: skip

    def _find(self, where: dict[str, Any]) -> _Found:
        """What there is of a group."""
        level, name, key = self._place(where)
        chunk = self._chunk(level, name)
        row = None if chunk is None else chunk.rows.get(key)
        if chunk is None or row is None:
            return None, {}, []
        value = {measure: column[row] for measure, column in chunk.columns.items()}
        error = {measure: one[row] for measure, one in chunk.errors.items() if one[row]}
        return value, error, [name for name, one in value.items() if isinstance(one, list | dict)]

    def is_ready(self, where: dict[str, Any]) -> bool:
        """Whether a read would find its chunk in memory; so it is if it would raise."""
        try:
            level, name, _ = self._place(dict(where))
        except NoSuchRead:
            return True
        return (level, name) in self._chunks

    def resolve(self, where: dict[str, Any]) -> tuple[Level, int, tuple[Any, ...]]:
        """The level, the start of the window and the keys that a read asks for."""
        level, _, key = self._place(where)
        return self._names[level], key[0], key[1:]

    # ------------------------------------------------------------ windows

    def _place(self, where: dict[str, Any]) -> tuple[str, str, tuple[Any, ...]]:
        """The level, the chunk and the row that a read asks for."""
        level, text = self._window(where)
        found = self._times.get((level, text))
        if found is None:
            found = self._time(level, text)
        name, start = found
        try:
            key = (start, *[where[column] for column in self.by])
        except KeyError as lacking:
            wrong = where.keys() - set(self.by)
            message = self._unknown(where) if wrong else self._lacks(str(lacking.args[0]))
            raise NoSuchRead(message) from None
        if len(where) != len(key) - 1:
            raise NoSuchRead(self._unknown(where))
        return level, name, key

    def _window(self, where: dict[str, Any]) -> tuple[str, str]:
        """Takes the window out of what was asked for."""
        for word in where:
            if word in self._names and word not in self.by:
                return str(self._names[word]), where.pop(word)
        if "window" in where and "at" in where:
            level = str(where.pop("window"))
            if level not in self._names:
                raise NoSuchRead(
                    f"{self.manifest.name} has no windows of {level}; it has {self._have()}"
                )
            return str(self._names[level]), where.pop("at")
        near = next((word for word in where if word in WORDS and word not in self.by), None)
        asked = f"no windows of a {near}" if near else "to be asked for a window of time"
        raise NoSuchRead(
            f"{self.manifest.name} has {asked}: it has {self._have()}, "
            f"as in {self.levels.all[0].word}='2015-09-12T13'"
        )

    def _have(self) -> str:
        return ", ".join(level.word for level in self.levels.all)

    def _time(self, level: str, text: str) -> tuple[str, int]:
        own = self._names[level]
        try:
            start = self.levels.parse(own, text)
            chunk = chunk_of(own, start)
        except OverflowError:
            raise NoSuchRead(f"{self.manifest.name}: {text!r} is in no calendar") from None
        except (ValueError, AttributeError) as error:
            raise NoSuchRead(f"{self.manifest.name}: {error}") from None
        if len(self._times) >= TIMES_MAX:
            self._times.clear()
        found = self._times[level, text] = (chunk, start)
        return found

    def _lacks(self, column: str) -> str:
        return (
            f"{self.manifest.name} is kept by {', '.join(self.by)}; say which {column}, or use "
            "table() for all of them"
        )

    def _unknown(self, where: Mapping[str, Any]) -> str:
        wrong = next(name for name in where if name not in self.by)
        if wrong in self._names:
            return f"{self.manifest.name} is asked for two windows of time; leave out {wrong!r}"
        near = difflib.get_close_matches(wrong, self.by, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        by = ", ".join(self.by) or "nothing"
        return f"{self.manifest.name} is not kept by {wrong!r}{hint} It is by {by}"

    # ------------------------------------------------------------ chunks

    def _chunk(self, level: str, name: str) -> _Chunk | None:
        key = (level, name)
        if key not in self._chunks:
            ref = self.manifest.levels.get(level, {}).get(name)
            self._chunks[key] = None if ref is None else _Chunk(decode(self._fetch(ref.values)))
        return self._chunks[key]

    def level_of(self, text: str | None) -> Level:
        """A level by its word or length; the coarsest if none is named."""
        if text is None:
            return self.levels.all[-1]
        if text not in self._names:
            raise NoSuchRead(
                f"{self.manifest.name} has no windows of {text}; it has {self._have()}"
            )
        return self._names[text]

    def tables(self, level: Level, chunks: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The values of a level, chunk by chunk, as they are kept."""
        refs = self.manifest.levels[str(level)]
        for name in sorted(refs):
            if chunks is None or name in chunks:
                yield decode(self._fetch(refs[name].values))

    def _nothing(self) -> pa.Table:
        """Values of no group."""
        names = [f"k{at}" for at in range(len(self.by))]
        names += [f"m:{name}" for name in self.manifest.definition["measures"]]
        return pa.table({"w": pa.array([], pa.int64()), **{name: pa.nulls(0) for name in names}})

    def table(self, level: str | None = None, *, errors: bool = False) -> pa.Table:
        """All values of a level as Arrow.

        Columns are the start of the window, those of ``by``, and the measures; with ``errors``, a
        column ``NAME_error`` beside each that may have one.
        """
        own = self.level_of(level)
        found = together(list(self.tables(own)) or [self._nothing()])
        zone = "UTC" if own.step else str(ZoneInfo(self.manifest.definition["zone"]))
        columns: dict[str, Any] = {
            own.word if own.times == 1 else "window": found.column("w").cast(
                pa.timestamp("us", zone)
            )
        }
        columns |= {name: found.column(f"k{at}") for at, name in enumerate(self.by)}
        for name in self.manifest.definition["measures"]:
            columns[name] = found.column(f"m:{name}")
            if errors and f"e:{name}" in found.column_names:
                columns[f"{name}_error"] = found.column(f"e:{name}")
        return pa.table(columns)
