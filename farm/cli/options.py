"""Options of the commands that run a coordinator or a host."""

from typing import Annotated

import typer

__all__ = [
    "BeatOption",
    "GraceOption",
    "HistoryTtlOption",
    "HttpOption",
    "ImportOption",
    "InsecureOption",
    "KillAfterOption",
    "LabelOption",
    "LeaseOption",
    "ListenOption",
    "LogFormatOption",
    "LogLevelOption",
    "MaxLentOption",
    "MaxMemoryOption",
    "MaxResultBytesOption",
    "MaxTasksOption",
    "ResourceOption",
    "ResultTtlOption",
    "SchedulesOption",
    "SlotsOption",
    "StoreOption",
    "TlsCertOption",
    "TlsKeyOption",
    "UnclaimedTtlOption",
]


ListenOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where clients connect, tcp://HOST:PORT or ipc:///PATH; hosts use the next port, or"
        " PATH.hosts. Default: tcp://127.0.0.1:7070.",
        show_default=False,
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|URL",
        help="Where tasks are kept: a path, or memory:. Default: farm.db in the user's state"
        " folder.",
        show_default=False,
    ),
]
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
SchedulesOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="Run these schedules, too; may be given again. Default: schedules.toml, if it is"
        " there.",
        show_default=False,
    ),
]
MaxTasksOption = Annotated[
    int | None,
    typer.Option(
        "--max-tasks-per-worker",
        min=0,
        help="Replace a worker after so many tasks. Default: never.",
        show_default=False,
    ),
]
MaxMemoryOption = Annotated[
    str | None,
    typer.Option(
        "--max-memory-per-worker",
        metavar="SIZE",
        help="Replace a worker that has come to so much memory: bytes, or 512MB. Default: never.",
        show_default=False,
    ),
]
MaxLentOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="How many slots may be lent while their tasks wait for others. Default: four for each"
        " slot, 64 at least.",
        show_default=False,
    ),
]
ResourceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--resource",
        metavar="NAME=AMOUNT",
        help="What the host has for tasks that need it: gpu=2, memory=32GB, licence=1; may be given"
        " again. Default: the memory and the GPUs that are found.",
        show_default=False,
    ),
]
LabelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="LABEL",
        help="What tasks may ask of their host: ssd, zone=a; may be given again.",
        show_default=False,
    ),
]
KillAfterOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="How long a worker over a limit has to end before it is killed. Default: 3s.",
        show_default=False,
    ),
]
HttpOption = Annotated[
    str | None,
    typer.Option(
        "--listen",
        metavar="HOST:PORT",
        help="Where it listens. Default: 127.0.0.1:8080.",
        show_default=False,
    ),
]
TlsCertOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Speak HTTPS, with this certificate in PEM.", show_default=False
    ),
]
TlsKeyOption = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="The private key of --tls-cert.", show_default=False),
]
ImportOption = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="MODULE",
        help="Import it: its functions under @farm.task can be run by name, over HTTP; may be given"
        " again.",
        show_default=False,
    ),
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

KEPT = "Leases and what is kept"


def _time(help_text: str, default: str) -> typer.models.OptionInfo:
    """An option that is a duration, and a setting of the coordinator."""
    found: typer.models.OptionInfo = typer.Option(
        metavar="TIME",
        help=f"{help_text} Default: {default}.",
        show_default=False,
        rich_help_panel=KEPT,
    )
    return found


LeaseOption = Annotated[
    str | None,
    _time("After how long a silence of its host a task goes to another; two beats or more.", "30s"),
]
BeatOption = Annotated[str | None, _time("How often each side of a connection shows life.", "10s")]
UnclaimedTtlOption = Annotated[
    str | None, _time("How long results are kept that nobody took.", "7d")
]
ResultTtlOption = Annotated[
    str | None,
    _time("How long results of named jobs are kept, even when their owner has them.", "7d"),
]
HistoryTtlOption = Annotated[str | None, _time("How long is remembered how a task ended.", "7d")]
MaxResultBytesOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="The room for results: the oldest that were taken give way, and while unread ones fill"
        " it new tasks wait. Default: 4GiB.",
        show_default=False,
        rich_help_panel=KEPT,
    ),
]
GraceOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="When it stops: how long tasks may run on, before they are ended and given back."
        " Default: as long as they take.",
        show_default=False,
    ),
]
