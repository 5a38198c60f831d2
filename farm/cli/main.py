"""The ``farm`` command: all commands, its help, and its start."""

import os
import sys
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Annotated

import typer

from farm._version import __version__
from farm.cli import (  # noqa: F401 - they register their commands
    aggregates,
    aggregates_run,
    dead,
    demo,
    gateway,
    hosts,
    inside,
    keys,
    launch,
    look,
    queues,
    scheduler,
    schedules,
    schedules_try,
    services,
    settings,
    store,
    submit,
)
from farm.cli.exitcodes import ExitCode
from farm.cli.run import app

__all__ = ["app", "main"]

# In help, as one meets them.
ORDER = (
    *("demo", "up", "coordinator", "worker", "launch", "gateway"),
    *("submit", "result", "cancel", "stop", "replay", "dead"),
    *("scheduler", "schedules", "aggregates"),
    *("status", "queues", "jobs", "tasks", "explain", "stack", "logs"),
    *("hosts", "keys", "store", "config", "version"),
)
CODES = "; ".join(f"[bold]{code.value}[/bold] {code.meaning}" for code in ExitCode)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"farm {__version__}")
        raise typer.Exit


@app.callback(no_args_is_help=True, epilog=f"[bold]Exit codes:[/bold] {CODES}.")
def farm(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Run Python functions on every core of every host you own.

    Try it: [bold]farm demo[/bold]. Then [bold]farm up[/bold] in one terminal, and
    [bold]farm submit math:factorial 20[/bold] in another.
    """


app.registered_commands.sort(key=lambda one: ORDER.index(one.name or ""))


def asked(words: Sequence[str], environ: Mapping[str, str]) -> typer.Typer:
    """The application with the one command that is asked for, or with all of them.

    To find out what all of them take costs as much as to import the farm. Who asks for help on
    commands, for one that there is not, or completes a line has all.
    """
    commands = [one for one in app.registered_commands if one.name in words[:1]]
    groups = [one for one in app.registered_groups if _name(one.typer_instance) in words[:1]]
    if not (commands or groups) or "_FARM_COMPLETE" in environ:
        return app
    found = copy(app)
    found.registered_commands, found.registered_groups = commands, groups
    return found


def _name(group: typer.Typer | None) -> object:
    return group and group.info.name


def main() -> None:
    """Run the command line of this process and leave with its exit code."""
    asked(sys.argv[1:], os.environ)(prog_name="farm")
