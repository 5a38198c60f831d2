"""Aggregates of the real data sets: cold, after one change, after none, and what a read costs.

Wikipedia is compared with one query of DuckDB, on as many threads as the farm has workers, that
computes the same from the raw files; Beijing's 576 partitions with themselves.
"""

import csv
import gzip
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from tests.benchmarks.case import FARM, WORKERS, Case, Goal, Order
from tests.processes import free_ports

__all__ = ["CASE"]

WIKIPEDIA, DUCKDB = "wikipedia_seconds", "wikipedia_duckdb_seconds"
OVER = "wikipedia_over_allowed_ratio"
COPIES, COPIES_DUCKDB = "copies_seconds", "copies_duckdb_seconds"
COPIES_OVER = "copies_over_duckdb_ratio"
COLD, COLD_CPU = "beijing_seconds", "beijing_cpu_seconds"
TOUCHED, TOUCHED_CPU = "touched_seconds", "touched_cpu_seconds"
SHARE = "touched_cpu_ratio"
NOTHING, NOTHING_TASKS = "nothing_seconds", "nothing_tasks"
SNAPSHOT, CATALOG = "snapshot_read_seconds", "catalog_read_seconds"
HTTP = "http_reads_per_second"
READS = 5_000
HTTP_READS = 20_000
READ = "/v1/aggregates/air?station=Dongsi&day=2015-06-01"
ROUNDS_OF_NOTHING = 5
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ROWS = """
CREATE TABLE rows AS SELECT time::TIMESTAMP AS t, channel, added, "user", page
    FROM read_json('{files}', format='newline_delimited', columns={{time: 'VARCHAR',
    channel: 'VARCHAR', added: 'BIGINT', "user": 'VARCHAR', page: 'VARCHAR'}})
"""
QUERY = """
SELECT date_trunc('{unit}', t) AS w, channel, count(*), sum(added), avg(added), min(added),
    max(added), var_samp(added), approx_count_distinct("user"),
    quantile_disc(added, [0.5, 0.9, 0.99]) FROM rows GROUP BY w, channel
"""
TOP = """
SELECT w, channel, list({{'page': page, 'n': n}} ORDER BY n DESC)[:10] FROM
    (SELECT date_trunc('{unit}', t) AS w, channel, page, count(*) AS n FROM rows
     GROUP BY w, channel, page) GROUP BY w, channel
"""


def measure(order: Order) -> dict[str, float]:
    """Seconds, processor seconds of all processes, and reads."""
    data = Path(os.environ.get("FARM_TEST_DATA", DATA))
    whole = order.size >= CASE.size
    if not whole:
        data = _made_up(order.folder / "data")
    elif not data.is_dir():
        raise AssertionError(f"{data} is not a folder; FARM_TEST_DATA names that of the data sets")
    found = _wikipedia(order.folder, data / "wikipedia_edits", order.size)
    reads = HTTP_READS if whole else 20
    return {**found, **_beijing(order.folder, data / "beijing_air", reads)}


def _made_up(folder: Path) -> Path:
    """A little that looks like the data sets, to see whether all of this runs."""
    edits, air = folder / "wikipedia_edits", folder / "beijing_air"
    edits.mkdir(parents=True)
    air.mkdir()
    with gzip.open(edits / "edits.json.gz", "wt") as file:
        for at in range(500):
            row = {"time": f"2015-09-12T{at % 24:02}:00:00Z", "channel": f"#{at % 5}",
                   "added": at, "user": f"u{at % 9}", "page": f"p{at % 7}"}  # fmt: skip
            file.write(json.dumps(row) + "\n")
    with gzip.open(air / "Dongsi.csv.gz", "wt") as file:
        file.write("No,year,month,day,hour,PM2.5,TEMP,station\n")
        for at in range(12 * 28):
            month, day = at // 28 + 1, at % 28 + 1
            file.write(f"{at},2015,{month},{day},0,{at % 90}.5,NA,Dongsi\n")
    return folder


# ---------------------------------------------------------------- wikipedia


def _wikipedia(folder: Path, data: Path, copies: int) -> dict[str, float]:
    (file,) = data.glob("*.json.gz")
    many = folder / "copies"
    many.mkdir()
    raw = file.read_bytes()
    for number in range(copies):  # no two alike: the time of change in the head is of no meaning
        mark = number.to_bytes(4, "little")
        (many / f"{number:03}.json.gz").write_bytes(raw[:4] + mark + raw[8:])
    once, fifty = str(file), str(many / "*.json.gz")
    took, copied = _cold(folder / "one", once), _cold(folder / "many", fifty)
    raw, raw_copied = _duckdb(once), _duckdb(fifty)
    return {
        WIKIPEDIA: took,
        DUCKDB: raw,
        OVER: took / (2 * raw + 1.5),
        COPIES: copied,
        COPIES_DUCKDB: raw_copied,
        COPIES_OVER: copied / raw_copied,
    }


