"""Commands that look at the farm and change nothing: status, jobs, tasks, explain."""

from typing import Annotated, Any

import typer

from farm.cli.output import Column
from farm.cli.run import AddressOption, Run, command
from farm.cli.settings import scheduler_state
from farm.cli.words import ago_text, bytes_text, count_text, dash, seconds_text
from farm.errors import FarmError, UnknownTask
from farm.model import State, TaskId, seconds

__all__: list[str] = []

PANEL = "Look"
STATES = [*(state.name.lower() for state in State), "delivered"]
ALIASES = ["running", "waiting"]
ROWS_MAX = 10_000
"""The most tasks that a coordinator lists at a time."""


GoneOption = Annotated[
    bool, typer.Option("--gone", help="Of those that are over and gone, as they are remembered.")
]


@command("status", panel=PANEL, examples=["farm status", "farm status --json"])
def status(run: Run, address: AddressOption = None) -> None:
    """Say how the farm is: its tasks, its hosts, how much room it has."""
    with run.client(address) as client:
        data: Any = client.query("status")
        url = client.address
    limits = data["limits"]
    shown = {
        "farm": f"{url}, version {data['version']}, Python {data['python']}",
        "up for": seconds_text(data["uptime_seconds"]),
        "epoch": str(data["epoch"]),
        "durable": "yes" if data["durable"] else "no: tasks are lost if the coordinator ends",
        "hosts": f"{count_text(data['hosts'])} with {count_text(data['slots'])} slots"
        + (f", {count_text(lent)} lent" if (lent := data.get("lent", 0)) else ""),
        "clients": count_text(data["sessions"]),
        "tasks": _counts(data["tasks"]) or "none",
        "room": f"{count_text(limits['open_tasks'])} of {count_text(limits['max_tasks'])} tasks,"
        f" {bytes_text(limits['open_bytes'])} of {bytes_text(limits['max_bytes'])}",
        "results": f"{bytes_text(limits['result_bytes'])} kept of"
        f" {bytes_text(limits['max_result_bytes'])}, {bytes_text(limits['unread_bytes'])} unread",
    }
    if "memory" in data:
        shown["in memory"] = _memory(data["memory"])
    if (queues := _queues(data.get("queues", []))) != "":
        shown["queues"] = queues
    counters = {name: number for name, number in data["counters"].items() if number}
    if counters:
        shown["counted"] = ", ".join(
            f"{count_text(number)} {name.replace('_', ' ')}"
            for name, number in sorted(counters.items())
        )
    process = data.get("process", {})
    if keys := _keys(process):
        shown["keys"] = keys
    if process.get("congested") or process.get("overflowed"):
        shown["sockets"] = (
            f"{count_text(process.get('congested', 0))} messages met a full socket, and"
            f" {count_text(process.get('overflowed', 0))} peers were dropped that read too slowly"
        )
    for number, row in enumerate(data.get("cannot_run", [])):
        text = f"{count_text(row['tasks'])} tasks (queue {row['queue']}): {row['why']}"
        shown["cannot run" if not number else " " * number] = text
    if aggregates := _fresh(run):
        data["aggregates"] = aggregates
        shown["aggregates"] = _aggregates(aggregates)
    if stuck := _counts(data["stuck"]):
        shown["stuck"] = f"{stuck}; that is a bug: please report it with what `farm explain` says"
    run.output.facts(data, shown)
    _remark(run, data, url)


def _remark(run: Run, data: dict[str, Any], url: str) -> None:
    if data["recovering"]:
        run.output.note("It was restarted and waits some seconds for the hosts that it had.")
    if data["hosts"] == 0:
        run.output.note(f"No host is connected, so nothing runs. Start one: farm worker {url}")


def _fresh(run: Run) -> list[dict[str, Any]]:
    """The aggregates that this machine's scheduler publishes, if there is one."""
    from farm_scheduler.freshness import freshness
    from farm_scheduler.settings import catalog_beside

    found = freshness(catalog_beside(scheduler_state(run.config())))
    return [{**one._asdict(), "fresh": one.is_fresh} for one in found]


def _aggregates(rows: list[dict[str, Any]]) -> str:
    late = [
        f"{one['name']} is {seconds_text(one['staleness'])} old, "
        f"{seconds_text(one['fresh_within'])} was promised"
        for one in rows
        if not one["fresh"]
    ]
    broken = [
        f"{one['name']} lacks {one['failures']} partitions" for one in rows if one["failures"]
    ]
    return "; ".join([f"{count_text(len(rows))} on this machine", *late, *broken])


def _keys(process: dict[str, Any]) -> str:
    """Whether keys are in use, how many peers were not let in, and why."""
    if process.get("insecure"):
        return "NONE: whoever can connect to it can run code on it"
    if "refused" not in process:
        return ""
    if process.get("keys_unreadable"):
        return (
            "CANNOT BE READ: those as they were stay in force, and nothing that was revoked or made"
            " since counts; the coordinator's log says why"
        )
    reasons = {
        name.removeprefix("refused_").replace("_", " "): number
        for name, number in process.items()
        if name.startswith("refused_")
    }
    if not process["refused"]:
        return "in use"
    why = ", ".join(f"{count_text(number)} {name}" for name, number in reasons.items())
    return f"in use, {count_text(process['refused'])} peers refused: {why}"


def _memory(row: dict[str, Any]) -> str:
    """What of arguments and results the coordinator has in memory."""
    text = f"{bytes_text(row['payload_bytes'])} of arguments"
    if row["payload_budget"] is not None:
        text += f" (at most {bytes_text(row['payload_budget'])}"
        if row["payload_bytes_stored"]:
            text += f"; {bytes_text(row['payload_bytes_stored'])} only in the store"
        if row["read_back"]:
            text += f"; read back {count_text(row['read_back'])} times"
        text += ")"
    text += f", {bytes_text(row['result_bytes'])} of results"
    return f"{text} (at most {bytes_text(row['result_budget'])})"


