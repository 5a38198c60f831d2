"""Commands about the store of a coordinator, on its machine: backup, check, restore."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from farm.cli.exitcodes import ExitCode
from farm.cli.run import Run, command, command_group
from farm.cli.settings import store_address
from farm.errors import ConfigError
from farm.model import MOMENT_END

__all__: list[str] = []

PANEL = "Store"
GROUP = command_group("store", PANEL, "Back up, check or restore the store of a coordinator.")

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PATH",
        help="The store. Default: that of `farm up` and `farm coordinator`.",
        show_default=False,
    ),
]


def _path(run: Run, store: str | None) -> Path:
    """The file of a store, by default the one of the settings."""
    address = store_address(run.config(coordinator_store=store))
    if address == "memory:":
        raise ConfigError("a store in memory is gone with its coordinator; name a path")
    return Path(address).expanduser()


@command(
    "backup",
    panel=PANEL,
    examples=[
        "farm store backup /backups/farm-monday.db",
        "farm store backup --store /var/lib/farm/farm.db /backups/farm.db",
    ],
    group=GROUP,
)
def backup(
    run: Run,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Where the copy is to be.")],
    store: StoreOption = None,
) -> None:
    """Copy the store as it is at one commit; its coordinator goes on meanwhile.

    The copy is a store itself: a file, and beside it those whose names begin as its own.
    """
    from farm.store import care

    source = _path(run, store)
    copied = care.backup(source, path)
    data = {
        "store": str(source),
        "backup": str(path),
        "epoch": copied.epoch,
        "commit": copied.commit,
        "records": copied.records,
        "large_rows": copied.large,
        "files": copied.files,
    }
    text = f"{path} is {source} as of commit {copied.commit}: {copied.records} records"
    run.output.answer(data, text)


@command(
    "check",
    panel=PANEL,
    examples=["farm store check", "farm store check /backups/farm-monday.db"],
    group=GROUP,
)
def check(
    run: Run,
    path: Annotated[
        str | None,
        typer.Argument(metavar="PATH", help="A store, or a copy of one.", show_default=False),
    ] = None,
) -> None:
    """Read a whole store, or a copy of one, and name everything that is wrong with it."""
    from farm.store import care

    store = _path(run, path)
    found = care.check(store)
    text = (
        "\n".join(found.problems)
        or f"{store} is whole: {found.records} records, {found.large} of them large, and "
        f"{found.functions} functions, as of commit {found.commit}"
    )
    if found.next_due is not None and not found.problems:
        text += f"; {found.later} start later, the first "
        if found.next_due < MOMENT_END:
            text += f"at {datetime.fromtimestamp(found.next_due, UTC):%Y-%m-%d %H:%M:%S} UTC"
        else:
            text += "after the year 9999"
    run.output.answer({"store": str(store), **found._asdict()}, text)
    if found.problems:
        raise typer.Exit(ExitCode.STORE)


@command(
    "restore",
    panel=PANEL,
    examples=[
        "farm store restore /backups/farm-monday.db",
        "farm store restore --force /backups/farm-monday.db /var/lib/farm/farm.db",
    ],
    group=GROUP,
)
def restore(
    run: Run,
    copy: Annotated[Path, typer.Argument(metavar="BACKUP", help="The copy.")],
    path: Annotated[
        str | None,
        typer.Argument(metavar="PATH", help="Where the store is to be.", show_default=False),
    ] = None,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Put it in the place of a store, which is kept aside.")
    ] = False,
) -> None:
    """Put a backup in the place of the store, for a farm to go on with it.

    Its coordinator must not run. Clients and hosts come back to it by themselves: tasks that it
    lacks fail with UnknownTask, and what ran since the backup runs again, or, if it must never
    run twice, is dead.
    """
    from farm.store import care

    store = _path(run, path)
    made = care.restore(copy, store, force=force)
    data = {
        "store": str(store),
        "backup": str(copy),
        "aside": made.aside,
        "epoch": made.epoch,
        "commit": made.copied.commit,
        "records": made.copied.records,
    }
    text = f"{store} is restored from {copy}, as of commit {made.copied.commit}"
    if made.aside:
        text += f"; what was there is kept as {made.aside}"
    run.output.answer(data, text)
