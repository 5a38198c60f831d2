"""A table of PostgreSQL as a source: a real server, on loopback, of the test's own."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from farm.errors import ConfigError
from farm_scheduler import Aggregate, Count, SqlTable, Sum
from tests.processes import free_ports, own_environment
from tests.tools import find
from tests.unit.aggregates_helpers import Desk

psycopg = pytest.importorskip("psycopg")
START_SECONDS = 60
# By the type of the column: what it is in SQL of the moment ``at``.
TIMES = {
    "timestamptz": "at",
    "timestamp": "at AT TIME ZONE 'UTC'",
    "date": "(at AT TIME ZONE 'UTC')::date",
    "text": "to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS')",
    "bigint": "extract(epoch FROM at)::bigint",
}
FILL = """
INSERT INTO sales SELECT {time}, 'shop ' || n % 2, n, 1, n / 4.0
FROM (SELECT n, '2015-09-12T00:30:00Z'::timestamptz + n * interval '1 hour' AS at
      FROM generate_series(0, 95) AS n) AS hours
"""


@pytest.fixture(scope="module")
def server():
    """Where a server listens that is stopped afterwards; it refuses to be root."""
    programs = {name: find(name) for name in ("initdb", "postgres")}
    if None in programs.values():
        pytest.skip("PostgreSQL is not installed: python -m tests.tools installs it, as root")
    folder = Path(tempfile.mkdtemp(prefix="farm-postgres-"))
    how = {"env": own_environment(folder), "cwd": "/", "stdout": subprocess.DEVNULL}
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")
        how |= {"user": "nobody", "extra_groups": []}
    data, port = str(folder / "data"), free_ports()
    options = ["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "shared_buffers=8MB"]
    running = None
    try:
        subprocess.run(
            [programs["initdb"], "-D", data, "-U", "farm", "-A", "trust", "--no-sync",
             "--locale=C", "--encoding=UTF8"],
            check=True, **how,
        )  # fmt: skip
        listen = [programs["postgres"], "-D", data, "-h", "127.0.0.1", "-p", str(port), *options]
        running = subprocess.Popen(listen, stderr=subprocess.DEVNULL, **how)
        url = f"postgresql://farm@127.0.0.1:{port}/postgres"
        _await_server(url, running)
        yield url
    finally:
        if running is not None:
            running.send_signal(2)  # its way to stop at once, in order
            running.wait(START_SECONDS)
        shutil.rmtree(folder)


def _await_server(url, process):
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)


@pytest.fixture
def run(server):
    def run(query):
        with psycopg.connect(server, autocommit=True) as db:
            db.execute(query)

    return run


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.catalog.close()


def fill(run, kind="timestamptz"):
    run("DROP TABLE IF EXISTS sales")
    run(f"CREATE TABLE sales (at {kind}, shop text, cents int, changed int, price numeric(9, 2))")
    run(FILL.format(time=TIMES[kind]))


def sales(server, **how):
    return Aggregate(
        "sales",
        SqlTable(server, "public.sales", "at", **how),
        by=["shop"],
        rollup=["1d"],
        measures={"n": Count(), "cents": Sum("cents"), "price": Sum("price")},
    )


def totals(desk):
    return {
        (f"{row['day']:%d}", row["shop"]): (row["n"], row["cents"], row["price"])
        for row in desk.snapshot("sales").table("day").to_pylist()
    }


def expected():
    days = {}
    for n in range(96):
        count, cents, price = days.get(key := (str(12 + n // 24), f"shop {n % 2}"), (0, 0, 0))
        days[key] = (count + 1, cents + n, price + n / 4)
    return days


@pytest.mark.parametrize("kind", TIMES)
def test_times_of_every_kind_are_understood(desk, server, run, kind):
    fill(run, kind)
    built = desk.build(sales(server))
    assert (built.failures, built.plan.partitions) == ({}, 4)
    assert totals(desk) == expected()
    assert desk.build(sales(server)).plan.is_empty


def test_a_change_of_rows_dirties_their_range_only(desk, server, run):
    fill(run)
    desk.build(sales(server))
    for change, dirty, removed in (
        ("UPDATE sales SET cents = 1000 WHERE at = '2015-09-13T05:30Z'", 1, 0),
        ("UPDATE sales SET at = at - interval '1 day' WHERE at = '2015-09-14T05:30Z'", 2, 0),
        ("DELETE FROM sales WHERE at >= '2015-09-15'", 0, 1),
    ):
        run(change)
        plan = desk.build(sales(server)).plan
        assert (len(plan.changes), len(plan.removed)) == (dirty, removed), change
    assert sum(n for n, _, _ in totals(desk).values()) == 72
    assert totals(desk)["13", "shop 1"][1] == sum(range(25, 48, 2)) - 29 + 1000 + 53


def test_ranges_are_told_by_a_version_and_rows_by_a_condition(desk, server, run):
    fill(run)
    own = sales(server, version_column="changed", where="shop LIKE '%1'")
    desk.build(own)
    assert {shop for _, shop in totals(desk)} == {"shop 1"}
    run("UPDATE sales SET cents = 7, changed = 2 WHERE at = '2015-09-14T01:30Z'")
    assert len(desk.build(own).plan.changes) == 1


def test_what_is_not_there_is_named(desk, server, run):
    fill(run)
    with pytest.raises(ConfigError, match='relation "nothing" does not exist'):
        desk.build(Aggregate("sales", SqlTable(server, "nothing", "at")))
    nobody = f"postgresql://farm@127.0.0.1:{free_ports()}/postgres"
    with pytest.raises(ConfigError, match=r"SqlTable\('public.sales'\): .*refused"):
        desk.build(sales(nobody))
