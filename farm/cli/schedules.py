"""Commands about schedules that a scheduler keeps: list, show, history, pause, resume, run."""

import getpass
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli.exitcodes import TaskFailed
from farm.cli.output import Column
from farm.cli.run import Run, command
from farm.cli.schedules_try import GROUP, PANEL
from farm.cli.schedules_words import fate, instant, local, written
from farm.cli.settings import scheduler_state
from farm.cli.words import count_text, dash
from farm.errors import ConfigError
from farm_scheduler.words import counted

if TYPE_CHECKING:
    from farm_scheduler.core import Entry, Row
    from farm_scheduler.files import Problem
    from farm_scheduler.state import State

__all__: list[str] = []

FEW = 5
"""Times, and lines of output, that `show` has: as many as a person reads."""
ANSWER_SECONDS = 10.0
PLAN_SECONDS = 120.0
"""The same, where a long backfill is to be planned: it is, beside what is due meanwhile."""
LOOK_SECONDS = 0.02
NOBODY = "No scheduler runs now; it is done when one starts."

FromOption = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="TIME", help="From here, in UTC or with an offset.", show_default=False
    ),
]
ToOption = Annotated[
    str | None, typer.Option("--to", metavar="TIME", help="To before this.", show_default=False)
]
StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="FILE",
        help="What the scheduler keeps. Default: schedules.db beside the farm's store.",
        show_default=False,
    ),
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The schedule.")]


def _open(run: Run, state: Path | None) -> "State":
    from farm_scheduler.state import State

    return State(state or scheduler_state(run.config()), must_exist=True)


def _entry(found: "State", name: str) -> "tuple[Entry, str]":
    """One schedule and its file; raises ``UnknownTask`` naming the nearest."""
    from farm_scheduler.desk import unknown

    entry = found.entry(name)
    if entry is None:
        raise unknown(found, name)
    return entry


@command(
    "list",
    panel=PANEL,
    examples=["farm schedules list", "farm schedules list --all --json"],
    group=GROUP,
)
def list_schedules(
    run: Run,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Retired ones, too.")] = False,
    state: StateOption = None,
) -> None:
    """List schedules: when each fires next, how the last fire ended, and which are stopped."""
    found = _open(run, state)
    now = time.time()
    stopped = {problem.name for problem in found.problems()}
    left = found.backfilling()
    rows = [
        _described(found, entry, file, now, left.get(entry.name, 0))
        for entry, file in found.entries(retired=everything)
        if entry.retired is None or entry.schedule.name not in stopped
    ]
    rows += [_stopped(problem) for problem in found.problems()]
    columns = [
        Column("name", "SCHEDULE"),
        Column("cron", "CRON", dash),
        Column("next", "NEXT", dash),
        Column("last", "LAST", dash),
        Column("state", "STATE"),
    ]
    run.output.table(rows, columns, empty="No schedules.")


def _stopped(problem: "Problem") -> dict[str, Any]:
    said = problem.message.removeprefix(f"schedule {problem.name!r}: ")
    return {"name": problem.name, "file": problem.file, "state": f"stopped: {said}"}


def _described(found: "State", entry: "Entry", file: str, now: float, left: int) -> dict[str, Any]:
    schedule = entry.schedule
    last = next(found.rows("schedule = ?", schedule.name, limit=1, newest=True), None)
    following = None if entry.next is None or entry.retired else entry.next
    return {
        "name": schedule.name,
        "cron": schedule.cron,
        "tz": schedule.tz,
        "file": file,
        "next": None if following is None else local(following, schedule.tz),
        "last": None if last is None else f"{local(last.nominal, schedule.tz)} {fate(last)}",
        "state": _state(entry, now) + (f"; backfill: {count_text(left)} left" if left else ""),
        "backfill": left,
    }


def _state(entry: "Entry", now: float) -> str:
    if entry.retired is not None:
        return f"retired {local(entry.retired, entry.schedule.tz)}"
    pauses = [one for one in entry.pauses if one.at <= now < one.until]
    if not pauses:
        return "works" if entry.next is not None else "never fires again"
    pause = max(pauses, key=lambda one: one.until)
    until = "" if pause.until > 1e11 else f" until {local(pause.until, entry.schedule.tz)}"  # noqa: PLR2004 - infinite
    who = f" by {pause.who}" if pause.who else ""
    return f"paused{until}{who}" + (f": {pause.why}" if pause.why else "")