def _edits(pattern: str) -> Any:
    from farm_scheduler import (
        Aggregate,
        Count,
        Distinct,
        Files,
        Max,
        Mean,
        Min,
        Quantiles,
        Sum,
        TopK,
        Variance,
    )

    measures = {
        "edits": Count(), "added": Sum("added"), "mean": Mean("added"), "least": Min("added"),
        "most": Max("added"), "spread": Variance("added"), "users": Distinct("user"),
        "added_q": Quantiles("added"), "pages": TopK("page", 10),
    }  # fmt: skip
    return Aggregate(
        "edits", Files(pattern, time="time"), by=["channel"], every="1m", rollup=["1h", "1d"],
        measures=measures,
    )  # fmt: skip


def _cold(folder: Path, pattern: str) -> float:
    """The first run of an aggregate on a farm whose workers have done something before."""
    folder.mkdir()
    with _farm() as client:
        return _run(folder / "aggregates.db", client, _edits(pattern))[0]


def _duckdb(files: str) -> float:
    import duckdb

    with duckdb.connect(config={"threads": WORKERS}) as db:
        began = time.perf_counter()
        db.execute(ROWS.format(files=files))
        for unit in ("minute", "hour", "day"):
            db.execute(QUERY.format(unit=unit)).fetchall()
            db.execute(TOP.format(unit=unit)).fetchall()
        return time.perf_counter() - began


# ---------------------------------------------------------------- beijing


