"""The command that starts hosts on other machines and keeps them running."""

import os
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli.exitcodes import ExitCode
from farm.cli.run import AddressOption, Run, command, command_group

if TYPE_CHECKING:
    from farm_workers.launchers.hosts import HostEntry
    from farm_workers.launchers.launcher import Planned

__all__: list[str] = []

PANEL = "Start"
GROUP = command_group("launch", PANEL, "Start hosts on other machines, and keep them running.")
HIDDEN = "(the token)"


@command(
    "ssh",
    panel=PANEL,
    examples=[
        "farm launch ssh hosts.toml",
        "farm launch ssh hosts.toml --dry-run",
        "farm launch ssh hosts.toml --only north --only south",
    ],
    group=GROUP,
)
def ssh(
    run: Run,
    path: Annotated[
        Path, typer.Argument(metavar="HOSTS.toml", help="Which hosts there are: see the reference.")
    ],
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Only this host; may be given again."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be run, and run nothing.")
    ] = False,
    address: AddressOption = None,
) -> None:
    """Start a host on each machine of a file by `ssh`, keep them running, and show how they are.

    Ctrl-C stops them when their tasks have ended, a second one at once. Tokens travel over the
    connection, never on a command line. With --json, each change is a line.
    """
    planned = _plan(run, path, only or [], address)
    folder = path.absolute().parent
    if dry_run:
        _print_plan(run, planned, folder)
        return
    from farm.cli.launch_view import shown
    from farm_workers.launchers.launcher import Launcher

    with shown(run.output, [one.entry.name for one in planned]) as view:
        launcher = Launcher(planned, folder, view.changed, view.logged)

        def stop(_number: int, _frame: object) -> None:
            launcher.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        view.note("Ctrl-C stops the hosts when their tasks have ended; again, at once.")
        fine = launcher.run()
    if launcher.stopped_at_once:
        raise typer.Exit(ExitCode.INTERRUPTED)
    if not fine:
        raise typer.Exit(ExitCode.FAILED)


def _plan(run: Run, path: Path, only: list[str], address: str | None) -> "list[Planned]":
    """The hosts of the file, each with what its agent is told; raises ``ConfigError``."""
    from farm.errors import ConfigError
    from farm_workers.launchers.hosts import read_hosts
    from farm_workers.launchers.launcher import Planned
    from farm_workers.launchers.ssh import start_line, start_of

    entries = read_hosts(path)
    known = [entry.name for entry in entries]
    for name in only:
        if name not in known:
            raise ConfigError(f"{path} has no host {name!r}; it has {', '.join(known)}")
    folder = path.absolute().parent
    planned = []
    for entry in entries:
        if only and entry.name not in only:
            continue
        token = _token(entry, folder)
        told = start_of(entry, _farm_address(run, entry, address, path, token), token)
        planned.append(Planned(entry, start_line(told)))
    return planned


def _farm_address(run: Run, entry: "HostEntry", flag: str | None, path: Path, token: str) -> str:
    """Where a host finds the farm, if its entry does not say; empty if its token does."""
    from farm.errors import ConfigError
    from farm.transport import parse_address

    if entry.address:
        parse_address(entry.address)
        return entry.address
    config = run.config(client_address=flag)
    said = "client.address" in config.origins
    if token and not said:
        return ""
    found = config.client.address
    if parse_address(found).is_private and flag is None:
        raise ConfigError(
            f"{path}: nothing says where host {entry.name!r} finds the farm, and {found} is this"
            ' machine alone; write address = "tcp://HOST:7070" under [defaults], or use --address'
        )
    return found


def _token(entry: "HostEntry", folder: Path) -> str:
    """The token of a host, itself: from its file, or from this process's environment; or none.

    Raises ``ConfigError`` here, where the file is, for what the host could only be refused with.
    """
    from farm.errors import ConfigError
    from farm.transport.credentials import NO_KEY, TOKEN_VARIABLE, Credentials

    said = os.environ.get(TOKEN_VARIABLE, "").strip()
    if entry.token_file:
        said = str(folder / Path(entry.token_file).expanduser())
    if said in {"", NO_KEY}:
        return said
    try:
        return Credentials("host", "", said).text()
    except ConfigError as error:
        raise ConfigError(f"host {entry.name}: {error}") from None


def _print_plan(run: Run, planned: "list[Planned]", folder: Path) -> None:
    """What would be run, without the tokens."""
    import msgspec

    from farm_workers.launchers.ssh import TOKEN, command

    rows: list[dict[str, Any]] = []
    for one in planned:
        told = msgspec.json.decode(one.line)
        if TOKEN in told.get("environment", {}):
            told["environment"][TOKEN] = HIDDEN
        rows.append({"host": one.entry.name, "command": command(one.entry, folder), "stdin": told})
    lines = []
    for row in rows:
        lines += [
            f"{row['host']}: {shlex.join(row['command'])}",
            f"{row['host']} < {msgspec.json.encode(row['stdin']).decode()}",
        ]
    run.output.answer(rows, "\n".join(lines))
