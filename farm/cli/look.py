"""Commands that look at the farm and change nothing: status, hosts, jobs, tasks."""

from typing import Annotated, Any

import typer

from farm.cli.output import Column
from farm.cli.run import AddressOption, Run, command
from farm.cli.words import bytes_text, count_text, dash, seconds_text
from farm.model import State, seconds

__all__: list[str] = []

PANEL = "Look"
STATES = [*(state.name.lower() for state in State), "delivered"]
ALIASES = ["running", "waiting"]
ROWS_MAX = 10_000
"""The most tasks that a coordinator lists at a time."""


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
        "hosts": f"{count_text(data['hosts'])} with {count_text(data['slots'])} slots",
        "clients": count_text(data["sessions"]),
        "tasks": _counts(data["tasks"]) or "none",
        "room": f"{count_text(limits['open_tasks'])} of {count_text(limits['max_tasks'])} tasks,"
        f" {bytes_text(limits['open_bytes'])} of {bytes_text(limits['max_bytes'])}",
    }
    counters = {name: number for name, number in data["counters"].items() if number}
    if counters:
        shown["counted"] = ", ".join(
            f"{count_text(number)} {name.replace('_', ' ')}"
            for name, number in sorted(counters.items())
        )
    run.output.facts(data, shown)
    if data["recovering"]:
        run.output.note("It was restarted and waits some seconds for the hosts that it had.")
    if data["hosts"] == 0:
        run.output.note(f"No host is connected, so nothing runs. Start one: farm worker {url}")


def _counts(tasks: dict[str, int]) -> str:
    return ", ".join(f"{count_text(number)} {state}" for state, number in tasks.items() if number)


@command("hosts", panel=PANEL, examples=["farm hosts", "farm hosts --json"])
def hosts(run: Run, address: AddressOption = None) -> None:
    """List the hosts, what they run, and why one gets no work."""
    with run.client(address) as client:
        rows: Any = client.query("hosts")
        url = client.address
    columns = [
        Column("name", "HOST"),
        Column("slots", "SLOTS", count_text, right=True),
        Column("running", "RUNNING", count_text, right=True),
        Column("held", "HELD", count_text, right=True),
        Column("last_seen_seconds", "SEEN", _ago, right=True),
        Column("pid", "PID", dash, right=True),
        Column("python", "PYTHON", dash),
        Column("address", "ADDRESS", dash),
        Column("state", "STATE"),
    ]
    shown = [row | {"state": _host_state(row)} for row in rows]
    run.output.table(shown, columns, empty=f"No hosts. Start one: farm worker {url}")


def _host_state(row: dict[str, Any]) -> str:
    return str(row["unusable"]) or ("works" if row["connected"] else "gone")


def _ago(value: float | None) -> str:
    return "-" if value is None else f"{seconds_text(value)} ago"


@command("jobs", panel=PANEL, examples=["farm jobs", "farm jobs --json"])
def jobs(run: Run, address: AddressOption = None) -> None:
    """List the jobs and how far they are."""
    with run.client(address) as client:
        rows: Any = client.query("jobs")
    columns = [
        Column("id", "JOB"),
        Column("name", "NAME", dash),
        Column("state", "STATE"),
        Column("total", "TASKS", count_text, right=True),
        Column("age_seconds", "AGE", seconds_text, right=True),
        Column("counts", "OF THEM", _counts),
    ]
    run.output.table(rows, columns, empty="No jobs.")


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
    address: AddressOption = None,
) -> None:
    """List tasks. Neighbours of one job in one state are one line, with their number as ITEMS."""
    asked: dict[str, Any] = {"limit": limit}
    if state is not None:
        if state.lower() not in {*STATES, *ALIASES}:
            raise typer.BadParameter(f"{state!r} is no state; there are {', '.join(STATES)}")
        asked["state"] = state.lower()
    if longer_than is not None:
        asked["longer_than"] = seconds(longer_than, "--longer-than")
    with run.client(address) as client:
        rows: Any = client.query("tasks", **asked)
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
    run.output.table(rows, columns, empty="No such tasks.")
    if len(rows) == limit:
        run.output.note(f"There may be more than {limit}; --limit shows more.")
