"""Commands that run a farm, or a part of one, in the foreground: up, coordinator, worker."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farm.cli.run import Run, command

if TYPE_CHECKING:
    from farm.config import Config

__all__: list[str] = []

PANEL = "Start"

InsecureOption = Annotated[
    bool,
    typer.Option(
        "--insecure", help="Listen where other machines can connect, although there are no keys."
    ),
]
SlotsOption = Annotated[
    int | None,
    typer.Option(min=0, help="Tasks at a time. Default: one for each CPU.", show_default=False),
]
LogFormatOption = Annotated[
    str | None,
    typer.Option(metavar="text|json", help="How log lines are written.", show_default=False),
]
LogLevelOption = Annotated[
    str | None,
    typer.Option(
        metavar="debug|info|warning|error", help="The least that is logged.", show_default=False
    ),
]


def state_folder() -> Path:
    """Where a user's farm keeps its state; made if it is not there, for its owner alone."""
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    folder = Path(home).expanduser() / "farm"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@command(
    "coordinator",
    panel=PANEL,
    examples=[
        "farm coordinator",
        "farm coordinator --listen tcp://127.0.0.1:7070 --store /var/lib/farm/farm.db",
        "farm coordinator --listen ipc:///run/farm/farm.sock --store memory:",
    ],
)
def coordinator(
    run: Run,
    *,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where clients connect, tcp://HOST:PORT or ipc:///PATH; hosts use the next port,"
            " or PATH.hosts. Default: tcp://127.0.0.1:7070.",
            show_default=False,
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|URL",
            help="Where tasks are kept: a path, or memory:. Default: farm.db in the user's state"
            " folder.",
            show_default=False,
        ),
    ] = None,
    insecure: InsecureOption = False,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Run a coordinator: it keeps the tasks and gives them to hosts. Ctrl-C stops it."""
    from farm.coordinator.service import serve
    from farm.coordinator.settings import CoordinatorSettings

    config = run.config(
        coordinator_listen=listen,
        coordinator_store=store,
        log_format=log_format,
        log_level=log_level,
    )
    settings = CoordinatorSettings(
        listen=config.coordinator.listen,
        store=config.coordinator.store or str(state_folder() / "farm.db"),
        insecure=insecure,
        log_format=config.log.format,
        log_level=config.log.level,
        core=core_settings(config),
    )
    raise typer.Exit(serve(settings))


def core_settings(config: "Config") -> dict[str, float | int]:
    """What a configuration says about the core of a coordinator."""
    section = config.coordinator
    return {
        "max_tasks": section.max_tasks,
        "max_bytes": section.max_bytes,
        "beat_seconds": section.beat_seconds,
        "lease_seconds": section.lease_seconds,
        "recovery_seconds": section.recovery_seconds,
        "result_ttl": section.result_ttl,
        "session_ttl": section.session_ttl,
    }