def _beijing(folder: Path, data: Path, reads: int) -> dict[str, float]:
    files = _site_months(data, folder / "beijing")
    air, catalog = _air(str(folder / "beijing/{site}/{month}.csv")), folder / "aggregates.db"
    with _farm() as client:
        cold, cold_cpu, _ = _counted(catalog, client, air)
        _touch(files[len(files) // 2])
        touched, touched_cpu, _ = _counted(catalog, client, air)
        time.sleep(3.0)  # what was changed just now is looked at again
        _run(catalog, client, air)
        again = [_counted(catalog, client, air) for _ in range(ROUNDS_OF_NOTHING)]
    return {
        COLD: cold,
        COLD_CPU: cold_cpu,
        TOUCHED: touched,
        TOUCHED_CPU: touched_cpu,
        SHARE: touched_cpu / cold_cpu,
        NOTHING: statistics.median(one[0] for one in again),
        NOTHING_TASKS: max(one[2] for one in again),
        **_reads(catalog),
        HTTP: _http(catalog, reads),
    }


def _site_months(data: Path, folder: Path) -> list[Path]:
    """A file for each site and month."""
    found = []
    for file in sorted(data.glob("*.csv.gz")):
        months: dict[str, list[list[str]]] = defaultdict(list)
        with gzip.open(file, "rt", newline="") as lines:
            head, *rows = csv.reader(lines)
        for row in rows:
            months[f"{row[1]}-{int(row[2]):02}"].append(row)
        for month, own in months.items():
            path = folder / file.name.partition(".")[0] / f"{month}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", newline="") as text:
                csv.writer(text, lineterminator="\n").writerows([head, *own])
            found.append(path)
    return found


def _touch(path: Path) -> None:
    """One more hour of bad air."""
    *lines, last = path.read_text().splitlines()
    cells = last.split(",")
    cells[5] = "499"
    path.write_text("\n".join([*lines, ",".join(cells), ""]))


def _air(pattern: str) -> Any:
    from farm_scheduler import Aggregate, Count, Files, Mean, Quantiles, Variance

    columns = dict.fromkeys(("PM2.5", "TEMP"), "DOUBLE")
    measures = {
        "hours": Count("PM2.5"), "mean": Mean("PM2.5"), "spread": Variance("PM2.5"),
        "q": Quantiles("PM2.5"), "warm": Mean("TEMP"),
    }  # fmt: skip
    source = Files(
        pattern, time="make_timestamp(year, month, day, hour, 0, 0)", zone="+08:00", null=("NA",),
        columns=columns,
    )  # fmt: skip
    return Aggregate(
        "air", source, by=["station"], every="1h", rollup=["1d", "1mo", "1y"],
        zone="Asia/Shanghai", measures=measures,
    )  # fmt: skip


# ---------------------------------------------------------------- running


@contextmanager
def _farm() -> Iterator[Any]:
    import farm

    with farm.local(workers=WORKERS) as client:
        list(client.map(_warm, range(WORKERS * 2)))
        yield client


def _warm(_number: int) -> None:
    """Have the modules that lifting needs."""
    import farm_scheduler.aggregates.lifting
    import farm_scheduler.aggregates.merging  # noqa: F401

    time.sleep(0.2)


class _Counting:
    """An executor that counts what it is given."""

    def __init__(self, client: Any) -> None:
        self.tasks = 0
        self._own = client.options(durable=False)

    def map(self, fn: Callable[[Any], Any], iterable: Any, /) -> Iterator[Any]:
        every = list(iterable)
        self.tasks += len(every)
        found: Iterator[Any] = self._own.map(fn, every)
        return found


def _run(path: Path, client: Any, aggregate: Any) -> tuple[float, int]:
    """Seconds and tasks of a run."""
    from farm_scheduler.aggregates import Catalog, build

    workers = _Counting(client)
    catalog = Catalog(path)
    began = time.perf_counter()
    with catalog.writing():
        built = build(replace(aggregate), catalog, workers)
    took = time.perf_counter() - began
    catalog.close()
    if built.failures:
        raise AssertionError(built.failures)
    return took, workers.tasks


def _counted(path: Path, client: Any, aggregate: Any) -> tuple[float, float, int]:
    """Seconds, processor seconds of this process and all below it, and tasks."""
    before = _processor_seconds()
    took, tasks = _run(path, client, aggregate)
    time.sleep(0.1)
    return took, _processor_seconds() - before, tasks


def _processor_seconds() -> float:
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


# ---------------------------------------------------------------- reading


def _reads(path: Path) -> dict[str, float]:
    from farm_scheduler.aggregates import Catalog, View

    catalog = Catalog(path, must_exist=True)
    view = View("air", catalog)
    with view.snapshot() as snapshot:
        found = {SNAPSHOT: _median(snapshot.read), CATALOG: _median(view.read)}
    catalog.close()
    return found


def _median(read: Callable[..., Any]) -> float:
    """The median of many reads of one group or another."""
    days = [f"2015-{month:02}-{day:02}" for month in range(1, 13) for day in range(1, 29)]
    for day in days:
        if read(station="Dongsi", day=day).value is None:
            raise AssertionError(day)
    took = []
    for number in range(READS):
        day = days[number % len(days)]
        began = time.perf_counter()
        read(station="Dongsi", day=day)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def _http(path: Path, reads: int) -> float:
    """Reads a second of one gateway process, over many connections of another."""
    with TemporaryDirectory(prefix="farm-") as sockets:
        address, port = f"ipc://{sockets}/farm", free_ports()
        serve = [sys.executable, "-m", "farm"]
        processes = [
            subprocess.Popen([*serve, "coordinator", "--listen", address, "--log-level", "error",
                              "--store", f"{sockets}/farm.db"]),
            subprocess.Popen([*serve, "gateway", "--address", address, "--listen",
                              f"127.0.0.1:{port}", "--log-level", "error",
                              "--schedules", str(path.with_name("schedules.db"))]),
        ]  # fmt: skip
        try:
            _await_answer(port)
            asking = [sys.executable, "-m", "tests.benchmarks.http_reads", str(port), READ]
            return float(subprocess.check_output([*asking, str(reads)]))
        finally:
            for one in processes:
                one.kill()
                one.wait()


def _await_answer(port: int) -> None:
    """Have the gateway serve, and what is read in its memory."""
    deadline = time.monotonic() + 60
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        try:
            connection.request("GET", READ)
            answer = connection.getresponse()
            data = answer.read()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
            continue
        if answer.status != http.client.OK:
            raise AssertionError(data)
        return


CASE = Case(
    name="aggregates",
    title="aggregates of real data",
    contenders=(FARM,),
    size=50,
    quick=2,
    measure=measure,
    goals=(
        Goal(WIKIPEDIA),
        Goal(DUCKDB),
        Goal(OVER, at_most=1.0),
        Goal(COPIES),
        Goal(COPIES_DUCKDB),
        Goal(COPIES_OVER, at_most=2.0),
        Goal(COLD),
        Goal(COLD_CPU),
        Goal(TOUCHED),
        Goal(SHARE, at_most=0.02),
        Goal(NOTHING, at_most=0.1),
        Goal(NOTHING_TASKS, at_most=0),
        Goal(SNAPSHOT, at_most=5e-6),
        Goal(CATALOG, at_most=50e-6),
        Goal(HTTP, at_least=2_000),
    ),
    rounds_max=1,
    limit=1_200.0,
)
