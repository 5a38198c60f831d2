"""Commands that read aggregates: list, show, read, explain, export."""

import time
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli.exitcodes import Refused
from farm.cli.output import Column
from farm.cli.run import Run, command, command_group
from farm.cli.settings import scheduler_state
from farm.cli.words import bytes_text, count_text, dash, seconds_text

if TYPE_CHECKING:
    from farm_scheduler.aggregates import Catalog, View

__all__ = ["GROUP", "PANEL", "CatalogOption", "NameArgument", "open_catalog"]

PANEL = "Aggregates"
GROUP = command_group("aggregates", PANEL, "Answers computed in advance: read, explain, run.")
MISSING = "aggregates are not installed: pip install 'compute-farm[aggregates]'"
NEEDED = ("pyarrow", "duckdb")
"""What is loaded by commands that read or compute; only looked for here."""

CatalogOption = Annotated[
    Path | None,
    typer.Option(
        "--catalog",
        metavar="FILE",
        help="Where versions are kept. Default: aggregates.db beside the farm's store.",
        show_default=False,
    ),
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The aggregate.")]
WhereArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="COLUMN=VALUE...",
        help="The group and the window: channel=#en hour=2015-09-12T13.",
    ),
]
VersionOption = Annotated[
    int | None,
    typer.Option(min=1, help="A version by its number.", show_default=False),
]
AsOfOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="What was served then: 2026-03-08 or 2026-03-08T02:30Z.",
        show_default=False,
    ),
]


def open_catalog(run: Run, path: Path | None, *, must_exist: bool = True) -> "Catalog":
    """The catalog of this machine's scheduler, or the one that was named."""
    if any(find_spec(needed) is None for needed in NEEDED):
        raise Refused(MISSING)
    from farm_scheduler.aggregates import Catalog
    from farm_scheduler.settings import catalog_beside

    found = path or catalog_beside(scheduler_state(run.config()))
    return Catalog(found, must_exist=must_exist)


def _view(run: Run, name: str, path: Path | None) -> "View":
    catalog = open_catalog(run, path)
    from farm_scheduler.aggregates import View

    return View(name, catalog)


def time_text(at: float | None) -> str:
    """An instant, in UTC."""
    return "-" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


@command(
    "list",
    panel=PANEL,
    group=GROUP,
    examples=["farm aggregates list", "farm aggregates list --json"],
)
def list_aggregates(run: Run, *, catalog: CatalogOption = None) -> None:
    """List what is published: versions, how old, and whether it keeps its promise."""
    found = open_catalog(run, catalog)
    rows = []
    for name in found.names():
        manifest = found.manifest(name)
        version, checked = found.served(name)
        if manifest is None:
            continue
        age = time.time() - max(checked, manifest.as_of)
        promised = manifest.definition["fresh_within"]
        rows.append(
            {
                "name": name,
                "version": version,
                "as_of": max(checked, manifest.as_of),
                "staleness": age,
                "fresh": promised is None or age <= promised,
                "complete": manifest.complete,
                "partitions": len(manifest.partitions),
                "state": _state(age, promised, len(manifest.failures)),
            }
        )
    columns = [
        Column("name", "AGGREGATE"),
        Column("version", "VERSION", right=True),
        Column("partitions", "PARTITIONS", right=True),
        Column("staleness", "AGE", seconds_text, right=True),
        Column("state", "STATE"),
    ]
    run.output.table(rows, columns, empty="Nothing is published.")


def _state(age: float, promised: float | None, failures: int) -> str:
    said = []
    if promised is not None and age > promised:
        said.append(f"late: {seconds_text(promised)} was promised")
    if failures:
        said.append(f"incomplete: {count_text(failures)} partitions failed")
    return "; ".join(said) or "fresh"


@command("show", panel=PANEL, group=GROUP, examples=["farm aggregates show edits"])
def show_aggregate(run: Run, name: NameArgument, *, catalog: CatalogOption = None) -> None:
    """Show an aggregate: what it is, its versions, runs, late rows and failures."""
    view = _view(run, name, catalog)
    manifest, store = view.manifest, view.catalog
    versions = store.versions(name)
    runs = store.runs(name, 5)
    watermark = None if manifest.watermark is None else manifest.watermark / 1e6
    data: dict[str, Any] = {
        "name": name,
        "version": manifest.version,
        "as_of": max(store.served(name)[1], manifest.as_of),
        "watermark": watermark,
        "complete": manifest.complete,
        **manifest.definition,
        "partitions": len(manifest.partitions),
        "late": {
            "folded": manifest.late.folded,
            "set aside": manifest.late.quarantined,
            "removed": manifest.late.removed,
        },
        "undated": sum(one.undated for one in manifest.partitions.values()),
        "failures": manifest.failures,
        "versions": [one._asdict() for one in versions],
        "runs": [one._asdict() for one in runs],
    }
    shown = {
        "version": f"{manifest.version}, of {len(versions)} that are kept",
        "as of": time_text(data["as_of"]),
        "watermark": time_text(watermark),
        "by": ", ".join(manifest.definition["by"]) or "-",
        "windows": ", ".join(manifest.definition["levels"]),
        "measures": ", ".join(
            f"{key} = {value}" for key, value in manifest.definition["measures"].items()
        ),
        "schedule": manifest.definition["schedule"] or "-",
        "partitions": count_text(len(manifest.partitions)),
        "late rows": ", ".join(f"{count_text(n)} {what}" for what, n in data["late"].items()),
        "rows without a time": count_text(data["undated"]),
        "failed": "; ".join(manifest.failures.values()) or "-",
        "last runs": "; ".join(f"{time_text(one.started)} {one.detail}" for one in runs),
    }
    run.output.facts(data, shown)


