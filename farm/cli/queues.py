"""Commands about queues: list them, pause, resume, set and purge one."""

from typing import Annotated, Any

import typer

from farm.cli.output import Column
from farm.cli.run import AddressOption, Run, command, command_group
from farm.cli.words import count_text, dash, rate_text, seconds_text, share_text
from farm.model import byte_count, seconds

__all__: list[str] = []

PANEL = "Look"
NONE = "none"
"""What is said for no limit."""

GROUP = command_group("queues", PANEL, "List the queues; pause, resume, set or purge one.")
NameArgument = Annotated[str, typer.Argument(metavar="QUEUE", help="What the queue is called.")]


def _wait(value: float | None) -> str:
    return "-" if value is None else seconds_text(value)


COLUMNS = [
    Column("name", "QUEUE"),
    Column("waiting", "WAITING", count_text, right=True),
    Column("running", "RUNNING", count_text, right=True),
    Column("arrival_rate", "IN/S", rate_text, right=True),
    Column("service_rate", "OUT/S", rate_text, right=True),
    Column("wait_p50", "WAIT P50", _wait, right=True),
    Column("wait_p99", "P99", _wait, right=True),
    Column("utilisation", "USED", share_text, right=True),
    Column("weight", "WEIGHT", rate_text, right=True),
    Column("limits", "LIMITS", dash),
    Column("state", "STATE"),
]


def _list(run: Run, address: str | None) -> None:
    with run.client(address) as client:
        rows: Any = client.query("queues")
    shown = [
        row
        | {
            "weight": row["policy"]["weight"],
            "limits": _limits(row["policy"], row),
            "state": _state(row),
        }
        for row in rows
    ]
    if run.output.listener is run.output.listener.PROGRAM:
        shown = rows
    run.output.table(shown, COLUMNS, empty="No queues.")


def _limits(policy: dict[str, Any], row: dict[str, Any]) -> str:
    """The limits of a queue, with how much of them is used."""
    used = {"max_tasks": row["open_tasks"], "max_bytes": row["open_bytes"]}
    used["max_running"] = row["running"]
    found = []
    for key in ("max_tasks", "max_bytes", "max_running", "max_running_per_key", "rate", "burst"):
        value = policy[key]
        if value is not None:
            mark = "*" if key in row["set"] else ""
            text = f"{used[key]}/{value}" if key in used else f"{value:g}"
            found.append(f"{key}{mark} {text}")
    return ", ".join(found)


STATES = {
    "paused": "paused",
    "recovering": "waits for hosts of before the restart",
    "max_running": "as many run as may",
    "rate": "waits for its rate",
}


def _state(row: dict[str, Any]) -> str:
    if not row["configured"]:
        return "not configured: takes no tasks"
    if row["paused"] or row["waiting"]:
        return STATES.get(row["held_by"], "works")
    return "works"


@command(
    "",
    panel=PANEL,
    examples=["farm queues", "farm queues --json", "farm queues pause mail"],
    group=GROUP,
)
def queues(run: Run, address: AddressOption = None) -> None:
    """List the queues: what waits and runs, how fast they move, their limits.

    Rates and waits are of the last half to whole minute. A limit with a * was set here, not
    configured.
    """
    _list(run, address)


@command("list", panel=PANEL, examples=["farm queues list", "farm queues list --json"], group=GROUP)
def list_queues(run: Run, address: AddressOption = None) -> None:
    """The same as `farm queues`."""
    _list(run, address)


def _order(run: Run, address: str | None, what: str, text: str, **arguments: Any) -> None:
    with run.client(address) as client:
        data: Any = client.query(what, **arguments)
    run.output.answer(data, text.format(**data))


@command("pause", panel=PANEL, examples=["farm queues pause mail"], group=GROUP)
def pause(run: Run, name: NameArgument, *, address: AddressOption = None) -> None:
    """Start nothing more of a queue; what runs runs on, and tasks are still taken.

    It stays so, also when the coordinator restarts, until it is resumed.
    """
    _order(run, address, "pause_queue", "queue {name} is paused", name=name)