def _queues(rows: list[dict[str, Any]]) -> str:
    """What is in queues, if there are any but the one that always is, or that one is paused."""
    if len(rows) < 2 and not any(row["paused"] for row in rows):  # noqa: PLR2004 - one is the rule
        return ""
    found = []
    for row in rows:
        text = f"{row['name']} {count_text(row['waiting'])} waiting"
        text += f" {count_text(row['running'])} running"
        found.append(text + (" (paused)" if row["paused"] else ""))
    return ", ".join(found)


def _counts(tasks: dict[str, int]) -> str:
    return ", ".join(f"{count_text(number)} {state}" for state, number in tasks.items() if number)


@command("jobs", panel=PANEL, examples=["farm jobs", "farm jobs --json", "farm jobs --gone"])
def jobs(run: Run, *, gone: GoneOption = False, address: AddressOption = None) -> None:
    """List the jobs and how far they are."""
    with run.client(address) as client:
        rows: Any = client.query("history", by_job=True) if gone else client.query("jobs")
    columns = [
        Column("id", "JOB"),
        Column("name", "NAME", dash),
        Column("state", "STATE"),
        Column("total", "TASKS", count_text, right=True),
        Column("age_seconds", "AGE", seconds_text, right=True),
        Column("counts", "OF THEM", _counts),
    ]
    run.output.table(rows, columns, empty="No jobs.")


JobOption = Annotated[
    str | None,
    typer.Option("--job", "-j", help="Only those of this job, with --gone.", show_default=False),
]


@command(
    "tasks",
    panel=PANEL,
    examples=["farm tasks --state leased --longer-than 5m", "farm tasks --quiet --limit 10"],
)
def tasks(
    run: Run,
    state: Annotated[
        str | None,
        typer.Option(
            help=f"Only those in this state: {', '.join(STATES)}; running, waiting.",
            show_default=False,
        ),
    ] = None,
    longer_than: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only those that have run, or waited, this long: seconds, or 250ms, 30s, 5m, 2h.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=ROWS_MAX, help="At most so many.")] = 100,
    *,
    gone: GoneOption = False,
    job: JobOption = None,
    address: AddressOption = None,
) -> None:
    """List tasks. Neighbours of one job in one state are one line, with their number as ITEMS.

    With --gone: those that ended and of which nothing else is kept, the last first.
    """
    asked: dict[str, Any] = {"limit": limit}
    if state is not None:
        if state.lower() not in {*STATES, *ALIASES}:
            raise typer.BadParameter(f"{state!r} is no state; there are {', '.join(STATES)}")
        asked["state"] = state.lower()
    if longer_than is not None:
        asked["longer_than"] = seconds(longer_than, "--longer-than")
    if gone and longer_than is not None:
        raise typer.BadParameter("--longer-than asks about tasks that are there, not with --gone")
    if job is not None:
        if not gone:
            raise typer.BadParameter("--job goes with --gone")
        asked["job"] = job
    with run.client(address) as client:
        rows: Any = client.query("history" if gone else "tasks", **asked)
    columns = [
        Column("id", "TASK"),
        Column("count", "ITEMS", count_text, right=True),
        Column("state", "STATE"),
        Column("function", "FUNCTION"),
        Column("attempt", "ATTEMPT", dash, right=True),
        Column("host", "HOST", dash),
        Column("age_seconds", "AGE", seconds_text, right=True),
        Column("running_seconds", "RUNS", seconds_text, right=True),
        Column("priority", "PRIORITY", dash, right=True),
        Column("job", "JOB", dash),
    ]
    if gone:
        ended = Column("ended_seconds_ago", "ENDED", ago_text, right=True)
        columns[8:9] = [ended, Column("error", "ERROR", dash)]
    run.output.table(rows, columns, empty="No such tasks.")
    if len(rows) == limit:
        run.output.note(f"There may be more than {limit}; --limit shows more.")


@command("explain", panel=PANEL, examples=["farm explain ID", "farm explain --json ID"])
def explain(
    run: Run,
    task: Annotated[str, typer.Argument(metavar="ID", help="The task.")],
    address: AddressOption = None,
) -> None:
    """Say why a task is where it is: what it waits for, where it runs, or how it ended."""
    try:
        TaskId.parse(task)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    with run.client(address) as client:
        try:
            data: Any = client.query("explain", id=task)
        except FarmError as error:
            raise UnknownTask(str(error)) from None
    shown = {"state": data["state"]}
    shown |= {"function": data["function"]} if data["function"] else {}
    if data["job"]:
        shown["job"] = " ".join(filter(None, [data["job"], data.get("job_name", "")]))
    shown |= {"attempt": _attempts(data)} if data["attempt"] else {}
    if data.get("age_seconds") is not None:
        shown["submitted"] = ago_text(data["age_seconds"])
    for number, sentence in enumerate(data["why"]):
        shown["why" if not number else " " * number] = sentence
    for number, host in enumerate(data["hosts"]):
        name = "hosts" if not number else " " * (number + len(data["why"]))
        shown[name] = f"{host['name']} {host['says']}"
    run.output.facts(data, shown)


def _attempts(data: dict[str, Any]) -> str:
    text = str(data["attempt"])
    for name in ("retries", "losses"):
        spent, allowed = data.get(name, (0, 0))
        if spent:
            text += f", {spent} of {allowed} {name} spent"
    return text
