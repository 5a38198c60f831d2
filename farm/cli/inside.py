"""Commands that look into one task: stack."""

from typing import Annotated, Any

import typer

from farm.cli.run import AddressOption, Run, command
from farm.cli.words import seconds_text
from farm.model import TaskId

__all__: list[str] = []

PANEL = "Look"
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
    run.output.answer(data, data["stack"].rstrip())


def check_id(task: str) -> None:
    """A usage error unless it is a task's id."""
    try:
        TaskId.parse(task)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