@command("resume", panel=PANEL, examples=["farm queues resume mail"], group=GROUP)
def resume(run: Run, name: NameArgument, *, address: AddressOption = None) -> None:
    """Go on with a queue that was paused."""
    _order(run, address, "resume_queue", "queue {name} goes on", name=name)


@command(
    "purge",
    panel=PANEL,
    examples=["farm queues purge mail", "farm queues purge --json mail"],
    group=GROUP,
)
def purge(run: Run, name: NameArgument, *, address: AddressOption = None) -> None:
    """End all that waits in a queue as cancelled: queued, delayed, or before a retry.

    What runs, or was given to a host, runs on.
    """
    text = "queue {name}: {purged} tasks that waited are cancelled"
    _order(run, address, "purge_queue", text, name=name)


def _limit(metavar: str, text: str) -> typer.models.OptionInfo:
    found: typer.models.OptionInfo = typer.Option(
        metavar=f"{metavar}|{NONE}", help=text, show_default=False
    )
    return found


@command(
    "set",
    panel=PANEL,
    examples=[
        "farm queues set mail --weight 4",
        "farm queues set mail --rate 20 --max-running none",
        "farm queues set mail --reset",
    ],
    group=GROUP,
)
def set_queue(  # noqa: PLR0913 - one for each option
    run: Run,
    name: NameArgument,
    *,
    weight: Annotated[
        float | None, typer.Option(help="Its share beside other queues.", show_default=False)
    ] = None,
    max_tasks: Annotated[str | None, _limit("N", "How many unfinished tasks it takes.")] = None,
    max_bytes: Annotated[str | None, _limit("SIZE", "How many bytes of arguments.")] = None,
    rate: Annotated[str | None, _limit("N", "How many tasks a second may start.")] = None,
    burst: Annotated[str | None, _limit("N", "How many at once after a pause.")] = None,
    max_running: Annotated[str | None, _limit("N", "How many may run at a time.")] = None,
    max_running_per_key: Annotated[
        str | None, _limit("N", "And how many of one concurrency_key.")
    ] = None,
    ageing: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="After how much longer a wait a task goes before one of the next priority.",
            show_default=False,
        ),
    ] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="First take back what was set: as configured.")
    ] = False,
    address: AddressOption = None,
) -> None:
    """Set values of a queue's policy; they count, also after a restart, until they are reset."""
    changes: dict[str, Any] = {} if weight is None else {"weight": weight}
    counts = {
        "max_tasks": max_tasks,
        "burst": burst,
        "max_running": max_running,
        "max_running_per_key": max_running_per_key,
    }
    for key, text in counts.items():
        if text is not None:
            changes[key] = _number(key, text, int)
    if rate is not None:
        changes["rate"] = _number("rate", rate, float)
    if max_bytes is not None:
        changes["max_bytes"] = None if max_bytes == NONE else byte_count(max_bytes, "--max-bytes")
    if ageing is not None:
        changes["ageing_seconds"] = seconds(ageing, "--ageing")
    if not changes and not reset:
        raise typer.BadParameter("say what to set, or --reset; `farm queues set --help` lists it")
    with run.client(address) as client:
        data: Any = client.query("set_queue", name=name, changes=changes, reset=reset)
    values = (f"{key} {NONE if value is None else value}" for key, value in data["set"].items())
    text = ", ".join(values) or "all as configured"
    run.output.answer(data, f"queue {data['name']}: {text}")


def _number(key: str, text: str, kind: type[int | float]) -> int | float | None:
    if text == NONE:
        return None
    try:
        return kind(text)
    except ValueError:
        option = "--" + key.replace("_", "-")
        raise typer.BadParameter(f"{option} is {text!r}; write a number, or {NONE}") from None
