"""Commands about schedules that need no farm: next, simulate, import-crontab."""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli.output import Column, Listener
from farm.cli.run import Run, command, command_group
from farm.cli.schedules_words import FilesArgument, fate, instant, local, local_zone
from farm.errors import ConfigError
from farm.model import seconds
from farm_scheduler.words import counted

if TYPE_CHECKING:
    from farm_scheduler.core import Row, Schedule
    from farm_scheduler.files import Found
    from farm_scheduler.simulation import Outage

__all__ = ["GROUP", "PANEL", "named", "read"]

PANEL = "Schedules"
GROUP = command_group("schedules", PANEL, "Cron tables: what is due when, what ran, and why not.")


def read(run: Run, files: list[str] | None, name: str = "") -> "Found":
    """The schedules of files, functions not looked for; what is wrong with some is a remark.

    Of the one that it is all about, of that ``name``, whoever asked for it speaks.
    """
    from farm_scheduler.files import DEFAULT_FILE, read_files

    found = read_files(files or [DEFAULT_FILE], check=False)
    for problem in found.problems:
        if problem.name != name:
            run.output.note(f"{problem.file}: {problem.message}; this entry is left out")
    return found


def named(found: "Found", name: str) -> "Schedule":
    """One of them; raises ``ConfigError`` naming those there are."""
    from difflib import get_close_matches

    if name in found.schedules:
        return found.schedules[name]
    for problem in found.problems:
        if problem.name == name:
            raise ConfigError(f"{problem.file}: {problem.message}")
    near = get_close_matches(name, found.schedules, 1)
    there = ", ".join(sorted(found.schedules)[:10]) or "none"
    hint = f"did you mean {near[0]!r}?" if near else f"there are {there}"
    raise ConfigError(f"there is no schedule {name!r}; {hint}")


@command(
    "next",
    panel=PANEL,
    examples=["farm schedules next report", "farm schedules next report -n 3 schedules.toml"],
    group=GROUP,
)
def next_times(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The schedule.")],
    files: FilesArgument = None,
    *,
    count: Annotated[int, typer.Option("-n", min=1, max=100_000, help="How many.")] = 10,
    after: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="After this. Default: now.", show_default=False),
    ] = None,
) -> None:
    """List the next nominal times of a schedule, in its zone and in UTC."""
    import time

    schedule = named(read(run, files, name), name)
    at: int | None = int(time.time()) if after is None else instant(after, "--after")
    rows: list[dict[str, Any]] = []
    while len(rows) < count and at is not None and (at := schedule.timing.next(at)) is not None:
        rows.append({"local": local(at, schedule.tz), "utc": local(at, "UTC"), "at": at})
    columns = [Column("local", schedule.tz.upper()), Column("utc", "UTC")]
    run.output.table(rows, columns, empty="It never fires again.")


