"""The end of ``farm demo``: its own findings as an aggregate, kept up while they change.

A scheduler of its own looks at the findings every two seconds; after each change it computes the
part that follows from it, and a read takes microseconds all the while.
"""

import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from farm.cli.demo_tasks import Findings
from farm.cli.output import Output
from farm.cli.words import count_text

if TYPE_CHECKING:
    from farm_scheduler.aggregates import View

__all__ = ["keep_up"]

SINGLE = "(single files)"
CHANGES = 2
READS = 2000
PATIENCE_SECONDS = 30.0
LOOK_SECONDS = 0.05
MODULE = """from farm_scheduler import Aggregate, Count, Files, Max, Quantiles, Sum

findings = Aggregate(
    name="findings",
    source=Files({pattern!r}, time="time"),
    by=["release", "package"],
    every="1h",
    rollup=["1d"],
    measures={{
        "files": Count(),
        "lines": Sum("lines"),
        "tokens": Sum("tokens"),
        "paths": Quantiles("paths"),
        "hardest": Max("paths"),
    }},
    schedule="@every 2s",
)
"""


def keep_up(
    output: Output, address: str, root: Path, findings: Sequence[Findings]
) -> dict[str, Any]:
    """Publish the findings by package, change some, and say what was computed again.

    Returns what was seen, for programs; nothing if aggregates are not installed.
    """
    if any(find_spec(name) is None for name in ("duckdb", "pyarrow", "cronsim")):
        output.note("Aggregates are not installed: pip install 'compute-farm[aggregates]'.")
        return {}
    with tempfile.TemporaryDirectory(prefix="farm-demo-") as name:
        folder = Path(name)
        parts = _write(folder / "findings", root, findings)
        (folder / "demo_aggregates.py").write_text(
            MODULE.format(pattern=str(folder / "findings" / "{part}.json"))
        )
        with _scheduler(folder, address) as state:
            output.note(
                f"\nA schedule, every 2 s: its findings by package, {len(parts)} files of them."
            )
            return _watch(output, state, parts)


def _write(folder: Path, root: Path, findings: Sequence[Findings]) -> dict[str, Path]:
    """A file of findings for each package; returns them."""
    folder.mkdir()
    now = datetime.now(UTC).isoformat()
    rows: defaultdict[str, list[str]] = defaultdict(list)
    for one in findings:
        package, separator, _ = os.path.relpath(one.path, root).partition(os.sep)
        package = package if separator else SINGLE
        rows[package].append(_row(package, now, one.lines, one.tokens, one.paths))
    paths = {package: folder / f"{at:04}.json" for at, package in enumerate(sorted(rows))}
    for package, path in paths.items():
        path.write_text("".join(rows[package]))
    return paths


def _row(package: str, now: str, lines: int, tokens: int, paths: int) -> str:
    release = ".".join(map(str, sys.version_info[:3]))
    row = {"time": now, "release": release, "package": package}
    return json.dumps({**row, "lines": lines, "tokens": tokens, "paths": paths}) + "\n"


@contextmanager
def _scheduler(folder: Path, address: str) -> Iterator[Path]:
    """A scheduler of the farm, as a process; gives its state file."""
    from farm.supervisor import Service

    state = folder / "schedules.db"
    settings = {
        "files": [str(folder / "demo_aggregates.py")],
        "address": address,
        "state": str(state),
        "sys_path": [one for one in sys.path if one],
        "log_level": "error",
    }

    def launch(parent_fd: int, _ready_fd: int | None) -> dict[str, Any]:
        return {**settings, "parent_fd": parent_fd, "parent_pid": os.getpid()}

    service = Service("scheduler", "farm_scheduler", folder, launch)
    service.start()
    try:
        yield state
    finally:
        service.end(at_once=False)
        service.join()


def _watch(output: Output, state: Path, parts: dict[str, Path]) -> dict[str, Any]:
    """Wait for the first version, change what is behind it, and wait for the next."""
    from farm_scheduler.aggregates import Catalog, View
    from farm_scheduler.settings import catalog_beside

    path = catalog_beside(state)
    end = time.monotonic() + PATIENCE_SECONDS
    while not path.exists() and time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
    catalog = Catalog(path, must_exist=True)
    try:
        plans = [_next(output, catalog, 0)]
        for package in list(parts)[:CHANGES]:
            version = catalog.head("findings")
            with parts[package].open("a") as file:
                file.write(_row(package, datetime.now(UTC).isoformat(), 100, 1000, 5))
            output.note(f"  one file more in {package} …")
            plans.append(_next(output, catalog, version))
        view = View("findings", catalog)
        microseconds = _time_reads(view, list(parts))
        reading = view.read(**_group(next(iter(parts))))
    finally:
        catalog.close()
    files = (reading.value or {}).get("files", 0)
    output.note(
        f"A read takes {microseconds:.1f} µs (median of {count_text(READS)}), and says how good it "
        f"is: {files} files, version {reading.version}, {reading.staleness:.1f} s old."
    )
    return {"plans": plans, "read_microseconds": microseconds, "version": reading.version}


def _next(output: Output, catalog: Any, version: int) -> str:
    """What was done for the version after this one."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        found = next(
            (one for one in catalog.runs("findings") if (one.version or 0) > version), None
        )
        if found is not None:
            said = f"version {found.version} in {found.ended - found.started:.2f} s: {found.detail}"
            output.note(f"  {said}")
            return str(found.detail)
        time.sleep(LOOK_SECONDS)
    raise TimeoutError(f"no version after {version} was published in {PATIENCE_SECONDS:.0f} s")


def _group(package: str) -> dict[str, Any]:
    release = ".".join(map(str, sys.version_info[:3]))
    day = datetime.now(UTC).date().isoformat()
    return {"release": release, "package": package, "day": day}


def _time_reads(view: "View", packages: Sequence[str]) -> float:
    """Microseconds of a read from a snapshot, in the median."""
    groups = [_group(package) for package in packages]
    found = []
    with view.snapshot() as snapshot:
        for at in range(READS):
            group = groups[at % len(groups)]
            begun = time.perf_counter_ns()
            snapshot.read(**group)
            found.append((time.perf_counter_ns() - begun) / 1000)
    return median(found)
