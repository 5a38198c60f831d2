"""Commands that compute aggregates, or look after what is kept: plan, run, verify, gc, rollback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli.aggregates import GROUP, PANEL, CatalogOption, NameArgument, open_catalog
from farm.cli.exitcodes import Refused, TaskFailed
from farm.cli.output import Column
from farm.cli.run import AddressOption, Run, command
from farm.cli.settings import scheduler_state
from farm.cli.words import bytes_text, count_text, seconds_text
from farm.errors import UnknownTask

if TYPE_CHECKING:
    from farm_scheduler.aggregates import Aggregate, Catalog

__all__: list[str] = []

FilesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        help="Where it is defined: a *.py, or the name of a module; may be given again. Default:"
        " the files of the scheduler on this machine.",
        show_default=False,
    ),
]
HereOption = Annotated[
    bool, typer.Option("--here", help="Compute in this process, without a farm.")
]


def _defined(run: Run, name: str, files: list[str] | None) -> "Aggregate":
    """The definition of an aggregate; raises ``UnknownTask`` naming the nearest."""
    from difflib import get_close_matches

    from farm_scheduler.files import read_aggregates
    from farm_scheduler.state import State

    if not files:
        path = scheduler_state(run.config())
        files = list(State(path, must_exist=True).files()) if path.exists() else []
        files = [one for one in files if not one.endswith(".toml")]
    if not files:
        raise Refused("no file is known that defines aggregates; name one with --file")
    sys.path.insert(0, str(Path.cwd()))
    found = read_aggregates(files)
    if name not in found:
        near = get_close_matches(name, found, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(found) or 'none'}"
        raise UnknownTask(f"{', '.join(files)} define no aggregate {name!r}; {hint}")
    if (wrong := getattr(found[name], "error", None)) is not None:  # it is a stopped one
        raise wrong
    aggregate: Aggregate = found[name]
    return aggregate


@contextmanager
def _workers(run: Run, address: str | None, *, here: bool) -> Iterator[Any]:
    if here:
        from farm_scheduler.aggregates import Here

        yield Here()
        return
    from farm.client.client import Client

    with Client(run.config(client_address=address).address or None) as client:
        yield client.options(durable=False)


@command(
    "plan",
    panel=PANEL,
    group=GROUP,
    examples=["farm aggregates plan edits", "farm aggregates plan edits -f edits.py"],
)
def plan(
    run: Run, name: NameArgument, *, file: FilesOption = None, catalog: CatalogOption = None
) -> None:
    """Say what a run would do now: which partitions have changed, and what follows from it."""
    store = open_catalog(run, catalog, must_exist=False)
    from farm_scheduler.aggregates import make_plan

    found = make_plan(_defined(run, name, file), store)
    run.output.note(str(found))
    rows = [{"partition": one.partition.name, "why": one.why} for one in found.changes]
    rows += [{"partition": one, "why": "removed"} for one in found.removed]
    rows += [{"partition": one, "why": "lacks a measure that is new"} for one in found.again]
    columns = [Column("partition", "PARTITION"), Column("why", "WHY")]
    run.output.table(rows, columns, empty="Nothing has changed.")


@command(
    "run",
    panel=PANEL,
    group=GROUP,
    examples=["farm aggregates run edits", "farm aggregates run edits -f edits.py --here"],
)
def run_aggregate(
    run: Run,
    name: NameArgument,
    *,
    file: FilesOption = None,
    here: HereOption = False,
    address: AddressOption = None,
    catalog: CatalogOption = None,
) -> None:
    """Bring an aggregate up to date and publish it.

    Where a scheduler runs it is the one that does so: `farm schedules run NAME`.
    """
    store = open_catalog(run, catalog, must_exist=False)
    from farm_scheduler.aggregates import build

    aggregate = _defined(run, name, file)
    with store.writing(), _workers(run, address, here=here) as workers:
        built = build(aggregate, store, workers)
    data = {
        "plan": str(built.plan),
        "version": built.version or None,
        "lifted": built.lifted,
        "merged": built.merged,
        "seconds": built.seconds,
        "failures": built.failures,
    }
    run.output.answer(data, f"{built}, {seconds_text(built.seconds)}")
    for message in built.failures.values():
        run.output.note(f"not in it: {message}")


@command("verify", panel=PANEL, group=GROUP, examples=["farm aggregates verify edits -n 20"])
def verify_some(
    run: Run,
    name: NameArgument,
    *,
    count: Annotated[int, typer.Option("-n", min=1, help="How many partitions.")] = 5,
    file: FilesOption = None,
    here: HereOption = False,
    address: AddressOption = None,
    catalog: CatalogOption = None,
) -> None:
    """Compute random partitions again and compare with what is published."""
    store = open_catalog(run, catalog)
    from farm_scheduler.aggregates import verify

    aggregate = _defined(run, name, file)
    with _workers(run, address, here=here) as workers:
        found = verify(aggregate, store, workers, count)
    if found.wrong:
        raise TaskFailed("; ".join(f"{name}: {why}" for name, why in found.wrong.items()))
    changed = f", {len(found.changed)} have changed since" if found.changed else ""
    text = f"{count_text(len(found.checked))} partitions came out the same{changed}"
    run.output.answer(found._asdict(), text)


@command("gc", panel=PANEL, group=GROUP, examples=["farm aggregates gc"])
def collect(run: Run, *, catalog: CatalogOption = None) -> None:
    """Remove versions that were kept long enough, and what only they needed.

    The newest two, what somebody reads, and what is younger than an hour are spared.
    """
    store = open_catalog(run, catalog)
    with store.writing():
        found = store.collect(_kept(store))
    text = (
        f"removed {count_text(found.versions)} versions and {count_text(found.nodes)} nodes, "
        f"{bytes_text(found.bytes)}"
    )
    run.output.answer(found._asdict(), text)


def _kept(store: "Catalog") -> dict[str, float]:
    """How long versions are kept, by what each aggregate was published with."""
    found = {}
    for name in store.names():
        manifest = store.manifest(name)
        if manifest is not None:
            found[name] = float(manifest.definition.get("keep", 0.0))
    return found


@command("rollback", panel=PANEL, group=GROUP, examples=["farm aggregates rollback edits 3"])
def roll_back(
    run: Run,
    name: NameArgument,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="The version to serve.")],
    *,
    catalog: CatalogOption = None,
) -> None:
    """Serve an older version again, until the next run publishes a new one."""
    store = open_catalog(run, catalog)
    with store.writing():
        store.roll_back(name, version)
    data = {"name": name, "version": version}
    run.output.answer(data, f"{name}: version {version} is served")
