"""Commands that work with tasks: submit, result, cancel, stop."""

from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from farm.cli.arguments import find_function, parse_arguments
from farm.cli.exitcodes import NotCancelled, NotDone, TaskFailed
from farm.cli.output import Listener, plain
from farm.cli.run import AddressOption, Run, command
from farm.errors import Expired, FarmError, UnknownTask
from farm.model import TaskId, byte_count, seconds

if TYPE_CHECKING:
    from farm import Client, Future, Options

__all__: list[str] = []

PANEL = "Work"
UNFINISHED = {"scheduled", "queued", "leased"}
LOOK_SECONDS = 0.2
"""How often the progress of a task that is waited for is looked at."""

TimeoutOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Wait no longer: seconds, or 250ms, 30s, 5m, 2h. The task goes on.",
        show_default=False,
    ),
]


TimeLimitOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="End it after this.", show_default=False)
]
SoftTimeLimitOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="Raise SoftTimeLimitExceeded in it after this.", show_default=False
    ),
]
MemoryLimitOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="End it if it uses more memory: bytes, or 512MB, 2GiB.",
        show_default=False,
    ),
]
RetryOnOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TYPE",
        help="Retry only after this exception, as module.Name; may be given again.",
        show_default=False,
    ),
]
NeverOnOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TYPE",
        help="Never retry after this exception; may be given again.",
        show_default=False,
    ),
]
EtaOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHEN",
        help="Start not before this moment, with its time zone: 2030-01-31T09:00+01:00.",
        show_default=False,
    ),
]
DelayOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="Start not before.", show_default=False)
]
QueueOption = Annotated[
    str | None,
    typer.Option("--queue", help="The queue to wait in. Default: default.", show_default=False),
]
PriorityOption = Annotated[
    int | None, typer.Option(help="A higher one runs earlier. Default: 0.", show_default=False)
]
RetriesOption = Annotated[
    int | None,
    typer.Option(min=0, help="Run again if it raises. Default: 0.", show_default=False),
]
UniqueOption = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="While a task with this key is pending, wait for that one instead.",
        show_default=False,
    ),
]
IdempotencyKeyOption = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="For a day, the same call with this key has the outcome of the first, and any other"
        " is refused.",
        show_default=False,
    ),
]
ExpiresOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="Start not after.", show_default=False)
]


@command(
    "submit",
    panel=PANEL,
    examples=[
        "farm submit math:factorial 20",
        "farm submit statistics:fmean [1,2,6] weights=[1,1,2]",
        "farm submit mymodule:crunch data.csv --retries 2 --time-limit 10m",
        "farm submit mymodule:charge 42 --idempotency-key order-42",
        "farm result --wait $(farm submit mymodule:crunch data.csv --detach)",
    ],
    settings={"ignore_unknown_options": True},
)
def submit(  # noqa: PLR0913 - one for each option
    run: Run,
    function: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="What to run; the module is looked for in the current folder first.",
        ),
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARGS...",
            help="Its arguments: JSON if they can be read so, else text. KEY=VALUE is a keyword.",
        ),
    ] = None,
    *,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Do not wait; print the task's id.")
    ] = False,
    job: Annotated[
        str | None, typer.Option("--job", "-j", help="Name of the job.", show_default=False)
    ] = None,
    queue: QueueOption = None,
    priority: PriorityOption = None,
    retries: RetriesOption = None,
    retry_on: RetryOnOption = None,
    never_on: NeverOnOption = None,
    time_limit: TimeLimitOption = None,
    soft_time_limit: SoftTimeLimitOption = None,
    memory_limit: MemoryLimitOption = None,
    delay: DelayOption = None,
    eta: EtaOption = None,
    expires: ExpiresOption = None,
    unique: UniqueOption = None,
    idempotency_key: IdempotencyKeyOption = None,
    timeout: TimeoutOption = None,
    address: AddressOption = None,
) -> None:
    """Run a function on the farm, wait, and print its result.

    Ctrl-C stops the waiting; the task goes on.
    """
    wait_seconds = None if timeout is None else seconds(timeout, "--timeout")
    target = find_function(function)
    positional, keywords = parse_arguments(arguments or [])
    options = _given(
        name=job, queue=queue, priority=priority, retries=retries,
        retry_on=retry_on or None, never_on=never_on or None, block=False,
        unique=unique, idempotency_key=idempotency_key, eta=eta and _moment(eta),
        memory_limit=memory_limit and byte_count(memory_limit, "--memory-limit"),
    )  # fmt: skip
    options |= _times(
        time_limit=time_limit, soft_time_limit=soft_time_limit, delay=delay, expires=expires
    )
    with run.client(address) as client:
        future = client.options(**options).submit(target, *positional, **keywords)
        if detach:
            client.connection.wait_acknowledged()
            run.output.answer({"id": future.id}, future.id)
            return
        _note_if_nothing_runs(run, client)
        with _says_it_goes_on(run, future.id):
            _print_result(run, future, wait_seconds)


def _moment(text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"--eta is {text!r}; write a date and a time, as in 2030-01-31T09:00+01:00"
        ) from None
    if when.utcoffset() is None:
        raise typer.BadParameter(f"--eta is {text!r}; say which time zone: {text}Z, {text}+01:00")
    return when


def _given(**options: Any) -> "Options":
    """Those that are said: of the others the queue may say something."""
    return cast("Options", {key: value for key, value in options.items() if value is not None})


def _times(**texts: str | None) -> "Options":
    """Options that are durations, as the command line gives them."""
    found = {
        name: seconds(text, "--" + name.replace("_", "-"))
        for name, text in texts.items()
        if text is not None
    }
    return cast("Options", found)