@command("show", panel=PANEL, examples=["farm schedules show report"], group=GROUP)
def show(run: Run, name: NameArgument, *, state: StateOption = None) -> None:
    """Show all that is known of a schedule: its options, its next times, its last fires."""
    from farm_scheduler.desk import SHOWN

    found = _open(run, state)
    problem = next((one for one in found.problems() if one.name == name), None)
    known = found.entry(name)
    if problem is not None and (known is None or known[0].retired is not None):
        data = _stopped(problem)
        run.output.facts(data, data)
        return
    entry, file = _entry(found, name)
    schedule = entry.schedule
    left = found.backfilling().get(name, 0)
    data = _described(found, entry, file, time.time(), left)
    if problem is not None:
        data["problem"] = problem.message
    data |= {field: getattr(schedule, field) for field in SHOWN}
    times, at = list[str](), entry.next
    while at is not None and len(times) < FEW:
        times.append(local(at, schedule.tz))
        at = schedule.timing.next(at)
    data["next_times"] = times
    data["open"] = [
        row.fire_id for row in found.rows("schedule = ? AND state IN ('waiting', 'running')", name)
    ]
    last = list(found.rows("schedule = ?", name, limit=FEW, newest=True))
    at_of = {row.fire_id: local(row.nominal, schedule.tz) for row in last}
    data["last_fires"] = [
        f"{at_of[row.fire_id]} {fate(row, at_of.get(row.into, ''))}" for row in last
    ]
    data["output"] = last[0].output if last else ""
    shown = {key: written(value) for key, value in data.items() if value}
    if data["output"]:
        shown["output"] = "\n".join(data["output"].splitlines()[-FEW:])
    for several in {"next_times", "last_fires"} & set(shown):
        shown[several] = "\n".join(data[several])
    if data["open"]:
        shown["open"] = count_text(len(data["open"]))
    run.output.facts(data, shown)


@command(
    "history",
    panel=PANEL,
    examples=["farm schedules history report", "farm schedules history --from 2026-03-01 --json"],
    group=GROUP,
)
def history(
    run: Run,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The schedule. Default: all.", show_default=False),
    ] = None,
    *,
    begin: FromOption = None,
    end: ToOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="So many, the newest.")] = 100,
    state: StateOption = None,
) -> None:
    """List nominal times and what became of each: ran, coalesced, skipped and why."""
    import msgspec

    found = _open(run, state)
    zones = {entry.schedule.name: entry.schedule.tz for entry, _ in found.entries()}
    if name is not None:
        _entry(found, name)
    conditions, values = ["1"], list[Any]()
    for condition, value in (
        ("schedule = ?", name),
        ("nominal >= ?", None if begin is None else instant(begin, "--from")),
        ("nominal < ?", None if end is None else instant(end, "--to")),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    rows = list(found.rows(" AND ".join(conditions), *values, limit=limit, newest=True))[::-1]
    times = {row.fire_id: _time(row, zones) for row in rows}
    shown = [
        {
            **msgspec.structs.asdict(row),
            "time": _time(row, zones),
            "fate": fate(row, times.get(row.into, "")),
        }
        for row in rows
    ]
    columns = [
        Column("time", "NOMINAL"),
        Column("schedule", "SCHEDULE"),
        Column("kind", "WHY"),
        Column("fate", "FATE"),
        Column("task", "TASK", dash),
    ]
    run.output.table(shown, columns, empty="Nothing yet.")


def _time(row: "Row", zones: dict[str, str]) -> str:
    tz = zones.get(row.schedule, "UTC")
    end = "" if row.until is None else f" … {local(row.until, tz)}"
    return local(row.nominal, tz) + end


# ---------------------------------------------------------------- orders


def _order(
    run: Run, state: Path | None, what: str, patience: float = ANSWER_SECONDS, **arguments: Any
) -> dict[str, Any] | None:
    """Ask the scheduler for something; None if none runs, and it is done later."""
    from farm_scheduler.desk import Desk

    desk = Desk(state or scheduler_state(run.config()))
    number = desk.order(what, **arguments)
    until = time.monotonic() + patience
    if not desk.decides():
        run.output.answer({"name": arguments["name"], "order": number, "done": False}, NOBODY)
        return None
    while (answer := desk.answer(number)) is None and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
    if answer is None:
        raise TaskFailed(
            f"the scheduler has not answered within {patience:.0f} s; it will when it can"
        )
    if "error" in answer:
        raise ConfigError(answer["error"])
    return dict(answer)


@command(
    "pause",
    panel=PANEL,
    examples=["farm schedules pause report --why 'the disk is full' --until 2026-03-09T08:00"],
    group=GROUP,
)
def pause(
    run: Run,
    name: NameArgument,
    *,
    why: Annotated[str, typer.Option(help="For those who wonder.", show_default=False)] = "",
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Go on by itself then, in UTC or with an offset. Default: never.",
            show_default=False,
        ),
    ] = None,
    who: Annotated[str | None, typer.Option(help="Default: you.", show_default=False)] = None,
    state: StateOption = None,
) -> None:
    """Skip what is due from now on; what runs runs on."""
    end = None if until is None else instant(until, "--until")
    if end is not None and end <= time.time():
        raise typer.BadParameter(f"--until {until} is over")
    told: dict[str, Any] = {
        "until": end,
        "why": why,
        "who": getpass.getuser() if who is None else who,
    }
    if (answer := _order(run, state, "pause", name=name, **told)) is not None:
        end = answer["until"]  # none, if nothing fires after that
        rest = "" if end is None else f" until {local(end, 'UTC')}"
        run.output.answer(answer, f"{name} is paused{rest}")