@command(
    "simulate",
    panel=PANEL,
    examples=[
        "farm schedules simulate schedules.toml --from 2026-03-01 --to 2026-04-01",
        "farm schedules simulate --from 2026-03-01 --to 2026-04-01 --takes backup=2h",
        "farm schedules simulate --from 2026-03-01 --to 2026-04-01 --outage 2026-03-08/2026-03-09",
    ],
    group=GROUP,
)
def simulate(
    run: Run,
    files: FilesArgument = None,
    *,
    begin: Annotated[str, typer.Option("--from", metavar="TIME", help="From here.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="To before this.")],
    outage: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TIME/TIME",
            help="No scheduler is there; may be given again.",
            show_default=False,
        ),
    ] = None,
    takes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]TIME",
            help="How long runs take; may be given again. Default: no time at all.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Play a span of time, and print every fire and its fate.

    The machine is the one that `farm scheduler` runs. Times without an offset are in UTC.
    """
    from farm_scheduler.simulation import Simulation

    schedules = read(run, files).schedules
    lengths = _lengths(takes or [], schedules)
    first, last = instant(begin, "--from"), instant(end, "--to")
    if first >= last:
        raise typer.BadParameter(f"--from {begin} is not before --to {end}")
    simulation = Simulation(
        schedules,
        first,
        last,
        outages=[_outage(one) for one in outage or ()],
        seconds=lambda row: lengths.get(row.schedule, lengths.get("", 0.0)),
    )
    simulation.run()
    _show(run, simulation.rows, schedules)


def _lengths(takes: list[str], schedules: dict[str, "Schedule"]) -> dict[str, float]:
    """How long the runs of schedules take, by name; "" for all others."""
    found: dict[str, float] = {}
    for one in takes:
        name, _, text = one.rpartition("=")
        if name and name not in schedules:
            raise typer.BadParameter(f"--takes {one}: there is no schedule {name!r}")
        found[name] = seconds(text, "--takes")
    return found


def _outage(text: str) -> "Outage":
    from farm_scheduler.simulation import Outage

    first, _, last = text.partition("/")
    found = Outage(instant(first, "--outage"), instant(last, "--outage"))
    if found.begin >= found.end:
        raise typer.BadParameter(f"--outage {text}: it ends before it begins")
    return found


def _show(run: Run, rows: dict[str, "Row"], schedules: dict[str, "Schedule"]) -> None:
    ordered = sorted(rows.values(), key=lambda row: (row.nominal, row.schedule))
    shown = [
        {
            "nominal": local(row.nominal, schedules[row.schedule].tz),
            "schedule": row.schedule,
            "fate": fate(row, _time_of(rows.get(row.into), schedules)),
            "begun": "" if row.begun is None else local(row.begun, schedules[row.schedule].tz),
            "state": str(row.state),
            "reason": row.reason,
        }
        for row in ordered
    ]
    columns = [
        Column("nominal", "NOMINAL"),
        Column("schedule", "SCHEDULE"),
        Column("begun", "BEGUN"),
        Column("fate", "FATE"),
    ]
    run.output.table(shown, columns, empty="Nothing fires.")
    counts = Counter(row.reason or str(row.state) for row in ordered)
    said = ", ".join(f"{count} {what}" for what, count in counts.most_common())
    fires = counted(len(ordered), "fire")
    run.output.note(f"{fires}: {said}" if ordered else fires)


def _time_of(row: "Row | None", schedules: dict[str, "Schedule"]) -> str:
    return "" if row is None else local(row.nominal, schedules[row.schedule].tz)


@command(
    "import-crontab",
    panel=PANEL,
    examples=[
        "crontab -l | farm schedules import-crontab - > schedules.toml",
        "farm schedules import-crontab /etc/crontab --system --tz Europe/Berlin",
    ],
    group=GROUP,
)
def import_crontab(
    run: Run,
    crontab: Annotated[str, typer.Argument(metavar="CRONTAB", help="A file, or - for stdin.")],
    *,
    tz: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE", help="The zone it was for. Default: this machine's.", show_default=False
        ),
    ] = None,
    system: Annotated[
        bool, typer.Option("--system", help="It names a user in each line, as /etc/crontab does.")
    ] = False,
) -> None:
    """Print a schedules.toml made of a crontab, and say what could not be carried over."""
    from farm_scheduler.cron import zone
    from farm_scheduler.crontab import import_crontab as imported

    where = tz or local_zone()
    try:
        zone(where)
        text = sys.stdin.read() if crontab == "-" else Path(crontab).read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{crontab}: no such file; write - to read from stdin") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{crontab}: not a text: {error}") from None
    except ValueError as error:
        raise typer.BadParameter(f"--tz: {error}") from None
    found = imported(text, where, system=system)
    data = {"toml": found.toml, "count": found.count, "notes": found.notes}
    run.output.answer(data, found.toml.rstrip("\n"))
    if run.output.listener is not Listener.PROGRAM:
        for note in found.notes:
            run.output.note(note)
        run.output.note(f"{counted(found.count, 'schedule')}, in the time of {where}")