def _note_if_nothing_runs(run: Run, client: "Client") -> None:
    """Whoever waits for a task should know if nobody is there to run it."""
    if run.output.listener is not Listener.PEOPLE:
        return
    status: Any = client.query("status")
    if status["hosts"] == 0:
        run.output.note(
            f"No host is connected, so the task waits. Start one: farm worker {client.address}"
        )


@contextmanager
def _says_it_goes_on(run: Run, task: str) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, NotDone):
        run.output.note(f"The task goes on: farm result --wait {task}")
        raise


@command(
    "result",
    panel=PANEL,
    examples=["farm result ID", "farm result --wait --timeout 1h ID", "farm result --json ID"],
)
def result(
    run: Run,
    task: Annotated[str, typer.Argument(metavar="ID", help="The task.")],
    *,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait until it ended.")] = False,
    timeout: TimeoutOption = None,
    address: AddressOption = None,
) -> None:
    """Print the result of a task. Reading does not consume it."""
    wait_seconds = None if timeout is None else seconds(timeout, "--timeout")
    _check_id(task)
    with run.client(address) as client:
        future = client.future(task)
        if not wait_seconds and (not wait or wait_seconds is not None):
            state = _state(client, task)
            if state in UNFINISHED:
                raise NotDone(f"task {task} is {state}; --wait waits for it")
        _print_result(run, future, wait_seconds or None)


def _state(client: "Client", task: str) -> str:
    """The state of a task; empty if the farm does not know it, as its future says, too."""
    try:
        found: Any = client.query("task", id=task)
    except FarmError:
        return ""
    return str(found["state"])


def _check_id(task: str) -> None:
    try:
        TaskId.parse(task)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _print_result(run: Run, future: "Future[Any]", wait_seconds: float | None) -> None:
    """Wait for a task and print what it returned; raise what says how else it ended."""
    error = _wait(run, future, wait_seconds)
    if isinstance(error, Expired | UnknownTask):
        raise error
    if error is not None:
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        raise TaskFailed(f"task {future.id} failed: {text}") from error
    value = future.result()
    text = value if isinstance(value, str) else repr(value)
    run.output.answer({"id": future.id, "state": "succeeded", "result": plain(value)}, text)


def _wait(run: Run, future: "Future[Any]", wait_seconds: float | None) -> BaseException | None:
    """What a task raised, or None; shows its progress while it is waited for."""
    until = None if wait_seconds is None else monotonic() + wait_seconds
    with run.output.waiting(f"task {future.id}") as show:
        while True:
            left = LOOK_SECONDS if until is None else until - monotonic()
            try:
                return future.exception(max(min(left, LOOK_SECONDS), 0))
            except TimeoutError:
                if left <= 0:
                    raise NotDone(
                        f"task {future.id} has not ended after {wait_seconds:g} s"
                    ) from None
            except CancelledError:
                raise CancelledError(f"task {future.id} was cancelled") from None
            if future.progress is not None:
                show(*future.progress)


@command("cancel", panel=PANEL, examples=["farm cancel ID", "farm cancel nightly-report"])
def cancel(
    run: Run,
    what: Annotated[str, typer.Argument(metavar="ID", help="A task, or a job's id or name.")],
    address: AddressOption = None,
) -> None:
    """Cancel a task that no worker has begun, or all such tasks of a job."""
    with run.client(address) as client:
        if _is_task(what):
            text = "cancelled"
            if not client.future(what).cancel():
                if _state(client, what) != text:
                    raise _uncancelled(client, what)
                text += "; it had begun before, and is not tried again"
            run.output.answer({"id": what, "cancelled": 1}, text)
        else:
            job = client.job(what)
            count = job.cancel()
            text = f"{count} of {len(job)} tasks cancelled"
            run.output.answer({"id": job.id, "cancelled": count}, text)


@command(
    "stop",
    panel=PANEL,
    examples=["farm stop ID", "farm stop nightly-report --grace 1m", "farm stop ID --grace 0"],
)
def stop(
    run: Run,
    what: Annotated[str, typer.Argument(metavar="ID", help="A task, or a job's id or name.")],
    *,
    grace: Annotated[
        str, typer.Option(metavar="TIME", help="How long what runs may clean up; 0: not at all.")
    ] = "5s",
    address: AddressOption = None,
) -> None:
    """End a task, or all tasks of a job, also while they run.

    TaskStopped is raised in what runs; what has not ended after the grace is ended with its worker.
    """
    within = seconds(grace, "--grace")
    with run.client(address) as client:
        if _is_task(what):
            if not client.future(what).stop(within) and _state(client, what) != "cancelled":
                silence = "the farm has not answered yet; ask again"
                raise _uncancelled(client, what, "stopped", silence)
            run.output.answer({"id": what, "stopped": 1}, "stopped")
        else:
            job = client.job(what)
            count = job.stop(within)
            text = f"{count} of {len(job)} tasks stopped"
            run.output.answer({"id": job.id, "stopped": count}, text)


def _is_task(text: str) -> bool:
    try:
        TaskId.parse(text)
    except ValueError:
        return False
    return True


def _uncancelled(
    client: "Client", task: str, what: str = "cancelled", begun: str = "a worker has begun it"
) -> Exception:
    """Why a task could not be cancelled, or stopped."""
    state = _state(client, task)
    if not state:
        return UnknownTask(f"the farm has no task {task}, or keeps it no more")
    why = begun if state in UNFINISHED else "it has ended"
    return NotCancelled(f"task {task} was not {what}: {why}")