def parse_where(texts: list[str]) -> dict[str, Any]:
    """``column=value`` as a dict; whole numbers and ``true``/``false`` as such with ``:=``."""
    import json

    found: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{text!r} is not COLUMN=VALUE, as in channel=#en")
        if name.endswith(":"):
            try:
                found[name[:-1]] = json.loads(value)
            except ValueError:
                raise typer.BadParameter(f"{text!r}: after := comes JSON, as in site:=3") from None
        else:
            found[name] = value
    return found


@command(
    "read",
    panel=PANEL,
    group=GROUP,
    examples=[
        "farm aggregates read edits channel=#en.wikipedia hour=2015-09-12T13",
        "farm aggregates read edits channel=#en.wikipedia day=2015-09-12 --as-of 2026-03-01",
    ],
)
def read(
    run: Run,
    name: NameArgument,
    where: WhereArgument,
    *,
    as_of: AsOfOption = None,
    version: VersionOption = None,
    catalog: CatalogOption = None,
) -> None:
    """Read one group and how far it can be trusted. A number is written site:=3."""
    reading = _view(run, name, catalog).read(as_of=as_of, version=version, **parse_where(where))
    data = {**reading._asdict(), "exact": reading.exact}
    shown = {key: _plain(value) for key, value in (reading.value or {"rows": "none"}).items()}
    shown |= {
        "version": f"{reading.version}, as of {time_text(reading.as_of)}",
        "watermark": time_text(reading.watermark),
        "complete": "yes" if reading.complete else "no: `farm aggregates show` says why",
        "error": ", ".join(f"{key} {value:.2g}" for key, value in reading.error.items()) or "exact",
    }
    run.output.facts(data, shown)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(one) for one in value)
    if isinstance(value, dict):
        if set(value) == {"value", "count"}:
            return f"{value['value']} ({value['count']})"
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@command(
    "explain",
    panel=PANEL,
    group=GROUP,
    examples=["farm aggregates explain edits channel=#en.wikipedia hour=2015-09-12T13"],
)
def explain_number(
    run: Run,
    name: NameArgument,
    where: WhereArgument,
    *,
    version: VersionOption = None,
    as_of: AsOfOption = None,
    catalog: CatalogOption = None,
) -> None:
    """Show the partitions behind a number, with the rows that each has in it.

    LATE and ASIDE are of all rows of a partition: those that came late, and were folded in or set
    aside.
    """
    from farm_scheduler.aggregates import explain

    view = _view(run, name, catalog)
    found = explain(view.version(version, as_of), view.catalog, **parse_where(where))
    run.output.note(
        f"{sum(one.rows for one in found.contributions)} rows, in version "
        f"{found.reading.version} by {found.run}, as of {time_text(found.reading.as_of)}"
    )
    rows = [{**one._asdict(), "state": one.failed or "as published"} for one in found.contributions]
    columns = [
        Column("partition", "PARTITION"),
        Column("rows", "ROWS", right=True),
        Column("late", "LATE", right=True),
        Column("aside", "ASIDE", right=True),
        Column("fingerprint", "CONTENT", lambda text: str(text)[:12]),
        Column("checked", "LOOKED AT", time_text),
        Column("state", "STATE", dash),
    ]
    run.output.table(rows, columns, empty="No partition has rows of it.")
    for message in found.failures.values():
        run.output.note(f"not in it: {message}")


@command(
    "export",
    panel=PANEL,
    group=GROUP,
    examples=["farm aggregates export edits edits.parquet --level hour"],
)
def export(
    run: Run,
    name: NameArgument,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A Parquet file to write.")],
    *,
    level: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL", help="hour, day, 15m … Default: the coarsest.", show_default=False
        ),
    ] = None,
    version: VersionOption = None,
    catalog: CatalogOption = None,
) -> None:
    """Write all groups of a level as Parquet."""
    rows = _view(run, name, catalog).export(path, level, version=version)
    size = path.stat().st_size
    data = {"path": str(path), "rows": rows, "bytes": size}
    run.output.answer(data, f"{path}: {count_text(rows)} rows, {bytes_text(size)}")
