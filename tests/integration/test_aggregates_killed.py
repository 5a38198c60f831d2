"""Runs that are killed leave what is served, and the next ones go on with what was computed."""

import os
import random
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

import farm
from farm_scheduler import Aggregate, Count, Distinct, Files, Quantiles, Sum, TopK
from farm_scheduler.aggregates import Catalog, Here, build
from tests.conftest import REPOSITORY
from tests.unit.aggregates_helpers import write_lines

pytestmark = pytest.mark.usefixtures("forked_services")

HOURS = 12
RUNS_MAX = 6
PROGRAM = """
import os, sys
from pathlib import Path
from farm_scheduler.aggregates import Catalog, Here, build
from tests.integration.test_aggregates_killed import aggregate_of
folder = Path(sys.argv[1])
for _ in sys.stdin:  # a process for each run, but one start
    if not (pid := os.fork()):
        catalog = Catalog(folder / "killed.db")
        with catalog.writing():
            print(os.getpid(), flush=True)
            build(aggregate_of(folder), catalog, Here())
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def aggregate_of(folder):
    return Aggregate(
        "edits",
        Files(str(folder / "edits/{hour_}.json"), time="time"),
        by=["channel"],
        every="15m",
        rollup=["1h", "1d"],
        measures={
            "n": Count(),
            "added": Sum("added"),
            "users": Distinct("user"),
            "q": Quantiles("added", keep=16),
            "pages": TopK("page", 3, keep=8),
        },
    )


def write_hour(folder, hour, rows=60):
    chance = random.Random(hour * 1000 + rows)
    found = [
        {
            "time": f"2015-09-12T{hour:02}:{at % 60:02}:00Z",
            "channel": chance.choice(["#en", "#de", "#fr"]),
            "added": chance.randrange(1000),
            "user": f"u{chance.randrange(40)}",
            "page": f"p{chance.randrange(30)}",
        }
        for at in range(rows)
    ]
    write_lines(folder / f"edits/{hour:02}.json", found)


@pytest.fixture
def folder(tmp_path):
    for hour in range(HOURS):
        write_hour(tmp_path, hour)
    return tmp_path


def published(catalog):
    """Every value of the version that is served, as bytes."""
    manifest = catalog.manifest("edits")
    return {
        (level, chunk): catalog.node(ref.values)
        for level, chunks in manifest.levels.items()
        for chunk, ref in chunks.items()
    }


def undisturbed(folder):
    catalog = Catalog(folder / "undisturbed.db")
    build(aggregate_of(folder), catalog, Here())
    found = published(catalog)
    catalog.close()
    return found


@pytest.fixture
def runs(folder):
    """A process that runs the aggregate in one of its own for each line that it reads."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as process:
        yield process


def run_killed(runs, seconds):
    """Run in a process of its own that is killed after some time; its exit code."""
    runs.stdin.write(b"\n")
    pid = int(runs.stdout.readline())
    if not select.select([runs.stdout], [], [], seconds)[0]:
        with suppress(ProcessLookupError):  # it has ended just now
            os.kill(pid, signal.SIGKILL)
    return int(runs.stdout.readline())


def test_a_run_that_is_killed_again_and_again_comes_out_the_same(folder, runs):
    chance = random.Random(7)
    codes = []
    for at in range(RUNS_MAX):
        patience = 60.0 if at == RUNS_MAX - 1 else 0.05 + chance.random() * 0.8 * (at + 1)
        codes.append(run_killed(runs, patience))
        if codes[-1] == 0:
            break
    assert codes[-1] == 0
    assert codes.count(-signal.SIGKILL) == len(codes) - 1
    catalog = Catalog(folder / "killed.db", must_exist=True)
    assert published(catalog) == undisturbed(folder)
    catalog.close()


def test_a_killed_run_leaves_what_is_served(folder):
    catalog = Catalog(folder / "killed.db")
    build(aggregate_of(folder), catalog, Here())
    before = published(catalog)
    write_hour(folder, 3, rows=80)

    class Killed(BaseException):
        """As a kill would, it ends the run where it is."""

    class Workers(Here):
        def map(self, fn, iterable, /):
            for at, one in enumerate(super().map(fn, iterable)):
                yield one
                if getattr(fn, "func", fn).__name__ == "merge" and at == 0:
                    raise Killed

    with pytest.raises(Killed):
        build(aggregate_of(folder), catalog, Workers())
    assert published(catalog) == before
    assert next(one.state for one in catalog.runs("edits")) == "failed"
    built = build(aggregate_of(folder), catalog, Here())
    assert built.lifted == 0  # that was done before
    assert published(catalog) == undisturbed(folder)
    catalog.close()


def test_killed_workers_change_nothing(folder):
    with farm.local(workers=2) as client:
        client.submit(os.getpid).result()

        class Workers:
            """The farm's, of whom one is killed at each step."""

            def map(self, fn, iterable, /):
                found = client.options(durable=False).map(fn, list(iterable), chunksize=1)
                kill_one_worker()
                return found

        catalog = Catalog(folder / "killed.db")
        build(aggregate_of(folder), catalog, Workers())
        assert published(catalog) == undisturbed(folder)
        catalog.close()


def kill_one_worker():
    """SIGKILL a worker of this process's farm."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for one in psutil.Process().children(recursive=True):
            try:
                if "worker" in " ".join(one.cmdline()) and not one.children():
                    one.kill()
                    return
            except psutil.Error:
                continue
        time.sleep(0.01)
    raise AssertionError("there was no worker")
