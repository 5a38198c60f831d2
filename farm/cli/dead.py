"""Commands that look after dead tasks: dead list, show, retry, drop."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from farm.cli.exitcodes import TaskFailed
from farm.cli.output import Column
from farm.cli.run import AddressOption, Run, command, command_group
from farm.cli.words import bytes_text, count_text, dash, seconds_text, without_own_frames
from farm.errors import FarmError, UnknownTask
from farm.model import TaskId

if TYPE_CHECKING:
    from farm import Client

__all__: list[str] = []

T = TypeVar("T")
PANEL = "Work"
GROUP = command_group("dead", PANEL, "Look after tasks that took their worker down too often.")
ROWS_MAX = 10_000
DROP_AT_ONCE = 100
"""Dead tasks in one order."""
LINES_SHOWN = 20
"""Of a traceback, and of the output, unless all of it is asked for."""

IdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="IDS...", help="The tasks.", show_default=False)
]
AllOption = Annotated[bool, typer.Option("--all", help="All of them, or all that are chosen.")]
FunctionOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only this function's.", show_default=False)
]
JobOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only this job's.", show_default=False)
]
RateOption = Annotated[float, typer.Option(min=0.01, max=1000, help="At most so many in a second.")]


@command(
    "list",
    panel=PANEL,
    examples=["farm dead list", "farm dead list --job nightly --json"],
    group=GROUP,
)
def dead_list(
    run: Run,
    *,
    function: FunctionOption = None,
    job: JobOption = None,
    limit: Annotated[int, typer.Option(min=1, max=ROWS_MAX, help="At most so many.")] = 100,
    address: AddressOption = None,
) -> None:
    """List the tasks that took their worker down too often, the oldest first."""
    with run.client(address) as client:
        rows: Any = client.query("dead", function=function, job=job, limit=limit)
    columns = [
        Column("id", "TASK"),
        Column("function", "FUNCTION"),
        Column("losses", "LOSSES", count_text, right=True),
        Column("cause", "CAUSE"),
        Column("host", "HOST", dash),
        Column("age_seconds", "DIED", _ago, right=True),
        Column("job", "JOB", dash),
        Column("message", "LAST"),
    ]
    run.output.table(rows, columns, empty="No dead tasks.")
    if len(rows) == limit:
        run.output.note(f"There may be more than {limit}; --limit shows more.")


def _ago(seconds: float) -> str:
    return f"{seconds_text(seconds)} ago"


@command(
    "show", panel=PANEL, examples=["farm dead show ID", "farm dead show ID --full"], group=GROUP
)
def dead_show(
    run: Run,
    task: Annotated[str, typer.Argument(metavar="ID", help="The task.")],
    *,
    full: Annotated[
        bool, typer.Option("--full", help="All of each traceback and output, unshortened.")
    ] = False,
    address: AddressOption = None,
) -> None:
    """Show what each attempt of a task that failed, or is dead, has left behind."""
    _check_id(task)
    with run.client(address) as client:
        try:
            found: Any = client.query("task", id=task)
        except FarmError as error:
            raise UnknownTask(str(error)) from None
    shown = {
        "task": found["id"],
        "state": found["state"],
        "function": found["function"],
        "job": dash(found["job"]),
        "age": seconds_text(found["age_seconds"]),
        "failure": dash(found["failure"]),
    }
    for attempt in found["attempts"]:
        shown |= _attempt(attempt, None if full else LINES_SHOWN)
    run.output.facts(found, shown)


def _attempt(attempt: dict[str, Any], lines: int | None) -> dict[str, str]:
    name = f"attempt {attempt['attempt'] or '?'}"
    facts = [attempt["cause"]]
    if attempt["host"]:
        facts.append(f"on {attempt['host']}")
    if attempt["seconds"]:
        facts.append(f"after {seconds_text(attempt['seconds'])}")
    if attempt["peak_bytes"]:
        facts.append(f"peak memory {bytes_text(attempt['peak_bytes'])}")
    if attempt["code"]:
        code = attempt["code"]
        facts.append(f"signal {-code}" if code < 0 else f"exit code {code}")
    kind = f"{attempt['type_name']}: " if attempt["type_name"] else ""
    shown = {name: ", ".join(facts), f"{name} said": f"{kind}{attempt['message']}"}
    for part in ("traceback", "output"):
        if attempt[part].strip():
            text = without_own_frames(attempt[part]) if lines else attempt[part]
            text = text.rstrip().splitlines()[-lines if lines else None :]
            shown[f"{name} {part}"] = "\n    ".join(["", *text])
    return shown


@command(
    "retry",
    panel=PANEL,
    examples=[
        "farm dead retry ID",
        "farm dead retry --all --function mymodule.crunch --rate 2",
    ],
    group=GROUP,
)
def dead_retry(
    run: Run,
    tasks: IdsArgument = None,
    *,
    everything: AllOption = False,
    function: FunctionOption = None,
    job: JobOption = None,
    rate: RateOption = 10.0,
    address: AddressOption = None,
) -> None:
    """Run dead tasks again, each as a new task with the same call and options.

    The outcome of the dead one stands; this prints the ids of the new ones.
    """
    from farm.client.dead import retry_dead

    retried: list[dict[str, str]] = []
    with run.client(address) as client:
        chosen = _chosen(client, tasks, function, job, everything=everything)
        for task in _paced(chosen, rate):
            try:
                future = retry_dead(client, task)
            except FarmError as error:
                said = f"{len(retried)} of {len(chosen)} were submitted again; then: {error}"
                raise _refused(tasks, said, error) from error
            retried.append({"id": task, "retried_as": future.id})
    text = "\n".join(one["retried_as"] for one in retried)
    run.output.answer(retried, text or "no dead tasks")


@command(
    "drop",
    panel=PANEL,
    examples=["farm dead drop ID", "farm dead drop --all --job nightly"],
    group=GROUP,
)
def dead_drop(
    run: Run,
    tasks: IdsArgument = None,
    *,
    everything: AllOption = False,
    function: FunctionOption = None,
    job: JobOption = None,
    rate: RateOption = 1000.0,
    address: AddressOption = None,
) -> None:
    """Forget dead tasks and what is kept of them."""
    dropped = 0
    with run.client(address) as client:
        chosen = _chosen(client, tasks, function, job, everything=everything)
        size = max(1, min(DROP_AT_ONCE, int(rate)))
        groups = [chosen[at : at + size] for at in range(0, len(chosen), size)]
        for ids in _paced(groups, rate / size):
            count: Any = client.query("drop_dead", ids=ids)
            dropped += count
    if not dropped and tasks:
        raise UnknownTask("none of these is among the dead tasks that are kept")
    run.output.answer({"dropped": dropped}, f"{dropped} dropped")


def _refused(tasks: list[str] | None, said: str, error: FarmError) -> FarmError:
    return UnknownTask(str(error)) if tasks and len(tasks) == 1 else TaskFailed(said)


def _chosen(
    client: "Client",
    tasks: list[str] | None,
    function: str | None,
    job: str | None,
    *,
    everything: bool,
) -> list[str]:
    """The ids that a command line means: those it names, or all that it describes."""
    if bool(tasks) == everything:
        raise typer.BadParameter("name the tasks, or choose all of them with --all")
    for task in tasks or ():
        _check_id(task)
    if tasks:
        return tasks
    rows: Any = client.query("dead", function=function, job=job, limit=ROWS_MAX)
    return [str(row["id"]) for row in rows]


def _paced(things: list[T], rate: float) -> Iterator[T]:
    """Things one after the other, at most so many in a second."""
    began = time.monotonic()
    for number, thing in enumerate(things):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        yield thing


def _check_id(task: str) -> None:
    try:
        TaskId.parse(task)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