@command("resume", panel=PANEL, examples=["farm schedules resume report"], group=GROUP)
def resume(run: Run, name: NameArgument, *, state: StateOption = None) -> None:
    """Go on with a schedule that was paused; what was skipped stays skipped."""
    if (answer := _order(run, state, "resume", name=name)) is not None:
        text = f"{name} goes on" if answer["was_paused"] else f"{name} was not paused"
        run.output.answer(answer, text)


@command("run", panel=PANEL, examples=["farm schedules run report"], group=GROUP)
def run_now(run: Run, name: NameArgument, *, state: StateOption = None) -> None:
    """Run a schedule now, be it paused; its overlap policy counts. Prints the id of the fire."""
    if (answer := _order(run, state, "run", name=name)) is not None:
        why = f": {answer['reason']}" if answer["reason"] else ""
        run.output.answer(answer, f"{answer['fire_id']} {answer['state']}{why}")


@command(
    "backfill",
    panel=PANEL,
    examples=[
        "farm schedules backfill report --from 2026-03-01 --to 2026-03-08 --dry-run",
        "farm schedules backfill report --from 2026-03-01 --to 2026-03-08 --at-once 4",
        "farm schedules backfill report --cancel",
    ],
    group=GROUP,
)
def backfill(  # noqa: PLR0913 - one for each option
    run: Run,
    name: NameArgument,
    *,
    begin: FromOption = None,
    end: ToOption = None,
    at_once: Annotated[int, typer.Option(min=1, max=1000, help="Fires at a time.")] = 1,
    again: Annotated[bool, typer.Option("--again", help="Also those that ran well.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would run.")] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Run nothing more of its backfills; what runs runs on.")
    ] = False,
    state: StateOption = None,
) -> None:
    """Run nominal times of the past, the newest first, at low priority."""
    if cancel:
        if begin or end or dry_run:
            raise typer.BadParameter("--cancel ends all backfills of a schedule; give it alone")
        _cancel(run, state, name)
        return
    if begin is None or end is None:
        raise typer.BadParameter("say which times: --from TIME --to TIME")
    first, last = instant(begin, "--from"), instant(end, "--to")
    if first >= last:
        raise typer.BadParameter(f"--from {begin} is not before --to {end}")
    if dry_run:
        _dry_run(run, state, name, first, min(last, int(time.time())), again=again)
        return
    told: dict[str, Any] = {"begin": first, "end": last, "at_once": at_once, "again": again}
    if (answer := _order(run, state, "backfill", PLAN_SECONDS, name=name, **told)) is not None:
        left = f", {answer['left_out']} left out that ran well" if answer["left_out"] else ""
        run.output.answer(answer, f"{counted(answer['fires'], 'fire')}{left}")


def _cancel(run: Run, state: Path | None, name: str) -> None:
    answer = _order(run, state, "end backfill", name=name, who=getpass.getuser())
    if answer is not None:
        left = answer["left"]
        text = f"{counted(left, 'fire')} will not run" if left else "it had nothing left to run"
        run.output.answer(answer, text)


def _dry_run(
    run: Run, state: Path | None, name: str, first: int, last: int, *, again: bool
) -> None:
    from farm_scheduler.wishes import plan_backfill

    found = _open(run, state)
    entry, _ = _entry(found, name)
    try:
        plan = plan_backfill(found, entry.schedule, first, last, again=again)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    rows = [
        {"at": at, "time": local(at, entry.schedule.tz), "runs": runs, "fate": text}
        for times, runs, text in ((plan.times, True, "runs"), (plan.done, False, "ran well"))
        for at in times
    ]
    columns = [Column("time", "NOMINAL"), Column("fate", "FATE")]
    run.output.table(rows, columns, empty="Nothing to run.")
    run.output.note(f"{len(plan.times)} would run, {len(plan.done)} are left out.")
