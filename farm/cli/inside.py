"""Commands that look into one task: stack, logs, replay."""

import os
import sys
from codecs import getincrementaldecoder
from time import sleep
from traceback import print_exception
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli.exitcodes import TaskFailed
from farm.cli.output import Listener, plain
from farm.cli.run import AddressOption, Run, command
from farm.cli.words import seconds_text, without_own_frames
from farm.errors import FarmError, UnknownTask
from farm.model import TaskId

if TYPE_CHECKING:
    from farm import Client

__all__: list[str] = []

PANEL = "Look"
LOOK_SECONDS = 0.2
"""How often is looked whether a task has printed more."""
TaskArgument = Annotated[str, typer.Argument(metavar="ID", help="The task.")]


@command("stack", panel=PANEL, examples=["farm stack ID", "farm stack --json ID"])
def stack(run: Run, task: TaskArgument, address: AddressOption = None) -> None:
    """Print where a running task is: the Python stacks of its worker's threads.

    The task is not stopped for it. It works in C code too, and while another thread holds the
    interpreter.
    """
    check_id(task)
    with run.client(address) as client:
        data: Any = client.query("stack", id=task)
    run.output.note(
        f"On host {data['host']} since {seconds_text(data['running_seconds'])}, "
        f"attempt {data['attempt']}:"
    )
    run.output.answer(data, without_own_frames(data["stack"]).rstrip())


@command("logs", panel=PANEL, examples=["farm logs ID", "farm logs --follow ID"])
def logs(
    run: Run,
    task: TaskArgument,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the task has ended.")
    ] = False,
    address: AddressOption = None,
) -> None:
    """Print what each attempt of a task has printed: the last 64 KiB of each.

    Of a running task, what there is so far. Reading consumes nothing.
    """
    check_id(task)
    if follow and run.output.listener is Listener.PROGRAM:
        raise typer.BadParameter("choose one of --follow and --json")
    with run.client(address) as client:
        if follow:
            _follow(run, client, task)
            return
        found = client.future(task).logs()
    rows = [one._asdict() for one in found]
    for one in found:
        if len(found) > 1:
            _note_attempt(run, one.attempt, one.host, one.cause)
        if run.output.listener is not Listener.PROGRAM and one.text:
            run.output.answer(None, without_own_frames(one.text).rstrip("\n"))
    if run.output.listener is Listener.PROGRAM:
        run.output.answer(rows, "")
    elif not any(one.text for one in found):
        run.output.note("It has printed nothing.")


def _note_attempt(run: Run, attempt: int, host: str, cause: str) -> None:
    ended = f", ended by {cause}" if cause else ""
    run.output.note(f"Attempt {attempt}{f' on host {host}' if host else ''}{ended}:")


def _follow(run: Run, client: "Client", task: str) -> None:
    """Print what comes until the task is over."""
    from farm.client.logs import Tail, row_of

    future, tail = client.future(task), Tail()
    decode = getincrementaldecoder("utf-8")("backslashreplace").decode
    told, over = 1, False
    while not over:
        answer: Any = None
        try:
            answer = client.query("logs", id=task, attempt=tail.attempt, since=tail.since)
        except FarmError as error:
            if not future.done():
                raise UnknownTask(str(error)) from None
            # Its owner took the result and it is gone; it was sent here, too, with the output.
            answer = {"over": True, "attempts": [row_of(one, tail) for one in future.logs()]}
        over = answer["over"]
        for row, data in tail.take(answer):
            if row["attempt"] > told:
                told = row["attempt"]
                _note_attempt(run, told, row["host"], "")
            run.output.stream(decode(data))
        if not over:
            sleep(LOOK_SECONDS)


@command("replay", panel="Work", examples=["farm replay ID", "farm replay --pdb ID"])
def replay(
    run: Run,
    task: TaskArgument,
    *,
    pdb: Annotated[bool, typer.Option("--pdb", help="Enter the debugger where it raised.")] = False,
    address: AddressOption = None,
) -> None:
    """Make the exact call of a task in this terminal, whatever became of it on the farm.

    The function runs here, with the modules that are installed here, without limits and retries,
    and the farm does not learn of it. Modules are looked for in the current folder first.
    """
    check_id(task)
    _look_here_first()
    from farm.client.replay import fetch_call

    with run.client(address) as client:
        call = fetch_call(client, task)
    run.output.note(f"Calling {call.name}, as task {task} did.")
    try:
        value = call.run()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename in _own_files():
            trace = trace.tb_next
        print_exception(type(error), error, trace, file=run.output.stderr)
        if pdb and trace is not None:
            from pdb import post_mortem

            post_mortem(trace)
        raise TaskFailed(f"the call raised {type(error).__name__}: {error}".rstrip(": ")) from error
    text = value if isinstance(value, str) else repr(value)
    run.output.answer({"id": task, "result": plain(value)}, text)


def _own_files() -> set[str]:
    from farm.client import replay as module

    return {__file__, module.__file__}


def _look_here_first() -> None:
    folder = os.getcwd()  # noqa: PTH109 - sys.path holds texts
    if folder not in sys.path:
        sys.path.insert(0, folder)


def check_id(task: str) -> None:
    """A usage error unless it is a task's id."""
    try:
        TaskId.parse(task)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
