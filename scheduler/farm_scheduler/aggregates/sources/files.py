"""Files by a pattern: CSV, JSON lines or Parquet, compressed or not; here, or behind a URL.

``edits/{day}/{hour}.json.gz`` names a partition for each file that it matches; ``day`` and ``hour``
are columns of its rows, as text. A URL (``s3://bucket/…``) is read through fsspec, if installed.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from farm.errors import ConfigError
from farm.imports import for_the_farm
from farm_scheduler.aggregates.measures import quoted
from farm_scheduler.aggregates.sources.base import Opened, Partition, PartitionError, reason_of
from farm_scheduler.aggregates.sources.jsonlines import sample
from farm_scheduler.aggregates.sources.listing import NOWHERE, local_files, mark_of, matcher

__all__ = ["Files"]

FORMATS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json",
           ".parquet": "parquet", ".pq": "parquet"}  # fmt: skip
UNREAD = {".bz2", ".xz", ".zip", ".7z", ".lz4", ".br"}
"""How files are packed that are not unpacked here."""
SETTLED_SECONDS = 2.0
"""A file changed less than this ago may change again without its time of change saying so."""
WHOLE_MAX = 1 << 53
"""Above it, not every whole number is a DOUBLE."""
READ_BYTES = 1 << 20
EMPTY_BYTES_MAX = 100
"""The longest a packed file of nothing is."""
SAMPLE_ROWS = "500"
"""Rows from which types are guessed; where that was too few, all are looked at."""
FORMAT = 2
"""Counts changes of what is read of the same files."""
GUESSED = ("json", "csv")
"""Formats that do not say of which types their columns are."""
NO_HIVE = "hive_partitioning=false"
"""Folders called ``day=12`` are not columns: a pattern says what is one, and sets files apart."""
NOTHING = '"NULL"'
"""The type of a column of JSON that has no value."""
GUARDS = {
    "BIGINT": ("DOUBLE", f"{{0}} = trunc({{0}}) AND abs({{0}}) < {WHOLE_MAX}"),
    "DATE": ("VARCHAR", "length({0}) <= 10"),
    "BOOLEAN": ("VARCHAR", "lower({0}) IN ('true', 'false')"),
}
"""Types that take more than is of them: as what to read it, and which of that they are."""


@dataclass(frozen=True)
class Files:
    """Files that match a pattern, each a partition.

    ``time`` is a column, or a SQL expression over columns; ``zone`` is where its times are from
    if they do not say so. ``format`` is told by the name unless given. ``null`` are texts of a CSV
    that mean NULL, and ``columns`` types by name where DuckDB's guess is wrong. ``where`` is a SQL
    condition that rows must meet.
    """

    pattern: str
    time: str
    zone: str = "UTC"
    format: str = ""
    null: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    where: str = ""

    def __post_init__(self) -> None:
        if not for_the_farm():  # whose aggregates look whether their source is right
            self.check()

    def check(self) -> None:
        """Raise ``ConfigError`` if nobody knows how to read such files."""
        if self.format not in {"", *FORMATS.values()}:
            raise ConfigError(
                f"Files({self.pattern!r}): there is no format {self.format!r}; "
                "say 'csv', 'json' or 'parquet'"
            )
        if (suffix := Path(self.pattern).suffix.lower()) in UNREAD:
            raise ConfigError(
                f"Files({self.pattern!r}): {suffix} is not unpacked here; pack files as .gz or .zst"
            )
        self._format(self.pattern)

    def identity(self) -> list[Any]:
        """How files are read; not where they are."""
        return [
            "files", self.time, self.zone, self._format(self.pattern), list(self.null),
            sorted(self.columns.items()), self.where, FORMAT,
        ]  # fmt: skip

    def _format(self, name: str) -> str:
        if self.format:
            return self.format
        suffixes = [one.lower() for one in Path(name).suffixes[-2:]]
        for suffix in reversed(suffixes):
            if suffix in FORMATS:
                return FORMATS[suffix]
        raise ConfigError(
            f"Files({self.pattern!r}): what kind of file is that? Say format='csv', 'json' or "
            "'parquet', or have the pattern end as the names do, as in '*.json.gz'"
        )

    # ------------------------------------------------------------ listing

    @property
    def _is_remote(self) -> bool:
        return "://" in self.pattern

    @property
    def _here(self) -> str:
        return os.path.abspath(self.pattern)  # noqa: PTH100 - workers may be anywhere

    def partitions(self) -> list[Partition]:
        """One for each file that matches now."""
        try:
            found = list(self._remote() if self._is_remote else local_files(self._here))
        except ConfigError as error:
            raise ConfigError(f"Files({self.pattern!r}): {error}") from None
        if not found:
            raise ConfigError(
                f"Files({self.pattern!r}) matches no file"
                + ("" if self._is_remote else f", from {Path.cwd()}")
                + "; {name} stands for one part of a path, ** for any number"
            )
        return sorted(found)

    def _remote(self) -> Iterator[Partition]:
        files, root = _fsspec(self.pattern)
        scheme = self.pattern.partition("://")[0]
        whole = matcher(root)
        glob = re.sub(r"\{\w+\}", "*", root)
        for path, info in files.glob(glob, detail=True).items():
            match = whole.fullmatch(path)
            if match and info.get("type", "file") == "file":
                mark = _remote_mark(info)
                yield Partition(f"{scheme}://{path}", mark, match.groupdict())

    def is_settled(self, partition: Partition, now: float) -> bool:
        """A local file that was changed just now is not."""
        return self._is_remote or now - _changed(partition.mark) > SETTLED_SECONDS

    # ------------------------------------------------------------ reading

    def again(self, partition: Partition) -> Partition | None:
        """The file as it is now."""
        if self._is_remote:
            files, path = _fsspec(partition.name)
            return (
                partition._replace(mark=_remote_mark(files.info(path)))
                if files.exists(path)
                else None
            )
        try:
            return partition._replace(mark=mark_of(os.stat(partition.name)))  # noqa: PTH116
        except OSError:
            return None

    def fingerprint(self, partition: Partition) -> str:
        """A hash of the bytes."""
        if partition.mark == NOWHERE:
            raise PartitionError(
                f"{partition.name} is a link that leads nowhere, or its name is not UTF-8; put it "
                "right, or remove it"
            )
        found = hashlib.blake2b(digest_size=16)
        try:
            with self._bytes(partition.name) as file:
                while data := file.read(READ_BYTES):
                    found.update(data)
        except (OSError, ValueError) as error:
            raise PartitionError(f"{partition.name}: {reason_of(error)}") from error
        return found.hexdigest()

    def _bytes(self, name: str) -> IO[bytes]:
        if not self._is_remote:
            return open(name, "rb")  # noqa: PTH123 - whoever asked closes it
        files, path = _fsspec(name)
        opened: IO[bytes] = files.open(path, "rb")
        return opened

    def open(
        self, partition: Partition, db: Any, *, wanted: Collection[str], careful: bool = False
    ) -> Opened:
        """A query of the file, with what its name says as columns."""
        path = self._fetched(partition) if self._is_remote else partition.name
        close = partial(os.unlink, path) if self._is_remote else _nothing
        kind = "" if careful else self._format(path)
        try:
            reader, every, types = self._reader(path, db, wanted, careful=careful)
            # A column of the file itself comes first, and is the one that its name means.
            query = f"SELECT *{_constants(partition.values)} FROM {reader}"  # noqa: S608
            if self.where:
                query = f"SELECT * FROM ({query}) WHERE {self.where}"  # noqa: S608
            named = dict.fromkeys(partition.values, "VARCHAR")
            columns = named | every | (types or _described(db, query))
            known = {*self.columns, *partition.values}
            texts = {name for name, type_ in columns.items() if type_ == "VARCHAR"} - known
            sniffed = frozenset(texts if kind == "csv" else ())
            return Opened(f"({query})", columns, close, kind in GUESSED, sniffed)
        except Exception as error:  # whatever DuckDB says of a broken file
            close()
            if kind in GUESSED:  # what ``where`` names may begin later
                return self.open(partition, db, wanted=wanted, careful=True)
            raise PartitionError(f"{partition.name} cannot be read: {reason_of(error)}") from error

    def _fetched(self, partition: Partition) -> str:
        """A copy of a remote file."""
        suffix = "".join(Path(partition.name).suffixes[-2:])
        with (
            tempfile.NamedTemporaryFile(prefix="farm-", suffix=suffix, delete=False) as copy,
            self._bytes(partition.name) as file,
        ):
            shutil.copyfileobj(file, copy, READ_BYTES)
        return copy.name

    def _reader(
        self, path: str, db: Any, wanted: Collection[str], *, careful: bool
    ) -> tuple[str, dict[str, str], dict[str, str]]:
        """A function of DuckDB that guesses no more, columns that it may leave out, and types.

        None of these, unless DuckDB itself has said them of just what the function reads.
        """
        text = _text(_literal(path))
        if _is_empty(path):
            return _no_rows(wanted), {}, {}
        if self._format(path) == "parquet":
            return f"read_parquet({text}, {NO_HIVE})", {}, {}
        if self._format(path) == "json":
            every = dict(self.columns)
            # Of one column alone DuckDB would first read all to see whether rows are objects.
            how = f"{text}, format='newline_delimited', records=true, {NO_HIVE}"
            if not every:
                every = _json_types(path, db, wanted, careful=careful)
            # Parsing the columns that nobody wants would be most of the work.
            types = {name: kind for name, kind in every.items() if name in wanted} or every
            guessed = {} if careful else {n: k for n, k in types.items() if n not in self.columns}
            reader = _guarded(
                guessed, GUARDS, lambda more: f"read_json({how}, columns={_struct(types | more)})"
            )
            return reader, every, {} if self.columns else types
        options = f", sample_size={'-1' if careful else SAMPLE_ROWS}, {NO_HIVE}"
        if self.columns:
            options += f", types={_struct(self.columns)}"
        if self.null:
            options += f", nullstr=[{', '.join(map(_text, self.null))}]"
        sniff = f"SELECT Prompt, Columns FROM sniff_csv({text}{options})"  # noqa: S608
        ((prompt, columns),) = db.execute(sniff).fetchall()
        # It proposes a reader of the path as it is, without quotes that it would need.
        prompt = f"FROM read_csv({text}, {NO_HIVE}" + prompt.partition(f"'{path}'")[2]
        types = {one["name"]: one["type"] for one in columns}
        if set(types.values()) == {"VARCHAR"} and _has_no_rows(db, prompt):
            return _no_rows(types), {}, {}
        guessed = {} if careful else {n: k for n, k in types.items() if n not in self.columns}
        # A format of its own is kept to, and it knows what is true or false.
        doubtful = {"DATE", "BIGINT"} - ({"DATE"} if "dateformat" in prompt else set())
        guards = {kind: GUARDS[kind] for kind in doubtful}
        return _guarded(guessed, guards, lambda more: _retyped(prompt, types, more)), {}, {}


def _json_types(path: str, db: Any, wanted: Collection[str], *, careful: bool) -> dict[str, str]:
    """The types of all columns of JSON lines; of those that nobody wants, any."""
    text, how = _text(_literal(path)), f"format='newline_delimited', {NO_HIVE}, sample_size="
    found: dict[str, str] = {}
    if not careful:
        with sample(path, wanted, int(SAMPLE_ROWS)) as small:
            if small is not None:
                read = f"SELECT * FROM read_json({_text(small.path)}, {how}-1)"  # noqa: S608
                found = {**dict.fromkeys(small.names, "JSON"), **_described(db, read)}
                if small.whole:
                    return found
        if not found:
            found = _described(db, f"SELECT * FROM read_json({text}, {how}{SAMPLE_ROWS})")  # noqa: S608
    if found and not any(found.get(name) == NOTHING for name in wanted):
        return found
    # What is nothing in the first rows would be read as nothing in all of them.
    return _described(db, f"SELECT * FROM read_json({text}, {how}-1)")  # noqa: S608


def _guarded(
    guessed: Mapping[str, str],
    guards: Mapping[str, tuple[str, str]],
    reader: Callable[[dict[str, str]], str],
) -> str:
    """A relation that fails where a column is after the sample not what it looked like in it.

    DuckDB itself would round, cut off or take for true what it reads without a word.
    """
    doubtful = {name: kind for name, kind in guessed.items() if kind in guards}
    if not doubtful:
        return reader({})
    checks = ", ".join(
        f"CASE WHEN {quoted(name)} IS NULL OR ({guards[kind][1].format(quoted(name))}) "
        f"THEN {quoted(name)}::{kind} ELSE error({_text(f'{name} is no {kind}')}) END "
        f"AS {quoted(name)}"
        for name, kind in doubtful.items()
    )
    more = {name: guards[kind][0] for name, kind in doubtful.items()}
    return f"(SELECT * REPLACE ({checks}) FROM {reader(more)})"  # noqa: S608


def _retyped(prompt: str, types: Mapping[str, str], more: Mapping[str, str]) -> str:
    """The reader that DuckDB proposes for a CSV file, with other types for some columns."""
    found = prompt.strip().rstrip(";").removeprefix("FROM ")
    said = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items())  # as it writes them
    return found.replace(f"columns={{{said}}}", f"columns={_struct({**types, **more})}")


def _has_no_rows(db: Any, prompt: str) -> bool:
    return not db.execute(f"{prompt.strip().rstrip(';')} LIMIT 1").fetchall()


def _nothing() -> None:
    """There is nothing to let go of."""


def _is_empty(path: str) -> bool:
    """Whether there is not a byte in a file, unpacked."""
    if os.path.getsize(path) > EMPTY_BYTES_MAX:  # noqa: PTH202
        return False
    with pa.input_stream(path) as file:
        return not file.read(1)


def _no_rows(names: Collection[str]) -> str:
    """A relation of these columns in which there is nothing."""
    return f"(SELECT {', '.join(f'NULL AS {quoted(name)}' for name in names)} WHERE false)"


def _described(db: Any, query: str) -> dict[str, str]:
    return {name: kind for name, kind, *_ in db.execute(f"DESCRIBE {query}").fetchall()}


def _remote_mark(info: Mapping[str, Any]) -> str:
    """Whatever a file system says that changes with the content."""
    keys = ("ETag", "etag", "checksum", "created", "mtime", "LastModified", "size")
    return repr([info[key] for key in keys if key in info])


def _changed(mark: str) -> float:
    _, modified, changed, _ = map(int, mark.split(":"))
    return max(modified, changed) / 1e9


def _fsspec(url: str) -> tuple[Any, str]:
    try:
        import fsspec  # noqa: PLC0415 - asked for by a URL only
    except ImportError:
        raise ConfigError(f"{url}: files behind a URL need fsspec; pip install fsspec") from None
    found: tuple[Any, str] = fsspec.core.url_to_fs(url)
    return found


def _constants(values: Mapping[str, str]) -> str:
    return "".join(f", {_text(value)} AS {quoted(name)}" for name, value in values.items())


def _struct(columns: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{_text(name)}: {_text(kind)}" for name, kind in columns.items()) + "}"


def _literal(path: str) -> str:
    """A path as DuckDB takes it, which would read all files that one with a star matches."""
    return re.sub(r"[*?\[]", r"[\g<0>]", path)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
